"""Databases for the historian's tests: a new one for each test, on a private server and on TimescaleDB."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.embedded_postgres import EmbeddedPostgres
from gateway.historian import connection
from tests.gateway.historian.databases import PATIENCE_S, Database, new_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two servers and hundreds of transactions a test take their time on a machine with much to do."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with much to do takes its time to let somebody in; who tests the bound sets it."""
    monkeypatch.setattr(connection, "_CONNECT_S", PATIENCE_S)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_dsn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """One private server for the whole run."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("embedded")))
    yield await server.start()
    await server.stop()


@pytest_asyncio.fixture(
    params=["embedded", pytest.param("timescale", marks=pytest.mark.real)], loop_scope="function"
)
async def database(request: pytest.FixtureRequest, embedded_dsn: str) -> AsyncIterator[Database]:
    """An empty database; the whole suite runs on both kinds of server."""
    dsn = embedded_dsn
    if request.param == "timescale":
        dsn = os.environ.get("ANDON_TEST_TIMESCALE", "")
        if not dsn:
            pytest.skip("ANDON_TEST_TIMESCALE names no server")
    async with new_database(dsn) as made:
        yield made
