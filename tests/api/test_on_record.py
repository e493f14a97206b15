"""What corrects the past or mends is on record before it is begun, and its end after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.auditing import AuditEntry, AuditUnavailable
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.desk_twins import AuditTwin, whole_ports
from tests.api.test_corrections import PATH, WANTED
from tests.api.twins import Plant

REPAIR = "/api/v1/reconciliations"


class FailingTrail(AuditTwin):
    """Says that it can be written, and from the n-th record on cannot; 0 is the first."""

    fails_at = 99

    async def record(self, entry: AuditEntry) -> int:
        if len(self.entries) >= self.fails_at:
            raise AuditUnavailable("the disk is full")
        return await super().record(entry)

    def told(self) -> list[tuple[str, str, str]]:
        return [(entry.action, entry.result, entry.code) for entry in self.entries]


@pytest.fixture
def trail() -> FailingTrail:
    return FailingTrail()


@pytest.fixture
async def client(plant: Plant, trail: FailingTrail) -> AsyncIterator[httpx.AsyncClient]:
    ports = msgspec.structs.replace(whole_ports(plant, AccessTwin()), audit=trail)
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer ak_all"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "body", "action", "status"),
    [(PATH, WANTED, "correction", 201), (REPAIR, {"repair": True}, "repair", 200)],
    ids=["correction", "repair"],
)
async def test_begun_and_ended_are_on_record(
    client: httpx.AsyncClient, trail: FailingTrail, path: str, body: Any, action: str, status: int
) -> None:
    assert (await client.post(path, json=body)).status_code == status
    assert trail.told() == [(action, "begun", ""), (action, "ok", "")]
    begun, ended = trail.entries
    assert ended.detail["begun"] == 1, "the end names its beginning"
    assert begun.target == ended.target != ""


@pytest.mark.parametrize("path", [PATH, REPAIR])
async def test_what_cannot_be_put_on_record_is_not_done_though_it_looked_as_if_it_could(
    client: httpx.AsyncClient, trail: FailingTrail, path: str
) -> None:
    trail.fails_at = 0
    body = WANTED if path == PATH else {"repair": True}
    refused = await client.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (503, "audit_unavailable")
    assert "retry-after" in refused.headers
    assert (await client.get(PATH)).json()["items"] == []


async def test_what_is_done_stands_when_its_end_cannot_be_recorded(
    client: httpx.AsyncClient, trail: FailingTrail
) -> None:
    trail.fails_at = 1
    assert (await client.post(PATH, json=WANTED)).status_code == 201
    assert trail.told() == [("correction", "begun", "")]
    assert len((await client.get(PATH)).json()["items"]) == 1


async def test_what_is_refused_ends_as_failed(client: httpx.AsyncClient, trail: FailingTrail) -> None:
    refused = await client.post(PATH, json={**WANTED, "state": "Nowhere"})
    assert refused.status_code == 422
    assert trail.told() == [("correction", "begun", ""), ("correction", "failed", "invalid_body")]


async def test_comparing_without_mending_leaves_no_trace(
    client: httpx.AsyncClient, trail: FailingTrail
) -> None:
    assert (await client.post(REPAIR, json={})).status_code == 200
    assert trail.entries == []
