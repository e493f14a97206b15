"""The private server: it starts in every case, keeps its data, and never outlives its gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway import embedded_postgres
from gateway.embedded_postgres import EmbeddedPostgres
from gateway.errors import StartFailed
from tests.gateway.historian.databases import PATIENCE_S

GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway.embedded_postgres import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    print("started at", await server.start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: EmbeddedPostgres, sql: str) -> object:
    connection = await asyncpg.connect(server.dsn, timeout=PATIENCE_S)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def postmaster(directory: Path) -> int:
    return int((directory / "postgres" / "postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def runs_as_root(pid: int) -> bool:
    return "\nUid:\t0\t" in Path(f"/proc/{pid}/status").read_text()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while alive(pid):
            await asyncio.sleep(0.02)


async def start_gateway_that_is_killed(directory: Path) -> int:
    """Start a process with a server of its own and kill it; the id of the server left alone."""

    def start_and_kill() -> int:
        with subprocess.Popen(
            [sys.executable, "-c", GATEWAY, str(directory)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            try:
                while not process.stdout.readline().startswith(b"started at postgresql://"):
                    assert process.poll() is None
                return postmaster(directory)
            finally:
                process.kill()

    return await asyncio.to_thread(start_and_kill)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder in which there is room for the name of a socket, wherever the tests keep theirs."""
    with tempfile.TemporaryDirectory(prefix="andon-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


async def test_it_starts_keeps_its_data_and_is_private(short_path: Path) -> None:
    async with running(short_path) as server:
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert await ask(server, "SHOW fsync") == "on"
        assert await ask(server, "SHOW listen_addresses") == ""
        assert await ask(server, "SHOW server_encoding") == "UTF8"
        assert mode(short_path / "postgres-socket") == 0o700
        assert server.psql_hint == f"psql -h {short_path}/postgres-socket -U andon andon"
        pid = postmaster(short_path)
    assert not alive(pid)
    async with running(short_path) as server:
        assert await ask(server, "SELECT answer FROM kept") == 42


async def test_stopping_twice_or_before_starting_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


async def test_a_directory_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("deep-" * 20)
    async with running(deep) as server:
        assert await ask(server, "SELECT 1") == 1
        socket_dir = Path(server.psql_hint.split()[2])
        assert not socket_dir.is_relative_to(tmp_path)
        assert mode(socket_dir) == 0o700
    with pytest.raises(FileNotFoundError):
        mode(socket_dir)


@pytest.mark.parametrize("closed", ["", "closed"])
async def test_a_directory_only_its_owner_may_enter_will_do(closed: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # 0700, right under an open one
        data_dir = Path(directory, closed)
        async with running(data_dir) as server:
            assert await ask(server, "SELECT 1") == 1
            assert not runs_as_root(postmaster(data_dir))


async def test_a_second_gateway_does_not_end_the_server_of_the_first(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        with pytest.raises(StartFailed, match="in use by another gateway"):
            await EmbeddedPostgres(tmp_path).start()
        assert await ask(server, "SELECT 1") == 1


async def test_the_server_ends_when_its_gateway_is_killed(tmp_path: Path) -> None:
    await gone(await start_gateway_that_is_killed(tmp_path))
    async with running(tmp_path) as server:
        assert await ask(server, "SELECT 1") == 1


async def test_a_frozen_server_of_a_killed_gateway_is_ended_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        pid = postmaster(tmp_path)
        server._watch.cancel()  # type: ignore[union-attr]  # as if this gateway were no more
        os.close(server._lock)  # type: ignore[arg-type]
        server._lock = None
        os.kill(pid, signal.SIGSTOP)
        async with running(tmp_path) as second:
            assert await ask(second, "SELECT 1") == 1
            assert postmaster(tmp_path) != pid


async def test_a_lock_file_with_a_strangers_number_does_not_stop_it(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    (tmp_path / "postgres" / "postmaster.pid").write_text(
        f"{os.getppid()}\n{tmp_path}/postgres\n0\n5432\n\n\n\n"
    )
    async with running(tmp_path) as server:
        assert await ask(server, "SELECT 1") == 1


async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        pid = postmaster(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    assert await ask(server, "SELECT 1") == 1
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)
                else:
                    break
        assert postmaster(tmp_path) != pid


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    with (tmp_path / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match="no_such_setting"):
        await EmbeddedPostgres(tmp_path).start()


async def test_data_of_another_version_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    (tmp_path / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(StartFailed, match="made by PostgreSQL 13"):
        await EmbeddedPostgres(tmp_path).start()


async def test_a_first_start_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with running(tmp_path) as server:
        assert await ask(server, "SELECT 1") == 1


async def test_the_name_of_a_new_database_is_durable_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its first name the next start would clear it away as one that was never finished."""
    data_dir, programs = tmp_path / "data", tmp_path / "bin"
    data_dir.mkdir()
    programs.mkdir()
    initdb = programs / "initdb"
    initdb.write_text('#!/bin/sh\necho 18 > "$2/PG_VERSION"\n')
    initdb.chmod(0o755)
    synced: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(
        embedded_postgres,
        "sync_directory",
        lambda folder: synced.append((folder, sorted(path.name for path in folder.iterdir()))),
    )
    await EmbeddedPostgres(data_dir)._initialise(programs, embedded_postgres.Account(None))
    assert synced == [(data_dir, ["postgres", "postgres-start.log"])]
