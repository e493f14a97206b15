"""What the licence of TimescaleDB allows is used, what not is not asked for, and the answers are the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.historian.migrate import SQL, inspect, migrate, use_timescale
from gateway.historian.rollups import HOUR, hour_of
from statemodel.types import Quality, SampleBatch, TagSample
from tests.gateway.historian.databases import Database, drained, historian_settings, running
from tests.gateway.historian.test_rollups import assert_alike, bounds_between, roll_up, wanted
from tests.gateway.journal.builders import opened


async def set_up(database: Database, **changed: timedelta) -> tuple[bool, list[str]]:
    """Whether the licence allows compression, and the statements that were sent."""
    connection = await database.connect()
    sent: list[str] = []
    try:
        await migrate(connection)
        connection.add_query_logger(lambda query: sent.append(query.query))
        info = await use_timescale(
            connection, await inspect(connection), historian_settings(database.dsn, **changed)
        )
        return info.policies, sent
    finally:
        await connection.close()


async def test_policies_are_asked_for_only_where_the_licence_has_them(database: Database) -> None:
    policies, sent = await set_up(database, compress_after=timedelta(days=3))
    asked = [name for name in ("compress", "compress_later", "compress_no_more") if SQL[name] in sent]
    assert asked == (["compress", "compress_later"] if policies else [])
    _, sent = await set_up(database, compress_after=timedelta(days=3))
    assert SQL["compress_later"] not in sent
    policies, sent = await set_up(database, compress_after=timedelta(days=9))
    if policies:
        assert str(await database.value(SQL["compressed_after"])) == "9 days, 0:00:00"
    else:
        assert SQL["compress_later"] not in sent


async def test_the_chunk_interval_is_as_set(database: Database) -> None:
    await set_up(database, chunk=timedelta(hours=6))
    if not await database.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        return
    assert await database.value(SQL["chunk_interval"]) == timedelta(hours=6)
    await set_up(database, chunk=timedelta(hours=12))
    assert await database.value(SQL["chunk_interval"]) == timedelta(hours=12)


async def test_late_samples_in_compressed_chunks_land_once(database: Database, tmp_path: Path) -> None:
    """Copies among them included: each row that was handed over is there, and the figures are theirs."""
    if not (await set_up(database))[0]:
        pytest.skip("the licence of this server has no compression")
    start = datetime(2026, 3, 1, 5, tzinfo=UTC)
    rolled = random.Random(3)
    samples = [
        TagSample(f"plc/tag-{n % 3}", float(n), Quality.GOOD, None, start + timedelta(minutes=7 * n))
        for n in range(600)
    ]
    late = [
        TagSample(s.tag, s.value, s.quality, None, s.received_at + timedelta(minutes=rolled.choice((0, 3))))
        for s in samples[::5]
    ]
    bounds = bounds_between(hour_of(start), hour_of(start) + 71 * HOUR, HOUR)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([], [SampleBatch("plc", s.received_at, (s,)) for s in samples])
        await drained(historian, journal)
        await roll_up(database, historian.keeper)
        before = await database.value("SELECT count(*) FROM show_chunks('andon.sample')")
        done = await database.rows("SELECT compress_chunk(c) FROM show_chunks('andon.sample') AS c")
        assert len(done) == before >= 3
        await journal.append([], [SampleBatch("plc", s.received_at, (s,)) for s in late])
        await drained(historian, journal)
        assert await database.value("SELECT count(*) FROM andon.sample") == len(samples) + len(late)
        assert await roll_up(database, historian.keeper) > 0
        for tag in ("plc/tag-0", "plc/tag-2"):
            found, _ = await historian.sample_buckets(tag, bounds)
            assert_alike(found, wanted([*samples, *late], tag, bounds))
        await database.rows("SELECT compress_chunk(c, true) FROM show_chunks('andon.sample') AS c")
        assert await database.value("SELECT count(*) FROM andon.sample") == len(samples) + len(late)
