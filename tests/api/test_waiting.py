"""Waiting for a state to move: at once, when it moves, when the time is over, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api import streams
from api.app import create_app
from api.settings import ApiSettings
from tests.api.listening import PATIENCE_S, Listener
from tests.api.test_stream_rights import Door
from tests.api.twins import STREAM, Plant, make_ports

_STATE = "/api/v1/equipment/oven-1/state"


async def _until_waiting(plant: Plant, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while plant.waiters != count:
            await asyncio.sleep(0)


async def test_it_answers_when_the_state_moves(client: httpx.AsyncClient, plant: Plant) -> None:
    before = (await client.get(_STATE)).json()
    asked = asyncio.create_task(client.get(_STATE, params={"wait": "30s", "after": before["seq"]}))
    await _until_waiting(plant)
    plant.move("filler-1")
    await plant.announce()
    await _until_waiting(plant)
    assert not asked.done()
    moved = plant.move("oven-1")
    await plant.announce()
    response = await asked
    assert (response.status_code, response.headers["andon-wait"]) == (200, "moved")
    assert (response.json()["seq"], response.json()["state"]) == (moved.seq, plant.states["oven-1"].state)
    assert plant.waiters == 0


async def test_it_answers_at_once_when_the_state_has_moved_already(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    seq = plant.states["oven-1"].seq
    for after in (seq - 1, 0, f"{STREAM}:{seq - 1}", f"{STREAM}-1"):
        response = await client.get(_STATE, params={"wait": "30s", "after": after})
        assert (response.json()["seq"], response.headers["andon-wait"]) == (seq, "moved")


async def test_when_the_time_is_over_the_same_state_is_told(client: httpx.AsyncClient, plant: Plant) -> None:
    state = (await client.get(_STATE)).json()
    for after in ({"after": state["seq"]}, {}):
        response = await client.get(_STATE, params={"wait": "50ms", **after})
        assert (response.status_code, response.json()) == (200, state)
        assert response.headers["andon-wait"] == "over"
    assert plant.waiters == 0


async def test_an_etag_goes_together_with_waiting(client: httpx.AsyncClient, plant: Plant) -> None:
    etag = (await client.get(_STATE)).headers["etag"]
    over = await client.get(_STATE, params={"wait": "20ms"}, headers={"if-none-match": etag})
    assert (over.status_code, over.headers["andon-wait"]) == (304, "over")


async def test_head_and_no_time_are_answered_at_once(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        assert (await client.head(_STATE, params={"wait": "60s"})).headers["andon-wait"] == "over"
        assert (await client.get(_STATE, params={"wait": "0s"})).headers["andon-wait"] == "over"


@pytest.mark.parametrize(
    ("query", "status", "code", "parameter"),
    [
        ({"wait": "61s"}, 400, "invalid_parameter", "wait"),
        ({"wait": "30"}, 400, "invalid_parameter", "wait"),
        ({"wait": "forever"}, 400, "invalid_parameter", "wait"),
        ({"after": "5"}, 400, "invalid_parameter", "after"),
        ({"wait": "5s", "at": "2026-11-21T20:01:00Z"}, 400, "invalid_parameter", "at"),
        ({"wait": "5s", "after": "999"}, 416, "from_the_future", None),
        ({"wait": "5s", "after": "b0d1e8a2-0000-4000-8000-000000000000:5"}, 410, "other_stream", None),
    ],
)
async def test_what_cannot_be_waited_for_is_refused(
    client: httpx.AsyncClient, query: dict[str, str], status: int, code: str, parameter: str | None
) -> None:
    response = await client.get(_STATE, params=query)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert [error["parameter"] for error in response.json().get("errors", [])] == (
        [parameter] if parameter else []
    )


async def test_a_cursor_of_which_the_events_are_gone_serves_as_well(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    plant.first_seq = 50
    response = await client.get(_STATE, params={"wait": "5s", "after": "2"})
    assert response.headers["andon-wait"] == "moved"


@asynccontextmanager
async def _asking(app: FastAPI, headers: dict[str, str] | None = None) -> AsyncIterator[Listener]:
    """A client of a request that waits, which may leave."""
    listener = Listener()
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": _STATE,
        "raw_path": _STATE.encode(),
        "query_string": b"wait=60s",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *((k.encode(), v.encode()) for k, v in (headers or {}).items())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    task = asyncio.create_task(app(scope, listener.receive, listener.send))  # type: ignore[arg-type]
    try:
        yield listener
    finally:
        listener.leave()
        async with asyncio.timeout(PATIENCE_S):
            await task


async def test_a_client_that_leaves_takes_everything_with_it(app: FastAPI, plant: Plant) -> None:
    async with _asking(app) as listener:
        await _until_waiting(plant)
        assert app.state.streams.open_count == 1
    assert listener.received == b""
    assert plant.waiters == 0
    assert app.state.streams.open_count == 0


async def test_who_waits_holds_one_of_the_places_there_are(plant: Plant) -> None:
    app = create_app(make_ports(plant), ApiSettings(streams_max=2), now=lambda: plant.now_at)
    async with _asking(app), _asking(app):
        await _until_waiting(plant, 2)
        async with _asking(app) as third:
            await third.until_true(lambda: third.done)
            assert (third.status, msgspec.json.decode(third.received)["code"]) == (503, "too_many_streams")


async def test_stopping_answers_who_waits(app: FastAPI, plant: Plant) -> None:
    async with _asking(app) as listener:
        await _until_waiting(plant)
        app.state.streams.close()
        await listener.until_true(lambda: listener.done)
    assert (listener.status, msgspec.json.decode(listener.received)["code"]) == (503, "stopping")


async def test_a_right_that_ends_ends_the_waiting(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.02)
    door = Door()
    ports = msgspec.structs.replace(make_ports(plant), access=door)
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    async with _asking(app, {"authorization": "Bearer bert"}) as listener:
        await _until_waiting(plant)
        door.ended.add("bert")
        await listener.until_true(lambda: listener.done)
    assert (listener.status, msgspec.json.decode(listener.received)["code"]) == (401, "session_ended")


async def test_many_wait_for_one_state_and_all_are_answered(client: httpx.AsyncClient, plant: Plant) -> None:
    asked = [asyncio.create_task(client.get(_STATE, params={"wait": "30s"})) for _ in range(200)]
    await _until_waiting(plant, 200)
    moved = plant.move("oven-1")
    await plant.announce()
    assert {response.json()["seq"] for response in await asyncio.gather(*asked)} == {moved.seq}
