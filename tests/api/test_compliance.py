"""Violations over REST: paged, and told to each caller as far as it concerns him."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import httpx
import msgspec
import pytest

from api.app import create_app
from api.compliance import Found, RuleView, Violation
from api.settings import ApiSettings
from tests.api.twins import START, Plant, make_ports

PATH = "/api/v1/compliance"
SEEN, ELSEWHERE = "filling/line-1/oven-1", "filling/line-1/filler-1"


def violation(id_: str, kind: str = "illegal_moves", path: str = SEEN) -> Violation:
    return Violation(
        id=id_,
        rule=kind,
        kind=kind,
        equipment=path.rpartition("/")[2],
        path=path,
        from_=START,
        to=None,
        settled_at=None,
        reason="it moved",
        recommendation="look",
    )


class Judge:
    """Rules judged long ago."""

    def __init__(self) -> None:
        self.asked: tuple[datetime, datetime] | None = None
        self.found = [violation(f"v{n}") for n in range(5)]
        self.found += [violation("other", path=ELSEWHERE), violation("key", "stale_keys", "")]

    async def rules(self) -> Sequence[RuleView]:
        return [
            RuleView(
                name=kind,
                kind=kind,
                scope="",
                says="so",
                state="kept",
                violations=0,
                judged_at=START,
                reason=None,
            )
            for kind in ("illegal_moves", "stale_keys")
        ]

    async def violations(self, from_: datetime, to: datetime) -> Found:
        self.asked = (from_, to)
        return Found(self.found, ["downtimes: the database does not answer"])


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
async def client(plant: Plant, judge: Judge, settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    ports = msgspec.structs.replace(make_ports(plant), compliance=judge)
    app = create_app(ports, settings, now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def as_(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def ids(client: httpx.AsyncClient, token: str, **parameters: str) -> list[str]:
    answer = await client.get(f"{PATH}/violations", params=parameters, headers=as_(token))
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_each_is_told_what_concerns_him(client: httpx.AsyncClient) -> None:
    plain = ["v0", "v1", "v2", "v3", "v4"]
    assert await ids(client, "ak_auditor") == [*plain, "other", "key"]
    assert await ids(client, "ak_viewer") == [*plain, "other"]
    assert await ids(client, "ak_viewer_scoped") == plain
    assert await ids(client, "ak_auditor", rule="stale_keys") == ["key"]
    assert await ids(client, "ak_viewer", equipment="filler-1") == ["other"]
    for token, kinds in (("ak_viewer", ["illegal_moves"]), ("ak_admin", ["illegal_moves", "stale_keys"])):
        rules = (await client.get(PATH, headers=as_(token))).json()["items"]
        assert [rule["kind"] for rule in rules] == kinds
    told = (await client.get(f"{PATH}/violations", headers=as_("ak_viewer_scoped"))).json()
    assert told["incomplete"] == [], "a rule may be about what lies outside of the areas"
    told = (await client.get(f"{PATH}/violations", headers=as_("ak_viewer"))).json()
    assert told["incomplete"] == ["downtimes: the database does not answer"]


async def test_they_come_page_by_page(client: httpx.AsyncClient) -> None:
    found: list[str] = []
    after: dict[str, str] = {}
    for _ in range(10):
        answer = await client.get(
            f"{PATH}/violations", params={"limit": "2", **after}, headers=as_("ak_auditor")
        )
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == ["v0", "v1", "v2", "v3", "v4", "other", "key"]


async def test_a_day_is_judged_and_at_most_a_month(
    client: httpx.AsyncClient, judge: Judge, plant: Plant
) -> None:
    await ids(client, "ak_viewer")
    assert judge.asked == (plant.now_at - timedelta(days=1), plant.now_at)
    far = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}
    answer = await client.get(f"{PATH}/violations", params=far, headers=as_("ak_viewer"))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert "31 days" in answer.text


async def test_a_gateway_without_rules_has_none(plant: Plant, settings: ApiSettings) -> None:
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get(PATH, headers=as_("ak_viewer"))).json() == {"items": []}
