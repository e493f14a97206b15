"""What a real TimescaleDB may do to a historian: cut, kill, freeze, fill, lock. All arrives, and once.

The table in the historian's README names the test of each fault.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from gateway.errors import SinkUnavailable
from gateway.historian import connection
from gateway.historian.portions import Portion
from gateway.historian.session import CursorMoved, Session, open_session
from gateway.journal import Cursor, Journal
from tests.gateway.historian.databases import (
    EQUIPMENT,
    PATIENCE_S,
    TAGS,
    Database,
    Proxy,
    drained,
    historian_settings,
    running,
    until,
)
from tests.gateway.historian.private_timescale import PrivateTimescale, beside
from tests.gateway.journal.builders import batch, opened, transition
from tests.support.database import timescale_dsn

pytestmark = [pytest.mark.timeout(300), pytest.mark.real]

COUNTS = "SELECT (SELECT count(*) FROM andon.transition), (SELECT count(*) FROM andon.sample)"


async def counts(database: Database) -> tuple[int, int]:
    return tuple((await database.rows(COUNTS))[0])


@asynccontextmanager
async def private(*, size_mb: int = 0, more: str = "") -> AsyncIterator[PrivateTimescale]:
    server = await beside(timescale_dsn(), size_mb=size_mb, more=more)
    if server is None:
        pytest.skip("a TimescaleDB of the test's own needs root and the shared one on this machine")
    try:
        await server.start()
        yield server
    finally:
        await server.remove()


@asynccontextmanager
async def session(journal: Journal, dsn: str) -> AsyncIterator[Session]:
    async with open_session(
        dsn,
        place="here",
        gateway="line-1",
        stream=journal.stream,
        settings=historian_settings(dsn),
        tags=TAGS,
        equipment=EQUIPMENT,
    ) as opened_session:
        yield opened_session


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_line_cut_after_any_byte_around_the_commit(
    database: Database, tmp_path: Path, direction: str
) -> None:
    """Fault 40. Up: the server gets so many bytes of COMMIT. Down: we get so many of its answer."""
    proxy, outcomes = Proxy(database.dsn), set()
    async with opened(tmp_path) as journal, proxy.listening() as dsn:
        # The message has 12 bytes, its answer 12 and 6 for "ready".
        for n in range(12 if direction == "up" else 18):
            before = n + 1
            await journal.append([transition(n)], [batch(n)])
            events, batches = await journal.read(n, 1), await journal.read_batches(n, 1)
            portion = Portion(Cursor(n, n), Cursor(before, before), events, batches)
            proxy.cut, proxy.cut_after = direction, n
            async with session(journal, dsn) as cut:
                with pytest.raises(SinkUnavailable):
                    await cut.write(portion)
            assert proxy.cut == "", "the line was cut"
            async with session(journal, database.dsn) as again:
                # The server may still be at it: its hold on the cursor makes the second wait, then fail.
                outcome = "written"
                try:
                    await again.write(portion)
                except CursorMoved:
                    outcome = "was written"
                assert await again.cursor() == portion.after
            outcomes.add(outcome)
            assert await counts(database) == (n + 1, 3 * (n + 1))
    assert outcomes == ({"written"} if direction == "up" else {"was written"})


async def test_a_killed_server_recovers_and_has_everything_once(tmp_path: Path) -> None:
    """Fault 41: kill -9 of the whole server under load, in both lanes; no connection is left over."""
    async with private() as server:
        async with (
            opened(tmp_path) as journal,
            running(journal, server.dsn, batch_rows=300, backlog_rate=3000) as historian,
        ):
            n = 0
            for _ in range(3):
                for _ in range(100):
                    n += 1
                    await journal.append([transition(n)], [batch(n, 30)])
                await until(lambda: historian.status().connected)
                for _ in range(30):
                    n += 1
                    await journal.append([transition(n)], [batch(n, 30)])
                    await asyncio.sleep(0.001)
                os.kill(server.postmaster(), signal.SIGKILL)
                await until(lambda: not historian.status().connected)
                await until(lambda: not server.pids())
                await server.start()
            await drained(historian, journal)
            await until(lambda: historian.status().backlog is None)
            database = Database(server.dsn)
            assert await counts(database) == (n, 30 * n)
            ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'andon line-1%'"
            async with asyncio.timeout(PATIENCE_S):
                while await database.value(ours) > 3:  # one given up just now is let go a moment later
                    await asyncio.sleep(0.05)
            assert historian.status().moved_by_others == 0
        assert await database.value("SELECT count(DISTINCT seq) FROM andon.transition") == n


@asynccontextmanager
async def frozen(server: PrivateTimescale) -> AsyncIterator[None]:
    pids = server.pids()
    assert len(pids) > 3
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_frozen_server_is_left_in_time_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 42: every process of the server is stopped for a while."""
    monkeypatch.setattr(connection, "_CONNECT_S", 1.0)
    async with private() as server, opened(tmp_path) as journal:
        patient = timedelta(seconds=2 * PATIENCE_S)
        async with running(journal, server.dsn, command_timeout=patient) as historian:
            await journal.append([transition(1)], [batch(1)])
            await drained(historian, journal)
            async with frozen(server), asyncio.timeout(PATIENCE_S):
                await journal.append([transition(2)], [batch(2)])  # nobody else waits
            await drained(historian, journal)
        async with running(journal, server.dsn, command_timeout=timedelta(seconds=1)) as historian:
            await until(lambda: historian.status().connected)
            async with frozen(server):
                await journal.append([transition(3)], [batch(3)])
                await until(lambda: not historian.status().connected)
                assert "in time" in (historian.status().last_error or "")
            await drained(historian, journal)
        assert await counts(Database(server.dsn)) == (3, 9)


async def test_a_full_disk_of_the_database_holds_things_up_and_nothing_else(tmp_path: Path) -> None:
    """Fault 47: the disk of the database fills; the journal keeps everything until there is room."""
    small = (
        "max_wal_size = 32MB\nmin_wal_size = 32MB\nwal_keep_size = 0\nwal_recycle = off\nwal_init_zero = off"
    )
    async with (
        private(size_mb=140, more=small) as server,
        opened(tmp_path) as journal,
        running(journal, server.dsn, batch_rows=5000) as historian,
    ):
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        ballast, n = server.data / "ballast", 1
        free = os.statvfs(server.data)
        with ballast.open("wb") as file:
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - 3_000_000)))
        while historian.status().connected:
            for _ in range(20):
                n += 1
                await journal.append([transition(n)], [batch(n, 800)])
            assert n < 3000, "it never filled"
            end = journal.position.last_batch
            await until(lambda end=end: historian.drained.batch >= end or not historian.status().connected)  # type: ignore[misc]
        await until(lambda: historian.status().last_error is not None)
        assert historian.status().alarm == "", "it is waited for, nobody has to do anything here"
        ballast.unlink()
        there = asyncio.create_task(drained(historian, journal))
        while not there.done():
            if not server.pids():
                await server.start()  # it ends itself when there is no room for its log
            await asyncio.wait({there}, timeout=0.2)
        await there
        assert historian.status().set_aside == 0
        assert await counts(Database(server.dsn)) == (n, 3 + 800 * (n - 1))


async def test_a_real_deadlock_is_survived_whoever_is_its_victim(database: Database, tmp_path: Path) -> None:
    """Fault 45: somebody holds a table and wants the cursor, which waits for the table."""
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        other = await database.connect()
        await other.execute("BEGIN; LOCK TABLE andon.sample IN EXCLUSIVE MODE")
        await journal.append([transition(2)], [batch(2)])
        waiting = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(PATIENCE_S):
            while not await database.value(waiting):
                await asyncio.sleep(0.01)
        try:
            await other.execute("UPDATE andon.sink_cursor SET moved_at = now()")
            await other.execute("ROLLBACK")
        except asyncpg.DeadlockDetectedError:
            pass
        other.terminate()
        await drained(historian, journal)
    assert await counts(database) == (2, 6)


async def test_a_table_that_stays_locked_is_not_waited_for_without_end(
    database: Database, tmp_path: Path
) -> None:
    """Fault 45: a lock held for as long as it takes; everything arrives when it is let go."""
    patient = timedelta(seconds=2 * PATIENCE_S)
    async with (
        opened(tmp_path) as journal,
        running(journal, database.dsn, command_timeout=patient) as historian,
    ):
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        other = await database.connect()
        await other.execute("BEGIN; LOCK TABLE andon.transition IN ACCESS EXCLUSIVE MODE")
        await journal.append([transition(2)], [batch(2)])
        await until(lambda: not historian.status().connected)
        assert "lock" in (historian.status().last_error or "")
        await other.execute("ROLLBACK")
        await other.close()
        await drained(historian, journal)
    assert await counts(database) == (2, 6)


@pytest.mark.parametrize("code", ["40001", "40P01", "53100", "57P01"])
async def test_a_transaction_the_server_gives_up_is_done_again_whole(
    database: Database, tmp_path: Path, code: str
) -> None:
    """Fault 45 and others: serialization failure, deadlock, full disk, shutdown, amid a portion."""
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await database.do(
            "CREATE SEQUENCE public.times",  # what is taken of it stays taken after a rollback
            f"""CREATE FUNCTION public.give_up() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF nextval('public.times') = 5 THEN
                    RAISE EXCEPTION 'not now' USING ERRCODE = '{code}';
                END IF;
                RETURN NEW;
            END $$""",
            "CREATE TRIGGER give_up BEFORE INSERT ON andon.transition "
            "FOR EACH ROW EXECUTE FUNCTION public.give_up()",
        )
        await journal.append([transition(n) for n in range(2, 12)], [batch(2)])
        await drained(historian, journal)
        assert historian.status().set_aside == 0
    assert await counts(database) == (11, 6)


async def test_late_samples_in_a_compressed_chunk_land_once(database: Database, tmp_path: Path) -> None:
    """Fault 46, where the licence of the server has compression."""
    if await database.value("SELECT current_setting('timescaledb.license', true)") != "timescale":
        pytest.skip("this server's licence has no compression")
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([], [batch(n) for n in range(100)])
        await drained(historian, journal)
        await database.rows("SELECT compress_chunk(c) FROM show_chunks('andon.sample') AS c")
        await journal.append([transition(1)], [batch(n) for n in range(50, 150)])
        await drained(historian, journal)
    assert await counts(database) == (1, 600)
