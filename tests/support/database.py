"""Real databases for tests: where TimescaleDB is, and a new database on a server."""

from __future__ import annotations

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
    await _execute(dsn, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        await _execute(dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
