"""A connection that nobody wants any more is dropped in order, whenever that comes."""

from __future__ import annotations

import asyncio
import gc
import uuid
from typing import Any

import asyncpg
import pytest

from gateway.config.schema import HistorianSettings
from gateway.historian import connection
from gateway.historian.connection import connect
from tests.gateway.historian.databases import PATIENCE_S
from tests.support.database import timescale_dsn


@pytest.mark.real
async def test_one_that_is_given_up_while_it_is_made_leaves_nothing_behind() -> None:
    """At every point of the way: no failure that nobody hears, and no connection at the server."""
    dsn, name = timescale_dsn(), f"andon given-up {uuid.uuid4().hex[:12]}"
    settings = HistorianSettings(dsn=dsn)
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: said.append(f"{context['message']}: {context.get('exception')!r}")
    )
    for step in range(100):
        making = asyncio.create_task(connect(dsn, settings, name))
        await asyncio.sleep(step * 0.0003)
        making.cancel()
        [made] = await asyncio.gather(making, return_exceptions=True)
        if not isinstance(made, BaseException):
            made.terminate()
    watch = await connect(dsn, settings, "andon watch")
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await watch.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name
            ):
                await asyncio.sleep(0.02)
    finally:
        watch.terminate()
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def silent(*_: Any, **__: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncpg, "connect", silent)
    monkeypatch.setattr(connection, "_LET_GO_S", 0.05)
    making = asyncio.create_task(
        connect("postgresql://nowhere", HistorianSettings(dsn="postgresql://nowhere"), "andon")
    )
    await begun.wait()
    making.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(making, return_exceptions=True)
    assert making.cancelled()
    assert [task for task in asyncio.all_tasks() if "connects" in task.get_name()] == []


async def test_what_fails_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(asyncpg, "connect", refused)
    with pytest.raises(ConnectionRefusedError):
        await connect("postgresql://nowhere", HistorianSettings(dsn="postgresql://nowhere"), "andon")
