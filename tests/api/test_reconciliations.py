"""Reconciliations over REST: made on demand, listed, one at a time."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.twins import Plant, make_ports

PATH = "/api/v1/reconciliations"


@pytest.mark.parametrize(
    ("body", "full", "repair"),
    [({}, False, False), ({"repair": True}, False, True), ({"repair": False, "full": True}, True, False)],
)
async def test_one_is_made_and_listed(plant: Plant, body: dict[str, Any], full: bool, repair: bool) -> None:
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)
    async with connected(app) as client:
        assert (await client.get(PATH)).json() == {"items": []}
        made = await client.post(PATH, json=body)
        assert made.status_code == 200
        report = made.json()
        assert (report["full"], report["repair"], report["agree"]) == (full, repair, True)
        assert report["parts"] == [{"part": "memory", "compared": 6, "reason": None}]
        assert (await client.get(PATH)).json() == {"items": [report]}


async def test_there_is_one_at_a_time(plant: Plant) -> None:
    ports = make_ports(plant)
    ports.reconciler.busy = True  # type: ignore[attr-defined]
    async with connected(create_app(ports, ApiSettings(), now=lambda: plant.now_at)) as client:
        answer = await client.post(PATH, json={"repair": True})
        assert (answer.status_code, answer.json()["code"]) == (409, "reconciliation_running")


@pytest.mark.parametrize("body", [{"repair": "yes"}, {"repairs": True}, [], {"repair": None}])
async def test_what_is_not_asked_for_clearly_is_not_done(plant: Plant, body: Any) -> None:
    async with connected(create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)) as client:
        answer = await client.post(PATH, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
        assert (await client.get(PATH)).json() == {"items": []}


async def test_who_may_not_repair_asks_for_none(plant: Plant) -> None:
    app = create_app(make_ports(plant, AccessTwin()), ApiSettings(), now=lambda: plant.now_at)
    async with connected(app) as client:
        answer = await client.post(PATH, json={}, headers={"Authorization": "Bearer ak_operator"})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def connected(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420")
