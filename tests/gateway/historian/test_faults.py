"""A server that stops, freezes or dies under the historian: nothing is lost, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from api.ports import HistoryUnavailable
from gateway.embedded_postgres import EmbeddedPostgres
from gateway.historian import connection
from gateway.history import JoinedHistory
from gateway.journal import Cursor
from tests.gateway.historian.databases import PATIENCE_S, Database, drained, running, until
from tests.gateway.journal.builders import START, batch, opened, transition

#: Of what the product does in a second no test has to be quicker.
QUICK = timedelta(seconds=1)


@pytest_asyncio.fixture(loop_scope="function")
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of its own, to be treated badly."""
    server = EmbeddedPostgres(tmp_path / "server")
    await server.start()
    yield server
    await server.stop()


def backends(directory: Path) -> list[int]:
    """The server and all its children."""
    cluster = directory / "server" / "postgres"
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == cluster:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    pids = backends(directory)
    assert len(pids) > 3
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def count(server: EmbeddedPostgres) -> tuple[int, int]:
    database = Database(server.dsn)
    return (
        await database.value("SELECT count(*) FROM andon.transition"),
        await database.value("SELECT count(*) FROM andon.sample"),
    )


async def test_a_stopped_server_is_found_again(server: EmbeddedPostgres, tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal, running(journal, server.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await server.stop()
        await journal.append([transition(2)], [batch(2)])
        await until(lambda: not historian.status().connected)
        assert historian.status().lag_events == 1
        await server.start()
        await drained(historian, journal)
    assert await count(server) == (2, 6)


async def test_a_quiet_gateway_notices_that_the_server_has_gone(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with opened(tmp_path / "journal") as journal, running(journal, server.dsn) as historian:
        await until(lambda: historian.status().connected)
        await server.stop()
        await until(lambda: not historian.status().connected, within_s=PATIENCE_S)
        await server.start()
        await until(lambda: historian.status().connected)


async def test_a_server_that_is_not_there_yet_is_waited_for(server: EmbeddedPostgres, tmp_path: Path) -> None:
    await server.stop()
    async with opened(tmp_path / "journal") as journal, running(journal, server.dsn) as historian:
        await journal.append([transition(1)])
        await until(lambda: historian.status().last_error is not None)
        await server.start()
        await drained(historian, journal)


@pytest.mark.timeout(300)
async def test_a_killed_server_under_load_loses_and_doubles_nothing(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with opened(tmp_path / "journal") as journal, running(journal, server.dsn) as historian:
        for n in range(1, 301):
            await journal.append([transition(n)], [batch(n, 30)])
            if n % 75 == 0:
                await until(lambda: historian.status().connected)
                pid = int((tmp_path / "server" / "postgres" / "postmaster.pid").read_text().split()[0])
                os.kill(pid, signal.SIGKILL)
                await until(lambda: not historian.status().connected)
        await drained(historian, journal)
        assert historian.status().connects >= 5
    assert await count(server) == (300, 9000)


async def test_a_frozen_server_holds_up_nobody_and_is_used_again_when_it_thaws(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CONNECT_S", 1.0)
    async with opened(tmp_path / "journal", keep=timedelta(0)) as journal:
        async with running(
            journal, server.dsn, command_timeout=2 * timedelta(seconds=PATIENCE_S)
        ) as historian:
            history = JoinedHistory(journal, historian)
            while journal.position.first_seq == 1:
                n = journal.position.last_seq + 1
                await journal.append([transition(n)], [batch(n, 400)])
                await drained(historian, journal)
            with frozen(tmp_path):
                async with asyncio.timeout(PATIENCE_S):  # half of what the database is waited for
                    last = (await journal.append([transition(n + 1)], [batch(n + 1, 1)]))[0].seq
                    assert (await history.events_after(last - 1, 9))[0].seq == last, "the journal is asked"
            await drained(historian, journal)
        async with running(journal, server.dsn, command_timeout=QUICK) as historian:
            history = JoinedHistory(journal, historian)
            await until(lambda: historian.status().connected)
            with frozen(tmp_path):
                last = (await journal.append([transition(last + 1)], [batch(last + 1, 1)]))[0].seq
                async with asyncio.timeout(PATIENCE_S):
                    with pytest.raises(HistoryUnavailable):
                        await history.state_at("filler-1", START - timedelta(days=1))
                await until(lambda: not historian.status().connected)
                assert "in time" in (historian.status().last_error or "")
            await drained(historian, journal)
        assert historian.drained == Cursor(last, journal.position.last_batch)
    transitions, samples = await count(server)
    assert (transitions, samples) == (last, 400 * (last - 2) + 2)
