"""Who may hear what, how many streams one may hold, and that a right that ends, ends an open stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import msgspec
import pytest
from fastapi import FastAPI

from api import streams
from api.access import Access, Denied, Principal, Role
from api.app import create_app
from api.settings import ApiSettings
from statemodel.types import SourceLost
from tests.api.listening import PATIENCE_S, Form, hearing
from tests.api.twins import STREAM, Plant, make_ports

_VIEWER = frozenset((Role.VIEWER,))
ANNA = Principal("anna", "user", _VIEWER, ("filling/line-1/oven-1",), "as-1")
BERT = Principal("bert", "user", _VIEWER, None, "as-2")
NOBODY_OF_USE = Principal("carl", "user", frozenset(), None, "as-3")


class Door:
    """Knows three by name, and who has lost the right."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.asked = 0
        self.broken: set[str] = set()

    async def who(self, bearer: str | None, peer: str) -> Principal:
        known = {"anna": ANNA, "bert": BERT, "carl": NOBODY_OF_USE}
        if bearer is None or bearer in self.ended:
            raise Denied("unauthenticated", "nobody")
        return known[bearer]

    def still(self, principal: Principal) -> bool:
        self.asked += 1
        if principal.name in self.broken:
            raise ZeroDivisionError("nobody foresaw it")
        return principal.name not in self.ended


@pytest.fixture(params=("sse", "ws"))
def form(request: pytest.FixtureRequest) -> Form:
    return cast(Form, request.param)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def app(plant: Plant, door: Door) -> FastAPI:
    ports = msgspec.structs.replace(make_ports(plant), access=cast(Access, door))
    settings = ApiSettings(heartbeat_s=0.05, stall_s=60.0, streams_of_one_max=2)
    return create_app(ports, settings, now=lambda: plant.now_at)


def _as(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def _refused(app: FastAPI, form: Form, **asked: Any) -> tuple[int, str]:
    async with hearing(app, form, **asked) as listener:
        await listener.until_true(lambda: listener.done)
        if listener.messages:
            return listener.messages[-1]["problem"]["status"], listener.messages[-1]["problem"]["code"]
        return listener.status, json.loads(listener.received)["code"]


async def test_who_does_not_say_who_it_is_or_may_not_read_hears_nothing(app: FastAPI, form: Form) -> None:
    assert await _refused(app, form) == (401, "unauthenticated")
    assert await _refused(app, form, headers=_as("carl")) == (403, "forbidden")
    assert app.state.streams.open_count == 0


async def test_areas_bound_what_is_heard_and_the_cursor_moves_on(
    app: FastAPI, form: Form, plant: Plant
) -> None:
    plant.record(SourceLost("filler-plc", plant.now_at, "no answer"))
    async with hearing(app, form, after=0, headers=_as("anna")) as listener:
        await listener.until_open()
        await listener.until_true(lambda: listener.cursor() == f"{STREAM}:61")  # a heartbeat brings it
        mine = [r.json for r in plant.log if r.path == "filling/line-1/oven-1"]
        assert [event.data for event in listener.heard()] == mine
    async with hearing(app, form, after=0, headers=_as("bert")) as listener:
        assert len(await listener.until_heard(61)) == 61


async def test_what_may_not_be_seen_is_answered_like_what_does_not_exist(app: FastAPI, form: Form) -> None:
    answers = []
    for name in ("filler-1", "filler-9"):
        async with hearing(app, form, equipment=[name], headers=_as("anna")) as listener:
            problem = await listener.until_problem()
            answers.append(json.dumps(problem).replace(name, "NAME"))
    assert answers[0] == answers[1]
    assert "filler" not in answers[0]


async def test_left_out_counts_only_what_may_be_heard(app: FastAPI, form: Form, plant: Plant) -> None:
    plant.fill(600)
    async with hearing(app, form, after=0, coalesce=True, headers=_as("anna")) as listener:
        await listener.until_heard(1)
        mine = [r for r in plant.log if r.path == "filling/line-1/oven-1"]
        assert listener.notices()[0]["count"] == len(mine) - 1


async def test_a_right_that_ends_ends_the_open_stream(
    app: FastAPI, form: Form, plant: Plant, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert streams.LOOK_S <= 2.0
    monkeypatch.setattr(streams, "LOOK_S", 0.05)
    async with (
        hearing(app, form, headers=_as("bert")) as ending,
        hearing(app, form, headers=_as("anna")) as staying,
    ):
        await ending.until_open()
        await staying.until_open()
        async with asyncio.timeout(PATIENCE_S):
            while door.asked < 6:  # again and again, and not only once
                await asyncio.sleep(0.005)
        door.ended.add("bert")
        problem = await ending.until_problem()
        assert problem["code"] == "session_ended"
        assert ending.close_code in (None, 1008)
        plant.move("oven-1")
        await plant.announce()
        await staying.until_heard(1)
        assert not staying.done
    assert app.state.streams.open_count == 0


async def test_a_right_that_cannot_be_judged_ends_its_stream_and_no_other_look(
    app: FastAPI,
    form: Form,
    door: Door,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.02)
    async with (
        hearing(app, form, headers=_as("bert")) as broken,
        hearing(app, form, headers=_as("anna")) as staying,
    ):
        await broken.until_open()
        await staying.until_open()
        door.broken.add("bert")
        assert (await broken.until_problem())["code"] == "session_ended"
        assert not staying.done
        door.ended.add("anna")
        assert (await staying.until_problem())["code"] == "session_ended"
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert said.exc_info is not None


async def test_a_right_that_ends_ends_also_who_has_not_said_what_it_wants(
    app: FastAPI, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.api.listening import messaging

    monkeypatch.setattr(streams, "LOOK_S", 0.05)
    async with messaging(app, headers=_as("bert")) as listener:
        await listener.until_true(lambda: listener.status == 101)
        door.ended.add("bert")
        assert (await listener.until_problem())["code"] == "session_ended"
    assert listener.close_code == 1008


async def test_nobody_is_asked_about_while_no_stream_is_open(
    app: FastAPI, form: Form, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    async with hearing(app, form, headers=_as("bert")) as listener:
        await listener.until_open()
        async with asyncio.timeout(PATIENCE_S):
            while not door.asked:
                await asyncio.sleep(0.005)
    await asyncio.sleep(0.03)
    asked = door.asked
    await asyncio.sleep(0.05)
    assert door.asked == asked


async def test_a_right_that_ends_ends_the_stream_that_came_after_a_time_without_any(
    app: FastAPI, form: Form, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    async with hearing(app, form, headers=_as("bert")) as listener:
        await listener.until_open()
    await asyncio.sleep(0.05)  # the last look found nobody, and no other is planned
    async with hearing(app, form, headers=_as("bert")) as listener:
        await listener.until_open()
        door.ended.add("bert")
        assert (await listener.until_problem())["code"] == "session_ended"


async def test_one_caller_cannot_take_all_places(app: FastAPI, form: Form) -> None:
    async with (
        hearing(app, form, headers=_as("bert")) as first,
        hearing(app, form, headers=_as("bert")) as second,
    ):
        await first.until_open()
        await second.until_open()
        assert await _refused(app, form, headers=_as("bert")) == (503, "too_many_streams")
        async with hearing(app, form, headers=_as("anna")) as other:
            await other.until_open()
            assert other.status in (101, 200)
    async with hearing(app, form, headers=_as("bert")) as again:
        await again.until_open()
        assert again.status in (101, 200)
    assert not app.state.streams._held, "who holds none is not remembered"
