"""Routes that change something: who may ask, what of a body is refused; on an operation made for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from api.access import Permission
from api.app import _answer_failures
from api.body import BODY_BYTES_MAX, BODY_CODES, decoded
from api.guard import Guard
from api.operation import Answer, Body, Call, Context, Operation, serve_operation
from api.problems import KINDS, Problem, ProblemDetails
from api.responses import json_answer
from api.settings import ApiSettings
from api.streams import Streams
from tests.api.access_twin import AccessTwin
from tests.api.twins import Plant, make_ports

PATH = "/api/v1/lamps"


class Lamp(msgspec.Struct, forbid_unknown_fields=True):
    color: str
    on: bool = True


async def switch_lamp(context: Context, call: Call) -> Response:
    return json_answer({"color": call.body.color, "on": call.body.on})


#: Nobody but who has a token may switch.
GUARD = Guard(AccessTwin())

OPERATION = Operation(
    path=PATH,
    tag="equipment",
    summary="Switch a lamp.",
    description="Switches a lamp.",
    handler=switch_lamp,
    answers=(Answer(200, "Done."),),
    body=Body(Lamp, {"green": {"color": "green"}}),
    needs=Permission.CORRECT,
    method="POST",
)


@pytest.fixture
def served(plant: Plant) -> FastAPI:
    settings = ApiSettings()
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    context = Context(make_ports(plant), settings, lambda: plant.now_at, Streams(1, 1), GUARD)
    serve_operation(app, OPERATION, context)
    _answer_failures(app, (OPERATION,), settings, context.guard)
    return app


Connect = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def connect(served: FastAPI) -> AsyncIterator[Connect]:
    opened: list[httpx.AsyncClient] = []

    def client(token: str = "ak_operator") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        opened.append(httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers))
        return opened[-1]

    yield client
    for item in opened:
        await item.aclose()


async def test_a_body_is_read_into_its_type(connect: Connect) -> None:
    answer = await connect().post(PATH, json={"color": "green"})
    assert (answer.status_code, answer.json()) == (200, {"color": "green", "on": True})


@pytest.mark.parametrize(("token", "status"), [("", 401), ("ak_nobody", 401), ("ak_viewer", 403)])
async def test_others_are_refused_before_anything_is_read(connect: Connect, token: str, status: int) -> None:
    answer = await connect(token).post(PATH, content=b"{", headers={"content-type": "text/plain"})
    assert answer.status_code == status
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b'{"color": "green", "color": "red"}', "body"),
        (b'{"color": NaN}', "body"),
        (b"[" * 30_000, "body"),
        (b'{"a":' * 10_000, "body"),
        (b"[]", "body"),
        (b"{}", "body"),
        (b'{"color": 7}', "color"),
        (b'{"color": "green", "on": "yes"}', "on"),
        (b'{"color": "green", "brightness": 7}', "body"),
        (b'{"color": "\\ud800"}', "body"),
    ],
)
async def test_a_body_that_is_not_what_is_taken_says_where(
    connect: Connect, content: bytes, place: str
) -> None:
    answer = await connect().post(PATH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    problem = msgspec.json.decode(answer.content, type=ProblemDetails)
    assert problem.code == "invalid_body"
    assert [(error.place, error.parameter) for error in problem.errors] == [("body", place)]
    assert problem.errors[0].reason
    assert problem.hint


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_only_json_is_taken(connect: Connect, media: str) -> None:
    answer = await connect().post(PATH, content=b'{"color":"green"}', headers={"content-type": media})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_the_charset_may_be_said(connect: Connect) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await connect().post(PATH, content=b'{"color":"green"}', headers=headers)).status_code == 200


async def test_a_body_is_bounded(connect: Connect) -> None:
    async def endless() -> AsyncIterator[bytes]:
        sent = 0
        while sent < 10 * BODY_BYTES_MAX:  # the answer must come long before
            yield b" " * 1000
            sent += 1000

    answer = await connect().post(PATH, content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_come_is_not_waited_for(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    monkeypatch.setattr("api.body._BODY_S", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    answer = await connect().post(PATH, content=slow(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")


async def test_who_leaves_in_the_middle_of_a_body_is_no_failure_of_the_gateway(served: FastAPI) -> None:
    said = iter(
        ({"type": "http.request", "body": b'{"color"', "more_body": True}, {"type": "http.disconnect"})
    )

    async def receive() -> Any:
        return next(said)

    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", b"Bearer ak_operator"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 80),
    }
    await served(scope, receive, send)  # would raise what the server then logs with its trace
    assert statuses == [408]


def test_a_body_of_very_many_names_holds_nobody_up() -> None:
    names = ",".join(f'"{number}":0' for number in range(40_000))
    begun_s = time.process_time()
    with pytest.raises(Problem, match="twice"):
        decoded(f'{{{names},"39999":0}}'.encode(), Lamp)
    assert time.process_time() - begun_s < 3, "40,000 names compared with each other take half a minute"


async def test_the_methods_of_a_path_are_told(connect: Connect) -> None:
    answer = await connect().get(PATH)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_parameters_are_judged_as_everywhere(connect: Connect) -> None:
    answer = await connect().post(f"{PATH}?colour=red", json={"color": "green"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter")


def test_every_refusal_is_among_the_codes_of_the_route() -> None:
    codes: tuple[Any, ...] = OPERATION.codes()
    assert set(BODY_CODES) < set(codes)
    assert "unexpected_body" not in codes
    assert set(codes) <= set(KINDS)
