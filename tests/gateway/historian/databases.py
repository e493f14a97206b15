"""Databases made for one test, a historian that runs in one, and a network that cuts at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from gateway.clock import SystemClock
from gateway.config.schema import HistorianSettings
from gateway.historian import EquipmentMeta, Historian, TagMeta
from gateway.journal import Journal
from tests.support.database import dropped
from tests.support.doors import shut

PATIENCE_S = 60.0
"""How long is waited for what has to come some day: it costs nothing when it comes."""
TAGS = {f"plc/tag-{i}": TagMeta("plc", f"tag-{i}", "bar") for i in range(8)}
EQUIPMENT = {"filler-1": EquipmentMeta("area/line/filler-1", "packml")}


class Database:
    """A database of its own on some server."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.dsn, timeout=PATIENCE_S, command_timeout=PATIENCE_S)

    async def rows(self, sql: str, *args: Any) -> Sequence[Any]:
        connection = await self.connect()
        try:
            return await connection.fetch(sql, *args)
        finally:
            await connection.close()

    async def value(self, sql: str, *args: Any) -> Any:
        return (await self.rows(sql, *args))[0][0]

    async def do(self, *statements: str) -> None:
        connection = await self.connect()
        try:
            for sql in statements:
                await connection.execute(sql)
        finally:
            await connection.close()

    async def disconnect_others(self) -> None:
        """End every other connection, as a restart or a fail-over does; returns when they are gone."""
        await self.rows(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def alone(self) -> None:
        """Return when no client is left: the server lets one go a moment after it has left."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def new_database(server_dsn: str) -> AsyncIterator[Database]:
    """A new database on a server, dropped afterwards."""
    name = f"andon_test_{uuid4().hex[:12]}"
    server = Database(server_dsn)
    await server.do(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield Database(urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}")).replace(":/?", ":///?"))
    finally:
        await dropped(server_dsn, name)


def historian_settings(dsn: str, **changed: Any) -> HistorianSettings:
    base: dict[str, Any] = {"flush": timedelta(milliseconds=5), "command_timeout": timedelta(seconds=30)}
    return HistorianSettings(dsn=dsn, **(base | changed))


def build(
    journal: Journal,
    dsn: str,
    *,
    gateway: str = "line-1",
    tags: Mapping[str, TagMeta] = TAGS,
    equipment: Mapping[str, EquipmentMeta] = EQUIPMENT,
    **changed: Any,
) -> Historian:
    return Historian(
        dsn,
        journal=journal,
        gateway=gateway,
        settings=historian_settings(dsn, **changed),
        clock=SystemClock(),
        tags=tags,
        equipment=equipment,
    )


@asynccontextmanager
async def running(journal: Journal, dsn: str, **changed: Any) -> AsyncIterator[Historian]:
    """A historian at work; a failure of its task fails the test."""
    historian = build(journal, dsn, **changed)
    task = asyncio.create_task(historian.run())
    try:
        yield historian
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.005)


async def drained(historian: Historian, journal: Journal, *, within_s: float = PATIENCE_S) -> None:
    """Wait until the database holds all the journal holds."""

    def all_there() -> bool:
        at, position = historian.drained, journal.position
        return (at.seq, at.batch) == (position.last_seq, position.last_batch)

    await until(all_there, within_s=within_s)


class Proxy:
    """Stands between client and server on loopback; may cut the line around a COMMIT."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        #: "before" or "after": whether the server gets the COMMIT. "up" or "down": it, or its answer, is cut
        #: after `cut_after` bytes.
        self.cut: str = ""
        self.cut_after = 0
        self.cuts = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The dsn that leads through here."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        try:
            yield f"postgresql://{user}@127.0.0.1:{port}{self._parts.path}?sslmode=disable"
        finally:
            await shut(self._server)
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.create_task(self._serve(reader, writer))
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = parse_qs(self._parts.query).get("host", [""])[0]
        try:
            if host:
                to_server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
            else:
                to_server = await asyncio.open_connection(self._parts.hostname, self._parts.port or 5432)
        except BaseException:
            writer.transport.abort()
            raise
        silent = asyncio.Event()
        passed_on: list[int] = []

        async def upwards() -> None:
            while data := await reader.read(65536):
                if self.cut and b"COMMIT\x00" in data:
                    cut, self.cut = self.cut, ""
                    self.cuts += 1
                    message = data.rindex(b"COMMIT\x00") - 5
                    if cut == "up":
                        to_server[1].write(data[: message + self.cut_after])
                        await to_server[1].drain()
                    if cut == "down":
                        passed_on.append(self.cut_after)
                        to_server[1].write(data)
                        await asyncio.Event().wait()
                    if cut == "after":
                        silent.set()
                        to_server[1].write(data)
                        await to_server[0].read(65536)  # the answer nobody will get
                    return
                to_server[1].write(data)
                await to_server[1].drain()

        async def downwards() -> None:
            while not silent.is_set() and (data := await to_server[0].read(65536)):
                if passed_on:
                    writer.write(data[: passed_on[0]])
                    writer.close()
                    return
                if not silent.is_set():
                    writer.write(data)
                    await writer.drain()

        both = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (writer, to_server[1]):  # first: this may be cancelled once more while it waits
                end.transport.abort()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
