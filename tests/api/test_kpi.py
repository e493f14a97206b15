"""Key figures over REST: cut by calendar and shift, summing to all the time there was."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from api.app import create_app
from api.params import write_time
from api.settings import ApiSettings
from tests.api.twins import START, Plant, make_ports, make_transition

_URL = "/api/v1/equipment/filler-1/kpi"


def _sums(figures: dict[str, dict[str, float]]) -> tuple[float, float]:
    return round(sum(figures["categories"].values()), 6), round(sum(figures["states"].values()), 6)


async def test_categories_states_and_buckets_sum_to_the_time_there_was(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    told = (
        await client.get(_URL, params={"bucket": "7m", "from": write_time(START - timedelta(hours=1))})
    ).json()
    length_s = (plant.now_at - START).total_seconds() + 3600
    assert told["total"]["duration_s"] == length_s
    assert told["total"]["from"] == write_time(START - timedelta(hours=1))
    assert sum(item["duration_s"] for item in told["items"]) == length_s
    for figures in (told["total"], *told["items"]):
        assert _sums(figures) == (figures["duration_s"], figures["duration_s"])
    assert told["total"]["categories"]["unknown"] >= 3600
    assert told["total"]["categories"]["productive"] > 0
    assert (told["bucket"], told["tz"], told["stream"], told["seq"]) == ("7m", "UTC", told["stream"], 60)


async def test_without_bounds_it_is_the_last_day_as_one(client: httpx.AsyncClient, plant: Plant) -> None:
    told = (await client.get(_URL)).json()
    assert (told["items"], told["bucket"], told["total"]["duration_s"]) == ([], None, 86400.0)
    assert told["to"] == write_time(plant.now_at)


async def test_what_has_not_happened_yet_is_not_counted(client: httpx.AsyncClient, plant: Plant) -> None:
    begin, end = plant.now_at - timedelta(hours=1), plant.now_at + timedelta(hours=5)
    told = (await client.get(_URL, params={"from": write_time(begin), "to": write_time(end)})).json()
    assert (told["to"], told["total"]["duration_s"]) == (write_time(plant.now_at), 3600.0)


async def test_calendar_and_shifts_follow_the_clocks_of_the_place(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    plant.now_at = START.replace(year=2027)
    ranged = {"from": "2026-10-24T22:00:00Z", "to": "2026-10-25T23:00:00Z", "tz": "Europe/Berlin"}
    day = (await client.get(_URL, params={**ranged, "bucket": "day"})).json()
    assert [item["duration_s"] for item in day["items"]] == [25 * 3600]
    assert day["items"][0]["local_from"] == "2026-10-25T00:00:00+02:00"
    shifts = "early=06:00-14:00,late=14:00-22:00,night=22:00-06:00"
    told = (await client.get(_URL, params={**ranged, "shifts": shifts})).json()
    assert told["bucket"] == "shift"
    assert [(item["name"], item["duration_s"] / 3600) for item in told["items"]] == [
        ("night", 7),
        ("early", 8),
        ("late", 8),
        ("night", 2),
    ]


async def test_many_changes_are_read_page_by_page(plant: Plant) -> None:
    plant.log.clear()
    for count in range(1, 2502):
        at = START + timedelta(seconds=count // 2)  # two at each instant: one of them lasts no time
        before, after = ("Idle", "Execute") if count % 2 else ("Execute", "Idle")
        plant.record(make_transition("filler-1", count, at, before, after))
    plant.now_at = START + timedelta(seconds=2000)
    for most, status in ((100_000, 200), (1000, 400)):
        app = create_app(make_ports(plant), ApiSettings(kpi_intervals_max=most), now=lambda: plant.now_at)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
            answer = await client.get(_URL, params={"from": write_time(START)})
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["total"]["duration_s"] == 2000
            assert _sums(answer.json()["total"]) == (2000, 2000)
        else:
            assert "more than 1000 changes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "parameter", "words"),
    [
        ({"bucket": "dag"}, "bucket", 'Did you mean "day"?'),
        ({"bucket": "0s"}, "bucket", "at least one second"),
        ({"bucket": "1s"}, "bucket", "too many"),
        ({"bucket": "hour", "from": "0001-01-01T00:00:00Z"}, "bucket", "too many"),
        ({"shifts": "x=00:00-00:01", "from": "0001-01-01T00:00:00Z"}, "shifts", "too many"),
        ({"tz": "Europe/Berlinn"}, "tz", "IANA name"),
        ({"tz": "Europe"}, "tz", "IANA name"),
        ({"tz": "../../etc/passwd"}, "tz", "IANA name"),
        ({"shifts": "early=6-14"}, "shifts", "06:00-14:00"),
        ({"shifts": "early=06:00-25:00"}, "shifts", "06:00-14:00"),
        ({"shifts": "a=06:00-14:00", "bucket": "day"}, "shifts", "together"),
        ({"from": "2026-11-21T21:00:00Z", "to": "2026-11-21T20:00:00Z"}, "from", "not before"),
        ({"from": "2030-01-01T00:00:00Z"}, "from", "not before"),
    ],
)
async def test_what_cannot_be_used_is_named_with_what_can(
    client: httpx.AsyncClient, query: dict[str, str], parameter: str, words: str
) -> None:
    answer = await client.get(_URL, params=query)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (400, "invalid_parameter")
    assert problem["errors"][0]["parameter"] == parameter
    assert words in problem["detail"] + problem["hint"]
