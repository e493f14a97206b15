"""A database full of history, made by the server itself: transitions as they are told, samples by the clock.

Everything ends at one instant and reaches back from there, so that questions have the same answer sizes
whenever they are asked. The rows are those a gateway writes; their bodies are one real body with the
parts put in that differ.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from gateway.config.schema import HistorianSettings
from gateway.historian.keeping import roll_up_hour
from gateway.historian.migrate import inspect, migrate, use_timescale
from gateway.historian.rollups import HOUR, hour_of

GATEWAY = "line-1"
END = datetime(2026, 9, 1, tzinfo=UTC)
#: Samples reach back so far, transitions so far.
SAMPLE_DAYS, TRANSITION_DAYS = 31, 90
EQUIPMENT, TAGS = 50, 100
STREAM = UUID("7d1f2b5e-0000-4000-8000-000000000001")

_BODY = (
    '{"stream":"@stream","seq":@seq,"id":"@stream-@seq","type":"transition","gateway":"line-1",'
    '"equipment":"@name","path":"area/line/@name","model":"packml","sequence":@seq,"from_state":"@from",'
    '"to_state":"@to","code":6,"category":"@category","at":"@at","recorded_at":"@at","duration_s":@lasted,'
    '"conformance":"legal","skipped":[],"cause":{"rule":"code","inputs":[{"tag":"plc-@no/state","value":6,'
    '"quality":"good","source_at":null,"received_at":"@at"}]}}'
).replace("@stream", str(STREAM))

_TRANSITIONS = """
INSERT INTO andon.transition (
    gateway, stream, seq, equipment, path, model, sequence, from_state, to_state, code, category,
    at, recorded_at, duration_s, conformance, cause, body
)
SELECT
    'line-1', $1::uuid, n, name, 'area/line/' || name, 'packml', n, one, other, 6, category, at, at,
    lasted, 'legal', '{"rule":"code","inputs":[{"tag":"plc/state","value":6,"quality":"good"}]}',
    replace(replace(replace(replace(replace(replace(replace(replace(
        $2::text, '@seq', n::text), '@name', name), '@from', one), '@to', other), '@category', category),
        '@at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), '@lasted', lasted::text),
        '@no', (n % $3)::text)::json
FROM (
    SELECT
        n, 'filler-' || n % $3 AS name, $5::float8 AS lasted,
        $4::timestamptz + n * ($5::float8 / $3) * interval '1 s' AS at,
        (ARRAY['Execute', 'Held', 'Idle'])[1 + n / $3 % 3] AS other,
        (ARRAY['Idle', 'Execute', 'Held'])[1 + n / $3 % 3] AS one,
        (ARRAY['productive', 'unscheduled-down', 'standby'])[1 + n / $3 % 3] AS category
    FROM generate_series($6::bigint, $7::bigint) AS n
) AS made
"""

_SAMPLES = """
INSERT INTO andon.sample (tag_id, quality, at, received_at, value)
SELECT t.tag_id, 0, at, at, (t.tag_id * 7 + extract(epoch FROM at)::bigint) % 1000 / 8.0
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 us', $3::interval) AS at
CROSS JOIN andon.tag AS t
"""


async def fill(
    connection: asyncpg.Connection[asyncpg.Record],
    settings: HistorianSettings,
    *,
    transitions: int,
    samples: int,
    rolled_up: bool = True,
) -> float:
    """Make the database and fill it; says how many seconds rolling up took."""
    await migrate(connection)
    await use_timescale(connection, await inspect(connection), settings)
    await connection.execute(
        "INSERT INTO andon.tag (gateway, tag, connection, name, unit, kind) "
        "SELECT 'line-1', 'plc/tag-' || n, 'plc', 'tag-' || n, 'bar', 'float' "
        "FROM generate_series(1, $1) AS n",
        TAGS,
    )
    await connection.execute(
        "INSERT INTO andon.equipment SELECT 'line-1', 'filler-' || n, 'area/line/filler-' || n, 'packml' "
        "FROM generate_series(0, $1 - 1) AS n",
        EQUIPMENT,
    )
    lasted_s = round(TRANSITION_DAYS * 86_400 * EQUIPMENT / transitions, 3)
    begin = END - timedelta(days=TRANSITION_DAYS)
    for first in range(1, transitions + 1, 50_000):
        last = min(first + 49_999, transitions)
        await connection.execute(
            _TRANSITIONS, STREAM, _BODY, EQUIPMENT, begin, lasted_s, first, last, timeout=600
        )
    step = timedelta(seconds=SAMPLE_DAYS * 86_400 * TAGS / samples)
    for day in range(SAMPLE_DAYS, 0, -1):
        from_ = END - timedelta(days=day)
        await connection.execute(_SAMPLES, from_, from_ + timedelta(days=1), step, timeout=600)
    await connection.execute(
        "INSERT INTO andon.sink_cursor (gateway, stream, seq, batch) VALUES ('line-1', $1, $2, 1)",
        *(STREAM, transitions),
    )
    await connection.execute("VACUUM ANALYZE", timeout=600)
    if not rolled_up:
        return 0.0
    began = await connection.fetchval("SELECT clock_timestamp()")
    hour = hour_of(END - timedelta(days=SAMPLE_DAYS))
    while hour < END:
        await roll_up_hour(connection, GATEWAY, hour, 0)
        hour += HOUR
    ended = await connection.fetchval("SELECT clock_timestamp()")
    await connection.execute("ANALYZE andon.sample_hour")
    return float((ended - began).total_seconds())
