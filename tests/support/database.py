"""Real databases for tests: where TimescaleDB is, and a new database on a server."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest


def timescale_dsn() -> str:
    """Where the real TimescaleDB is; the test is left out, and said to be, on a machine that has none."""
    dsn = os.environ.get("ANDON_TEST_TIMESCALE")
    if not dsn:
        pytest.skip("no real TimescaleDB here; see the last line of the run for how to have one")
    return dsn


@asynccontextmanager
async def new_database(dsn: str) -> AsyncIterator[str]:
    """An empty database on a server, dropped at the end."""
    name = f"andon_test_{uuid.uuid4().hex}"
    await _execute(dsn, f"CREATE DATABASE {name} TEMPLATE template0")  # nobody ever looks into that one
    try:
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        await dropped(dsn, name)


async def dropped(dsn: str, name: str) -> None:
    """Drop a database; whoever is still in it is given time to leave, more than the server does."""
    for turns_left in range(9, -1, -1):
        try:
            await _execute(dsn, f"DROP DATABASE {name} WITH (FORCE)")
        except asyncpg.ObjectInUseError:
            if not turns_left:
                raise
            await asyncio.sleep(0.5)
        else:
            return


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=60)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
