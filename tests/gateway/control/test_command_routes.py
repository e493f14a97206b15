"""Commands over REST: the whole way from a request to the machine, over the desk and its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from api.access import Permission, Principal, Role
from api.app import create_app
from api.refusals import REFUSALS
from api.settings import ApiSettings
from gateway.control.desk import CommandDesk
from tests.api.access_twin import AccessTwin
from tests.api.twins import Plant, make_ports
from tests.gateway.control.bench import TAG, Bench, rules
from tests.support.manual_clock import START

PATH = "/api/v1/commands"
WANTED = {"tag": TAG, "value": 90.0}
#: By the token they come with.
CALLERS = {
    "anna": Principal("anna", "user", frozenset((Role.OPERATOR,))),
    "berta": Principal("berta", "user", frozenset((Role.ENGINEER,))),
    "vera": Principal("vera", "user", frozenset((Role.VIEWER,))),
    "olaf": Principal("olaf", "user", frozenset((Role.OPERATOR,)), ("hall/line-2",)),
}


class Callers(AccessTwin):
    """Everybody comes with the own name for a token."""

    async def who(self, bearer: str | None, peer: str) -> Principal:
        return CALLERS[bearer] if bearer in CALLERS else await super().who(bearer, peer)


@pytest.fixture
def settings() -> Any:
    return rules()


@pytest.fixture
def bench(tmp_path: Path, settings: Any) -> Bench:
    return Bench(tmp_path, settings)


@pytest.fixture
async def desk(bench: Bench) -> AsyncIterator[CommandDesk]:
    async with bench.open() as desk:
        yield desk


@pytest.fixture
async def client(desk: CommandDesk) -> AsyncIterator[httpx.AsyncClient]:
    plant = Plant()
    ports = msgspec.structs.replace(make_ports(plant), access=Callers(), commands=desk)
    app = create_app(ports, ApiSettings(page_limit=2), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def headers(who: str = "anna", key: str | None = "k-1") -> dict[str, str]:
    sent = {"Authorization": f"Bearer {who}"}
    return sent if key is None else {**sent, "Idempotency-Key": key}


async def send(
    client: httpx.AsyncClient,
    body: Any = None,
    *,
    who: str = "anna",
    key: str | None = "k-1",
    path: str = PATH,
) -> httpx.Response:
    return await client.post(path, json=WANTED if body is None else body, headers=headers(who, key))


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_command_is_answered_with_what_came_of_it(client: httpx.AsyncClient, bench: Bench) -> None:
    answer = await send(client)
    assert (answer.status_code, answer.json()["status"]) == (200, "verified")
    assert bench.machine.received == [(TAG, 90.0)]
    again = await send(client)
    assert again.content == answer.content
    one = await client.get(f"{PATH}/{answer.json()['id']}", headers=headers("vera", None))
    assert one.json() == answer.json()
    assert len(bench.machine.received) == 1


async def test_the_key_is_as_the_draft_says(client: httpx.AsyncClient, bench: Bench) -> None:
    assert told(await send(client, key=None)) == (400, "key_missing")
    assert told(await send(client, key="has a space")) == (400, "invalid_parameter")
    assert (await send(client)).status_code == 200
    assert told(await send(client, {**WANTED, "value": 91.0})) == (422, "key_reused")
    assert told(await send(client, who="berta")) == (422, "key_reused")
    stuck, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        stuck.set()
        await go.wait()

    bench.machine.before = slowly
    first = asyncio.create_task(send(client, key="k-2"))
    await stuck.wait()
    running = await send(client, key="k-2")
    assert told(running) == (409, "key_running")
    assert int(running.headers["retry-after"]) >= 1
    go.set()
    assert (await first).content == (await send(client, key="k-2")).content
    assert len(bench.machine.received) == 2


@pytest.mark.parametrize(
    ("body", "who", "expected"),
    [
        ({"tag": TAG, "value": 500.0}, "anna", (422, "out_of_range")),
        ({"tag": "plc/else", "value": 1}, "anna", (403, "not_allowed")),
        ({"equipment": "m-1", "command": "Start"}, "anna", (403, "not_allowed")),
        (WANTED, "vera", (403, "forbidden")),
        (WANTED, "olaf", (403, "not_allowed")),
        ({"tag": TAG}, "anna", (422, "invalid_body")),
        ({"value": 1}, "anna", (422, "invalid_body")),
        ({}, "anna", (422, "invalid_body")),
        ({"tag": TAG, "value": 1, "equipment": "m-1"}, "anna", (422, "invalid_body")),
        ({"equipment": "m-1"}, "anna", (422, "invalid_body")),
        ({**WANTED, "expires": "soon"}, "anna", (422, "invalid_body")),
        ({**WANTED, "expires": 5}, "anna", (422, "invalid_body")),
        ({**WANTED, "force": True}, "anna", (422, "invalid_body")),
        ({"tag": TAG, "value": [1]}, "anna", (422, "invalid_body")),
        ({**WANTED, "expires": "0s"}, "anna", (409, "expired")),
        ({**WANTED, "note": "x" * 257}, "anna", (422, "invalid_body")),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_sent(
    client: httpx.AsyncClient, bench: Bench, body: Any, who: str, expected: tuple[int, str]
) -> None:
    answer = await send(client, body, who=who)
    assert told(answer) == expected
    assert answer.json()["detail"]
    assert answer.json()["hint"]
    assert bench.machine.received == []
    if expected[1] in REFUSALS and who == "anna":
        kept = await client.get(answer.headers["location"], headers=headers("anna", None))
        assert kept.json()["code"] == expected[1]


async def test_without_a_desk_everything_is_off(bench: Bench) -> None:
    ports = msgspec.structs.replace(make_ports(Plant()), access=Callers())
    transport = httpx.ASGITransport(create_app(ports, ApiSettings(), now=lambda: START))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert told(await send(client)) == (403, "writes_off")
        assert (await client.get(PATH, headers=headers())).json() == {"items": [], "next": None}
        assert told(await client.get(f"{PATH}/x", headers=headers())) == (404, "unknown_command")


async def test_the_list_goes_page_by_page_and_shows_what_may_be_seen(client: httpx.AsyncClient) -> None:
    for n in range(5):
        await send(client, {"tag": TAG, "value": 60.0 + n}, key=f"k-{n}")
    found: list[float] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.get(PATH, params=after, headers=headers("anna", None))).json()
        found += [view["value"] for view in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == [60.0, 61.0, 62.0, 63.0, 64.0]
    others = (await client.get(PATH, headers=headers("olaf", None))).json()
    assert others["items"] == []
    assert told(await client.get(PATH, params={"after": "x"}, headers=headers())) == (
        400,
        "invalid_parameter",
    )


async def test_what_lies_elsewhere_is_like_what_does_not_exist(client: httpx.AsyncClient) -> None:
    id_ = (await send(client)).json()["id"]
    for path in (f"{PATH}/{id_}", f"{PATH}/nothing"):
        assert told(await client.get(path, headers=headers("olaf", None))) == (404, "unknown_command")
        answer = await send(client, {"value": 90.0}, who="olaf", key=None, path=f"{path}/approve")
        assert told(answer) == (404, "unknown_command")


class TestTwoPeople:
    @pytest.fixture
    def settings(self) -> Any:
        return rules(rule_arm=True, rule_second_person=True)

    async def test_armed_sent_approved(self, client: httpx.AsyncClient, bench: Bench) -> None:
        assert told(await send(client)) == (409, "not_armed")
        armed = await send(client, key=None, path=f"{PATH}/arm")
        assert armed.status_code == 201
        waiting = await send(client, {**WANTED, "arm": armed.json()["arm"]}, key="k-2")
        assert (waiting.status_code, waiting.json()["waits_for"]) == (202, "approval")
        path = f"{PATH}/{waiting.json()['id']}/approve"
        assert told(await send(client, {"value": 90.0}, key=None, path=path)) == (403, "approval_self")
        assert told(await send(client, {"value": 91.0}, who="berta", key=None, path=path)) == (
            409,
            "approval_value",
        )
        assert bench.machine.received == []
        done = await send(client, {"value": 90.0}, who="berta", key=None, path=path)
        assert (done.status_code, done.json()["status"]) == (200, "verified")
        assert done.json()["approved_by"] == "berta"
        assert told(await send(client, {"value": 90.0}, who="berta", key=None, path=path)) == (
            409,
            "approval_not_needed",
        )
        assert len(bench.machine.received) == 1


def test_the_document_has_the_routes_with_examples() -> None:
    app = create_app(make_ports(Plant()), ApiSettings(), now=lambda: START)
    document = app.openapi()
    for path in (PATH, f"{PATH}/arm", f"{PATH}/{{id}}/approve"):
        post = document["paths"][path]["post"]
        assert post["requestBody"]["content"]["application/json"]["examples"]
    answers = document["paths"][PATH]["post"]["responses"]
    assert {"200", "202", "400", "403", "409", "422", "429", "503"} <= set(answers)
    operations = [one for one in app.state.operations if one.tag == "commands"]
    assert {one.needs for one in operations} == {Permission.COMMAND, Permission.READ, Permission.APPROVE}
