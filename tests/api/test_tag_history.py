"""The history of a tag over REST: pages without a hole or a double, buckets, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.params import write_time
from tests.api.twins import START, Plant

_URL = "/api/v1/tags/filler-plc/speed/history"
_RANGE = {"from": write_time(START), "to": write_time(START + timedelta(minutes=10))}


async def _values(client: httpx.AsyncClient, limit: int, **params: str) -> list[int]:
    """Everything a client gets that pages on as it is told to."""
    found: list[int] = []
    after: dict[str, str] = {}
    for _ in range(30):
        page = (await client.get(_URL, params={**_RANGE, **params, **after, "limit": str(limit)})).json()
        found += [item["value"] for item in page["items"]]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
async def test_pages_hold_every_sample_once_even_where_several_share_an_instant(
    client: httpx.AsyncClient, limit: int
) -> None:
    assert await _values(client, limit) == list(range(20))


async def test_a_range_begins_with_the_sample_in_force(client: httpx.AsyncClient) -> None:
    page = (await client.get(_URL, params={"from": write_time(START + timedelta(seconds=90))})).json()
    assert page["before"]["value"] == 3
    assert [item["value"] for item in page["items"]] == list(range(4, 20))
    assert (page["tag"], page["unit"], page["incomplete"]) == ("filler-plc/speed", "1/min", None)


async def test_buckets_cover_the_range_and_tell_only_the_figures_asked_for(client: httpx.AsyncClient) -> None:
    whole = (await client.get(_URL, params={**_RANGE, "bucket": "4m"})).json()
    assert [item["count"] for item in whole["items"]] == [8, 8, 4]
    assert whole["items"][0] == {
        "from": "2026-11-21T20:00:00Z",
        "to": "2026-11-21T20:04:00Z",
        "count": 8,
        "min": 0,
        "max": 7,
        "avg": 4.0,
        "last": 7,
        "known_s": 240.0,
    }
    some = (await client.get(_URL, params={**_RANGE, "bucket": "4m", "aggregate": "avg,max"})).json()
    assert [set(item) for item in some["items"]] == [{"from", "to", "avg", "max"}] * 3


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"from": "2027-01-01T00:00:00Z"}, "from"),
        ({"bucket": "1ms"}, "bucket"),
        ({"bucket": "1s", "from": "2026-01-01T00:00:00Z"}, "bucket"),
        ({"aggregate": "avg"}, "aggregate"),
        ({"tz": "Europe/Berlin"}, "tz"),
        ({"bucket": "1h", "aggregate": "median"}, "aggregate"),
        ({"bucket": "1h", "limit": "5"}, "limit"),
        ({"bucket": "1h", "after": "2026-11-21T20:00:00Z/1"}, "after"),
        ({"after": "yesterday"}, "after"),
        ({"after": "2026-11-21T20:00:00Z/100001"}, "after"),
        ({"after": "2027-11-21T20:00:00Z/1"}, "after"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, params: dict[str, str], parameter: str
) -> None:
    response = await client.get(_URL, params=params)
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["code"]) == (400, "invalid_parameter")
    assert [error["parameter"] for error in told["errors"]] == [parameter]
    assert all(error["hint"] for error in told["errors"])


async def test_an_unknown_tag_and_a_database_that_is_away_are_said(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    assert (await client.get("/api/v1/tags/filler-plc/sped/history")).json()["code"] == "unknown_tag"
    assert (await client.get("/api/v1/tags/filler-plc/state/history")).json()["items"] == []
    plant.database_down = "the database does not answer"
    assert (await client.get(_URL)).json()["code"] == "history_unavailable"
    assert (await client.get(_URL, params={"bucket": "1h"})).status_code == 503
