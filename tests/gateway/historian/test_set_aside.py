"""Rows that were set aside, written after all: once, beside a running gateway, as they would have been."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.historian.aside import drop, retry, set_aside_rows
from gateway.historian.migrate import migrate
from gateway.historian.session import open_session
from statemodel.records import tell
from statemodel.types import DeviceEvent, Quality, SampleBatch, TagSample
from tests.gateway.historian.databases import (
    EQUIPMENT,
    TAGS,
    Database,
    drained,
    historian_settings,
    running,
    until,
)
from tests.gateway.journal.builders import opened, transition

STREAM = "11111111-1111-4111-8111-111111111111"
NOW = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)
VALUES: Sequence[Any] = (1.5, -7, True, "it's \u00e4", None, math.nan, -math.inf, 2**60 + 1, 0.1)
REFUSE = (
    "ALTER TABLE andon.sample ADD CONSTRAINT odd CHECK (quality = 7) NOT VALID",
    "ALTER TABLE andon.transition ADD CONSTRAINT odd CHECK (seq <> 2) NOT VALID",
)
ALLOW = ("ALTER TABLE andon.sample DROP CONSTRAINT odd", "ALTER TABLE andon.transition DROP CONSTRAINT odd")
HELD = "SELECT tag, quality, at, received_at, source_at, value, text, substatus FROM andon.sample \
JOIN andon.tag USING (tag_id) ORDER BY received_at"


def samples() -> tuple[TagSample, ...]:
    return tuple(
        TagSample(
            f"plc/tag-{n % 8}",
            value,
            Quality.BAD if value is None else Quality.GOOD,
            NOW + timedelta(seconds=n, milliseconds=-40) if n % 2 else None,
            NOW + timedelta(seconds=n),
            "no_communication" if value is None else "",
        )
        for n, value in enumerate(VALUES)
    )


async def retried(database: Database, ids: Sequence[int] | None = None) -> Any:
    connection = await database.connect()
    try:
        if ids is None:
            ids = [row.id for row in await set_aside_rows(connection, "line-1")]
        return await retry(connection, "line-1", ids, lambda tag: False)
    finally:
        await connection.close()


@pytest.mark.parametrize("source_time", [False, True])
async def test_what_is_written_again_is_what_would_have_been(
    database: Database, tmp_path: Path, source_time: bool
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        batches = [SampleBatch("plc", NOW, samples(), source_time)]
        await journal.append([transition(n) for n in (1, 2, 3)], batches)
        await drained(historian, journal)
        wanted = [[tuple(r) for r in await database.rows(HELD)], await bodies(database)]
        await database.do(*REFUSE)
        await database.do("TRUNCATE andon.sample, andon.transition, andon.hour_due")
        await journal.append([transition(n) for n in (4, 5)], batches)
        await drained(historian, journal)
        rows = await database.rows("SELECT kind, type FROM andon.set_aside ORDER BY set_aside_id")
        assert [row["kind"] for row in rows] == ["sample"] * len(VALUES)
        # Beside the gateway that runs: refused again while the constraint stands, and written once when not.
        again = await retried(database)
        assert len(again.refused) == len(VALUES)
        assert await database.value("SELECT min(tries) FROM andon.set_aside WHERE tried_at IS NOT NULL") == 1
        await database.do(*ALLOW)
        several = await asyncio.gather(*(retried(database, again.refused) for _ in range(4)))
        assert sorted(number for one in several for number in one.written) == sorted(again.refused)
        assert [tuple(r) for r in await database.rows(HELD)] == wanted[0]
        assert await database.value("SELECT count(*) FROM andon.set_aside") == 0
        assert await database.value("SELECT count(*) FROM andon.hour_due") > 0


async def bodies(database: Database) -> Sequence[str]:
    return [row[0] for row in await database.rows("SELECT body::text FROM andon.transition ORDER BY seq")]


async def test_an_event_is_written_by_its_body_and_once(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [])
        await drained(historian, journal)
        await database.do(REFUSE[1])
        told = await journal.append([transition(2), transition(3)], [])
        await drained(historian, journal)
        assert len(await bodies(database)) == 2
        [row] = await database.rows("SELECT * FROM andon.set_aside")
        assert (await retried(database)).refused == (row["set_aside_id"],)
        await database.do(ALLOW[1])
        assert (await retried(database)).written == (row["set_aside_id"],)
        assert (await bodies(database))[1:] == [recorded.json.decode() for recorded in told]
        assert await retried(database, [row["set_aside_id"]]) == type(await retried(database))((), (), ())
        assert await database.value("SELECT count(*) FROM andon.set_aside") == 0


async def test_a_nul_in_a_text_that_was_set_aside_keeps_nobody_from_counting(
    database: Database, tmp_path: Path
) -> None:
    odd = TagSample("plc/tag-1", 1.5, Quality.UNCERTAIN, None, NOW, "cola\x00\x00")
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().connected)
            await database.do(*REFUSE)
            await journal.append([], [SampleBatch("plc", NOW, (odd,))])
            await drained(historian, journal)
        async with open_session(
            database.dsn,
            place="here",
            gateway="line-1",
            stream=journal.stream,
            settings=historian_settings(database.dsn),
            tags=TAGS,
            equipment=EQUIPMENT,
        ) as session:
            assert (await session.losses(0)).samples == {"plc/tag-1": 1}


async def test_what_was_dropped_stays_on_record(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [])
        await drained(historian, journal)
        await database.do(REFUSE[1])
        await journal.append([transition(2)], [])
        await drained(historian, journal)
        connection = await database.connect()
        try:
            [row] = await set_aside_rows(connection, "line-1")
            assert await drop(connection, "another", [row.id]) == []
            assert await drop(connection, "line-1", [row.id]) == [row.id]
            assert await drop(connection, "line-1", [row.id]) == []
            assert await set_aside_rows(connection, "line-1") == []
            assert [r.id for r in await set_aside_rows(connection, "line-1", dropped=True)] == [row.id]
        finally:
            await connection.close()
        assert [event.seq for event in await historian.events_after(0, 10)] == [1, 2]


async def test_what_an_older_shape_had_no_place_for_comes_back(database: Database) -> None:
    connection = await database.connect()
    try:
        await migrate(connection)
        event = DeviceEvent("plc", NOW, "event", "pump", 500, "hot", "ab", None, NOW)
        body = tell(event, gateway="line-1", stream=STREAM, seq=3, recorded_at=NOW).json.decode()
        await connection.execute(
            "INSERT INTO andon.device_event VALUES "
            "('line-1', $1, 3, 'plc', 'event', 'pump', 500, 'hot', 'ab', '', '', "
            "NULL, NULL, NULL, false, $2, NULL, $2, $2, $3)",
            *(STREAM, NOW, body),
        )
        await migrate(connection, 1)
        await migrate(connection)
        assert await connection.fetchval("SELECT count(*) FROM andon.device_event") == 0
        [number] = [row.id for row in await set_aside_rows(connection, "line-1")]
        assert (await retry(connection, "line-1", [number], lambda tag: False)).written == (number,)
        assert await connection.fetchval("SELECT body::text FROM andon.device_event") == body
    finally:
        await connection.close()
