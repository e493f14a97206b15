"""What is particular to the WebSocket: the first message, the only one, and the codes it is closed with."""

from __future__ import annotations

import asyncio
import json

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.problems import Problem
from api.settings import ApiSettings
from api.streaming.frames import close_reason, last_messages
from tests.api.listening import messaging
from tests.api.twins import STREAM, Plant, make_ports


async def test_messages_are_objects_of_a_type_and_events_the_bytes_of_the_journal(
    app: FastAPI, plant: Plant
) -> None:
    async with messaging(app, '{"after": 58}') as listener:
        await listener.until_heard(2)
        await listener.until_true(lambda: listener.heartbeats() > 0)
    assert listener.messages[0] == {
        "type": "begin",
        "cursor": f"{STREAM}:58",
        "retry_s": 2.0,
        "heartbeat_s": 0.05,
    }
    wrapped = b'{"type":"event","cursor":"%b:59","event":%b}' % (STREAM.encode(), plant.log[58].json)
    assert listener.raw[1] == wrapped
    assert listener.messages[3] == {"type": "heartbeat", "cursor": None}


@pytest.mark.parametrize(
    ("said", "code", "where"),
    [
        ("", "invalid_body", "body"),
        ("[]", "invalid_body", "body"),
        ("{", "invalid_body", "body"),
        ('{"after": 1, "after": 2}', "invalid_body", "body"),
        ('{"since": 5}', "invalid_body", "body"),
        ('{"after": -1}', "invalid_body", "after"),
        ('{"after": "yesterday"}', "invalid_body", "after"),
        ('{"after": 1.5}', "invalid_body", "after"),
        ('{"types": []}', "invalid_body", "types"),
        ('{"types": ["transitions"]}', "invalid_body", "types[0]"),
        ('{"equipment": ["filer-1"]}', "invalid_body", "equipment"),
        ('{"coalesce": "yes"}', "invalid_body", "coalesce"),
        ('{"coalesce": true, "types": ["gap"]}', "invalid_body", "coalesce"),
        ("[" * 30_000, "invalid_body", "body"),
        (b"{}", "unsupported_media_type", ""),
    ],
)
async def test_a_first_message_that_cannot_be_meant_is_refused_with_the_place(
    app: FastAPI, said: str | bytes, code: str, where: str
) -> None:
    async with messaging(app, said) as listener:
        problem = await listener.until_problem()
    assert problem["code"] == code
    assert [error["parameter"] for error in problem.get("errors", [])] == ([where] if where else [])
    assert (listener.close_code, listener.close_reason.partition(":")[0]) == (1008, code)
    assert app.state.streams.open_count == 0


async def test_a_typing_error_is_answered_with_what_was_meant(app: FastAPI) -> None:
    async with messaging(app, '{"equipment": ["filer-1"]}') as listener:
        assert (await listener.until_problem())["hint"] == 'Did you mean "filler-1"?'


async def test_who_says_nothing_is_sent_away(plant: Plant) -> None:
    settings = ApiSettings(first_message_s=0.05)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    async with messaging(app) as listener:
        problem = await listener.until_problem()
    assert (problem["code"], listener.close_code) == ("body_too_slow", 1008)
    assert app.state.streams.open_count == 0


async def test_who_leaves_before_the_first_message_leaves_nothing_behind(app: FastAPI) -> None:
    async with messaging(app) as listener:
        await listener.until_true(lambda: listener.status == 101)
        assert app.state.streams.open_count == 1
    assert app.state.streams.open_count == 0


async def test_a_second_message_is_one_too_many(app: FastAPI) -> None:
    async with messaging(app, "{}") as listener:
        await listener.until_open()
        listener.say('{"types": ["gap"]}')
        problem = await listener.until_problem()
    assert (problem["code"], listener.close_code) == ("invalid_body", 1008)
    assert "second message" in problem["detail"]


async def test_a_query_is_refused_before_the_upgrade(app: FastAPI) -> None:
    async with messaging(app, "{}", query="after=5") as listener:
        await listener.until_true(lambda: listener.done)
    assert (listener.status, json.loads(listener.received)["code"]) == (400, "unknown_parameter")
    assert listener.headers[b"content-type"] == b"application/problem+json"


async def test_a_page_of_another_site_is_refused_before_the_upgrade(app: FastAPI) -> None:
    async with messaging(app, "{}", headers={"origin": "https://evil.example"}) as listener:
        await listener.until_true(lambda: listener.done)
    assert (listener.status, json.loads(listener.received)["code"]) == (403, "cross_site")


async def test_a_plain_request_is_told_to_upgrade(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/ws")
    assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")
    assert response.headers["upgrade"] == "websocket"


async def test_stopping_before_the_first_message_is_told(app: FastAPI) -> None:
    async with messaging(app) as listener:
        await listener.until_true(lambda: listener.status == 101)
        app.state.streams.close()
        problem = await listener.until_problem()
    assert (problem["code"], listener.close_code) == ("stopping", 1012)


async def test_what_is_said_at_once_is_judged_one_by_one(app: FastAPI) -> None:
    async with messaging(app, "{}", "{}", "{}") as listener:
        assert (await listener.until_problem())["code"] == "invalid_body"
        await asyncio.sleep(0)
    assert app.state.streams.open_count == 0


def test_a_reason_fits_into_a_close_frame_and_is_never_torn() -> None:
    for size in range(200):
        problem = Problem("stalled", "ä" * size)
        reason = close_reason(problem.details("/"))
        assert len(reason.encode()) <= 123
        assert "�" not in reason


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_last_words_are_frames_a_client_reads(size: int) -> None:
    from websockets.client import ClientProtocol
    from websockets.protocol import State
    from websockets.uri import parse_uri

    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(last_messages("x" * size, 1013, "stalled"))
    text, close = client.events_received()
    assert (len(text.data), bytes(close.data)) == (size, (1013).to_bytes(2, "big") + b"stalled")  # type: ignore[union-attr]
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (1013, "stalled")


def test_the_documented_messages_are_those_told(app: FastAPI) -> None:
    told = app.openapi()["paths"]["/api/v1/ws"]["get"]["responses"]["101"]
    schemas = told["content"]["application/json"]["schema"]["anyOf"]
    names = [reference["$ref"].rpartition("/")[2] for reference in schemas]
    assert names == ["Subscription", "Begun", "Heartbeat", "LeftOut", "Told", "Ended"]
    assert msgspec.json.encode(told)
