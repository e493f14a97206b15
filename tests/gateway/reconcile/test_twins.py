"""Others with our id on one database: noticed by what they tell and move, and not by what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from gateway.clock import SystemClock
from gateway.errors import SinkRefused
from gateway.historian.connection import Readers
from gateway.historian.migrate import migrate
from gateway.reconcile.twins import TwinWatch
from tests.gateway.historian.databases import PATIENCE_S, Database, historian_settings, until
from tests.support.manual_clock import ManualClock

STREAM = str(uuid4())


@asynccontextmanager
async def migrated(database: Database) -> AsyncIterator[Database]:
    connection = await database.connect()
    try:
        await migrate(connection)
    finally:
        await connection.close()
    yield database


_READERS: list[Readers] = []


@pytest.fixture(autouse=True)
def connections_end() -> Iterator[None]:
    yield
    while _READERS:
        _READERS.pop().drop()


def watch(database: Database, stream: str, *, gateway: str = "line-1", moved: int = 0) -> TwinWatch:
    _READERS.append(Readers(database.dsn, historian_settings(database.dsn), gateway))
    return TwinWatch(
        _READERS[-1],
        gateway=gateway,
        stream=stream,
        clock=SystemClock(),
        ready=lambda: True,
        moved=lambda: moved,
        every_s=0.05,
    )


async def test_two_tell_of_each_other_and_of_nobody_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.reconcile.twins._GOODBYE_S_MAX", PATIENCE_S)
    async with migrated(database):
        one, two = watch(database, STREAM), watch(database, str(uuid4()))
        elsewhere = watch(database, str(uuid4()), gateway="line-2")
        tasks = [asyncio.create_task(item.run()) for item in (one, two, elsewhere)]
        await until(lambda: bool(one.others and two.others))
        assert "another gateway with this id writes to the same database: process " in (one.trouble() or "")
        assert one.noticed_at is not None
        assert elsewhere.trouble() is None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        ended = await database.rows("SELECT ended_at IS NOT NULL FROM andon.gateway_run")
        assert [row[0] for row in ended] == [True] * 3


async def test_a_row_that_does_not_move_is_no_gateway(database: Database) -> None:
    async with migrated(database):
        one = watch(database, STREAM)
        await watch(database, str(uuid4())).look()
        for _ in range(3):
            await one.look()
        assert one.trouble() is None


async def test_an_older_gateway_is_known_by_the_cursor_it_moves(database: Database) -> None:
    async with migrated(database):
        await database.do(
            "INSERT INTO andon.sink_cursor (gateway, stream, seq, batch) VALUES "
            f"('line-1', '{uuid4()}', 5, 0), ('line-2', '{uuid4()}', 5, 0), ('line-1', '{STREAM}', 5, 0)"
        )
        one = watch(database, STREAM)
        for _ in range(2):
            await one.look()
        assert one.trouble() is None
        for gateway, noticed in (("line-2", False), ("line-1", True)):
            await database.rows(
                "UPDATE andon.sink_cursor SET moved_at = clock_timestamp() "
                "WHERE gateway = $1 AND stream <> $2",
                gateway,
                STREAM,
            )
            await one.look()
            assert (one.trouble() is not None) == noticed
        assert "a gateway with the journal" in (one.trouble() or "")


async def test_our_own_cursor_moved_by_somebody_is_a_sign(database: Database) -> None:
    async with migrated(database):
        moves = [3]
        one = watch(database, STREAM)
        one._moved = lambda: moves[0]
        await one.look()
        assert one.trouble() is None, "what was before us is not alive"
        moves[0] += 1
        await one.look()
        assert "somebody moves the cursor of this very journal" in (one.trouble() or "")


async def test_only_the_newest_processes_are_remembered(database: Database) -> None:
    async with migrated(database):
        await database.do(
            "INSERT INTO andon.gateway_run (gateway, run, stream, host, pid, started_at, seen_at) "
            "SELECT 'line-1', gen_random_uuid(), gen_random_uuid(), 'h', n, now(), now() - n * interval "
            "'1 day' FROM generate_series(1, 150) AS n",
            "INSERT INTO andon.gateway_run (gateway, run, stream, host, pid, started_at, seen_at) "
            "SELECT 'line-2', gen_random_uuid(), gen_random_uuid(), 'h', n, now(), now() FROM "
            "generate_series(1, 5) AS n",
        )
        await watch(database, STREAM).look()
        counts = await database.rows("SELECT gateway, count(*) FROM andon.gateway_run GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in counts] == [("line-1", 100), ("line-2", 5)]


async def test_a_database_that_is_away_stops_nothing(database: Database) -> None:
    one = watch(database, STREAM)  # without the table, as far from there as can be
    with pytest.raises(SinkRefused, match="gateway_run"):
        await one.look()
    task = asyncio.create_task(one.run())
    async with migrated(database):
        async with asyncio.timeout(PATIENCE_S):
            while not await database.value("SELECT count(*) FROM andon.gateway_run"):
                await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


async def test_while_there_is_no_database_nobody_is_asked() -> None:
    clock = ManualClock()
    readers = Readers("postgresql://nobody@127.0.0.1:1/x", historian_settings("postgresql://x@y/z"), "line-1")
    one = TwinWatch(readers, gateway="g", stream=STREAM, clock=clock, ready=lambda: False, moved=lambda: 0)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    assert one.trouble() is None
    task.cancel()
    await asyncio.wait({task})
