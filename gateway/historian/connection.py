"""Connections to the database, for writing and for asking, with every wait bounded.

A connection that failed is dropped without a word to the server: a frozen one would not answer. Knows
nothing of tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from gateway.config.schema import HistorianSettings
from gateway.errors import SinkRefused
from gateway.historian.failures import DATABASE_ERRORS, translate
from gateway.historian.migrate import inspect
from gateway.historian.values import ServerInfo

_CONNECT_S = 5.0
#: How long one that is being made may still take once nobody wants it any more.
_LET_GO_S = 1.0
#: Questions asked at the same time; more wait their turn.
_READERS_MAX = 4


async def connect(
    dsn: str, settings: HistorianSettings, application: str
) -> asyncpg.Connection[asyncpg.Record]:
    """A connection with every wait bounded.

    One that is given up half-made leaves a failure behind that nobody hears and that is logged as ours, so
    who is cancelled in the middle waits a moment for it, and then drops it whole.
    """
    making = asyncio.create_task(_made(dsn, settings, application), name=f"{application} connects")
    try:
        await asyncio.wait((making,))
    except asyncio.CancelledError:
        try:
            await asyncio.wait((making,), timeout=_LET_GO_S)
        finally:
            making.cancel()
            [made] = await asyncio.gather(making, return_exceptions=True)
            if not isinstance(made, BaseException):
                made.terminate()
        raise
    return making.result()


async def _made(
    dsn: str, settings: HistorianSettings, application: str
) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(
        dsn,
        password=settings.password,
        timeout=_CONNECT_S,
        command_timeout=settings.command_timeout.total_seconds(),
        server_settings={
            "application_name": application[:63],
            "timezone": "UTC",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "60s",
            "client_min_messages": "error",
            "jit": "off",
        },
    )


def place_of(dsn: str) -> str:
    """Where a dsn leads, for messages: no user, no password."""
    rest = dsn.partition("://")[2]
    address, _, query = rest.rpartition("@")[2].partition("?")
    host, _, database = address.partition("/")
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == "host" and not host:
            host = value.replace("%2F", "/")
    return f"{database or 'of the default name'} at {host or 'the default address'}"


async def examine(dsn: str, settings: HistorianSettings) -> ServerInfo:
    """Connect once and say what server it is; changes nothing.

    Raises:
        SinkUnavailable, SinkRefused: the database is away, or will not have us.
    """
    place = place_of(dsn)
    try:
        connection = await connect(dsn, settings, "andon check")
    except (*DATABASE_ERRORS, ValueError) as error:
        raise translate(error, place) from error
    try:
        return await inspect(connection)
    except SinkRefused:
        raise
    except DATABASE_ERRORS as error:
        raise translate(error, place) from error
    finally:
        connection.terminate()


class Readers:
    """A few connections for questions. One that fails is thrown away; `drop` throws away all."""

    def __init__(self, dsn: str, settings: HistorianSettings, gateway: str) -> None:
        self._dsn, self._settings, self._gateway = dsn, settings, gateway
        self._place = place_of(dsn)
        self._idle: list[asyncpg.Connection[asyncpg.Record]] = []
        self._generation = 0
        self._turns = asyncio.Semaphore(_READERS_MAX)

    async def fetch(self, sql: str, *args: Any) -> Sequence[asyncpg.Record]:
        """Ask a question.

        Raises:
            SinkUnavailable, SinkRefused: there is no answer.
        """
        async with self._turns:
            connection: asyncpg.Connection[asyncpg.Record] | None = None
            generation, whole = self._generation, False
            try:
                connection = await self._connection()
                rows = await connection.fetch(sql, *args)
                whole = True
            except (*DATABASE_ERRORS, ValueError) as error:
                raise translate(error, self._place) from error
            finally:
                if connection is not None:
                    if whole and generation == self._generation:
                        self._idle.append(connection)
                    else:
                        connection.terminate()
            return rows

    async def _connection(self) -> asyncpg.Connection[asyncpg.Record]:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await connect(self._dsn, self._settings, f"andon {self._gateway} reader")

    def drop(self) -> None:
        """Throw away every connection; those in use when they come back."""
        self._generation += 1
        while self._idle:
            self._idle.pop().terminate()
