"""Correcting the past over HTTP, and asking what was known when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Literal

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.access import Principal, Role
from api.app import create_app
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.twins import CorrectionsTwin, Plant, make_ports

STRANGE = {"state": "Idle", "from": "0001-01-01T00:00:00+14:00", "to": "2026-11-21T20:10:00Z"}
PATH = "/api/v1/equipment/filler-1/corrections"
WANTED: dict[str, Any] = {
    "from": "2026-11-21T20:10:00Z",
    "to": "2026-11-21T20:20:00Z",
    "state": "Execute",
    "reason": "the cable",
    "author": "anna",
}


@pytest.fixture
async def here(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as client:
        yield client


async def test_a_correction_is_made_listed_and_laid_over_the_past(
    here: httpx.AsyncClient, plant: Plant
) -> None:
    timeline = "/api/v1/equipment/filler-1/timeline"
    asked = {"from": "2026-11-21T20:05:00Z", "to": "2026-11-21T20:30:00Z"}
    before = (await here.get(timeline, params=asked)).json()["items"]
    known_at = plant.now_at
    plant.now_at += timedelta(minutes=1)

    made = await here.post(PATH, json=WANTED)

    assert made.status_code == 201
    event = made.json()
    assert (event["type"], event["at"], event["until"]) == ("correction", WANTED["from"], WANTED["to"])
    assert (event["author"], event["reason"], event["withdraws"]) == ("anna", "the cable", None)
    assert [i["state"] for i in event["intervals"]] == ["Execute"]
    listed = (await here.get(PATH)).json()
    assert listed["items"] == [event]
    assert (await here.get(PATH, params={"from": "2026-11-21T20:20:00Z"})).json()["items"] == []
    after = (await here.get(timeline, params=asked)).json()["items"]
    over = [i for i in after if i["corrected"]]
    assert [(i["state"], i["seq"], i["from"], i["to"]) for i in over] == [
        ("Execute", event["seq"], WANTED["from"], WANTED["to"])
    ]
    then = (await here.get(timeline, params=asked | {"known_at": known_at.isoformat()})).json()
    assert then["items"] == before
    assert not any(i["corrected"] for i in before)


async def test_a_state_says_that_a_correction_tells_it(here: httpx.AsyncClient, plant: Plant) -> None:
    state, at = "/api/v1/equipment/filler-1/state", {"at": "2026-11-21T20:15:00Z"}
    before = (await here.get(state, params=at)).json()
    known_at = plant.now_at
    plant.now_at += timedelta(minutes=1)
    event = (await here.post(PATH, json=WANTED)).json()

    told = (await here.get(state, params=at)).json()

    assert (told["state"], told["seq"], told["corrected"]) == ("Execute", event["seq"], True)
    assert "corrected" not in before
    assert (await here.get(state, params=at | {"known_at": known_at.isoformat()})).json() == before
    now = (await here.get(state)).json()
    assert "corrected" not in now, "the present is what the machine shows"


async def test_figures_are_of_what_is_known(here: httpx.AsyncClient, plant: Plant) -> None:
    kpi = "/api/v1/equipment/filler-1/kpi"
    asked = {"from": WANTED["from"], "to": WANTED["to"]}
    before = (await here.get(kpi, params=asked)).json()
    known_at = plant.now_at
    plant.now_at += timedelta(minutes=1)
    await here.post(PATH, json=WANTED)

    after = (await here.get(kpi, params=asked)).json()
    then = (await here.get(kpi, params=asked | {"known_at": known_at.isoformat()})).json()

    assert after["total"]["categories"]["standby"] == 600.0
    assert after["total"] != before["total"]
    assert then["total"] == before["total"]


async def test_what_is_sent_twice_under_one_key_is_done_once(here: httpx.AsyncClient, plant: Plant) -> None:
    key = {"Idempotency-Key": "4711"}
    first = await here.post(PATH, json=WANTED, headers=key)
    count = len(plant.log)

    again = await here.post(PATH, json=WANTED, headers=key)
    other = await here.post(PATH, json=WANTED | {"state": "Idle"}, headers=key)

    assert (again.status_code, again.content) == (201, first.content)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert len(plant.log) == count


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"from": "2026-11-21T20:10:00"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "9999-12-31T23:59:59-12:00"}, "to"),
        ({"state": None, "intervals": [STRANGE]}, "from"),
        ({"state": "Nope"}, "state"),
        ({"reason": ""}, "reason"),
        ({"author": "x" * 129}, "author"),
        ({"intervals": [{"state": "Idle"}]}, "intervals"),
        ({"sate": "Idle"}, "sate"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_with_its_place(
    here: httpx.AsyncClient, plant: Plant, changed: dict[str, Any], field: str
) -> None:
    count = len(plant.log)

    refused = await here.post(PATH, json=WANTED | changed)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_body")
    assert field in refused.json()["detail"]
    assert len(plant.log) == count


async def test_a_journal_that_does_not_take_it_is_said_so(plant: Plant) -> None:
    ports = make_ports(plant)
    assert isinstance(ports.corrections, CorrectionsTwin)
    ports.corrections.full = "the journal has not taken it within 10 s"
    app = create_app(msgspec.structs.replace(ports), ApiSettings(), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post(PATH, json=WANTED)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_recorded")
    assert "retry-after" in answer.headers


async def test_who_may_only_look_corrects_nothing(plant: Plant) -> None:
    app = create_app(make_ports(plant, AccessTwin()), ApiSettings(), now=lambda: plant.now_at)
    count = len(plant.log)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for token in ("ak_viewer", "ak_admin", "ak_auditor"):
            answer = await client.post(PATH, json=WANTED, headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert len(plant.log) == count


@pytest.mark.parametrize(
    ("kind", "said", "recorded"),
    [
        ("user", "", "otto"),
        ("user", "otto", "otto"),
        ("user", "anna", None),
        ("token", "anna", None),
        ("key", "", "otto"),
        ("key", "anna", "anna"),
        ("local", "anna", "anna"),
    ],
)
async def test_who_has_logged_in_corrects_under_no_other_name(
    plant: Plant, kind: Literal["user", "token", "key", "local"], said: str, recorded: str | None
) -> None:
    access = AccessTwin()
    access.by_token["as_otto"] = Principal("otto", kind, frozenset((Role.OPERATOR,)), None, "session:1")
    app = create_app(make_ports(plant, access), ApiSettings(), now=lambda: plant.now_at)
    count = len(plant.log)
    body = {name: value for name, value in (WANTED | {"author": said}).items() if value}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post(PATH, json=body, headers={"Authorization": "Bearer as_otto"})
    if recorded is None:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
        assert answer.json()["errors"][0]["parameter"] == "author"
        assert len(plant.log) == count
    else:
        assert (answer.status_code, answer.json()["author"]) == (201, recorded)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("state?known_at=2099-01-01T00:00:00Z", "known_at"),
        ("state?at=2026-11-21T20:15:00Z&known_at=2026-11-21T20:14:00Z", "at"),
        ("timeline?known_at=2099-01-01T00:00:00Z", "known_at"),
        ("timeline?from=2026-11-21T20:15:00Z&known_at=2026-11-21T20:14:00Z", "from"),
        ("kpi?known_at=2099-01-01T00:00:00Z", "known_at"),
    ],
)
async def test_what_cannot_have_been_known_is_refused(
    here: httpx.AsyncClient, path: str, parameter: str
) -> None:
    answer = await here.get(f"/api/v1/equipment/filler-1/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert answer.json()["errors"][0]["parameter"] == parameter


async def test_corrections_come_page_by_page(here: httpx.AsyncClient) -> None:
    for n in range(5):
        await here.post(PATH, json=WANTED | {"reason": f"no. {n}"})
    found: list[str] = []
    after: str | None = None
    while True:
        page = (await here.get(PATH, params={"limit": 2} | ({"after": after} if after else {}))).json()
        found += [item["reason"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == [f"no. {n}" for n in range(5)]
