"""Equipment: states now and then, transitions as journalled, timelines without holes."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.app import create_app
from api.ports import Interval
from api.settings import ApiSettings
from statemodel.records import Recorded
from tests.api.twins import NAMES, START, STREAM, HistoryTwin, Plant, make_ports, make_transition


def _of(plant: Plant, name: str) -> list[Recorded]:
    return [item for item in plant.log if item.type == "transition" and item.equipment == name]


async def test_the_list_is_a_snapshot_with_its_place_in_the_sequence(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    answer = (await client.get("/api/v1/equipment")).json()
    assert [item["name"] for item in answer["items"]] == list(NAMES)
    assert (answer["next"], answer["stream"], answer["seq"]) == (None, STREAM, 60)
    assert answer["items"][1]["state"]["state"] == plant.states["oven-1"].state


async def test_lists_in_memory_page_by_name(client: httpx.AsyncClient) -> None:
    first = (await client.get("/api/v1/equipment", params={"limit": 2})).json()
    assert first["next"] == "oven-1"
    rest = (await client.get("/api/v1/equipment", params={"limit": 2, "after": first["next"]})).json()
    assert [item["name"] for item in rest["items"]] == ["capper-2"]
    assert rest["next"] is None
    gone = await client.get("/api/v1/equipment", params={"after": "removed"})
    assert (gone.status_code, gone.json()["code"]) == (400, "invalid_parameter")


async def test_one_equipment(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/equipment/oven-1")).json()
    assert answer["inputs"] == {"state": "oven-plc/temp"}
    assert answer["state"]["equipment"] == "oven-1"


async def test_a_state_no_model_has_is_a_slip_and_one_nobody_is_in_is_none(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    def asked(**query: str) -> Any:
        return client.get("/api/v1/equipment", params=query)

    refused = await asked(state="Idle,Excute")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
    assert refused.json()["hint"] == 'Did you mean "Execute"?'
    assert (await asked(state="Zzzzzz")).json()["hint"].startswith("GET /api/v1/models")
    for state in ("Execute", "Idle", "Unknown", *{one.state for one in plant.states.values()}):
        found = [item["name"] for item in (await asked(state=state)).json()["items"]]
        assert found == sorted(name for name, one in plant.states.items() if one.state == state)
    assert (await asked(path="fillling")).json()["items"] == []


async def test_the_state_has_exactly_the_promised_fields(client: httpx.AsyncClient, plant: Plant) -> None:
    response = await client.get("/api/v1/equipment/filler-1/state")
    last = _of(plant, "filler-1")[-1]
    assert response.json() == {
        "equipment": "filler-1",
        "path": "filling/line-1/filler-1",
        "model": "packml",
        "state": plant.states["filler-1"].state,
        "code": plant.states["filler-1"].code,
        "category": plant.states["filler-1"].category,
        "since": last.at.isoformat().replace("+00:00", "Z"),
        "seq": last.seq,
        "sequence": plant.sequences["filler-1"],
        "reason": None,
    }


async def test_a_state_that_has_not_changed_is_not_sent_again(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    url = "/api/v1/equipment/filler-1/state"
    etag = (await client.get(url)).headers["etag"]
    assert etag.startswith(f'"{STREAM}:{plant.states["filler-1"].seq}:')
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        unchanged = await client.get(url, headers={"if-none-match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == etag
    plant.move("filler-1")
    changed = await client.get(url, headers={"if-none-match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_the_etag_sees_a_change_that_no_transition_made(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    url = "/api/v1/equipment/filler-1/state"
    etag = (await client.get(url)).headers["etag"]
    plant.states["filler-1"] = msgspec.structs.replace(plant.states["filler-1"], reason="link refused")
    assert (await client.get(url, headers={"if-none-match": etag})).status_code == 200


async def test_at_gives_the_state_in_force_at_that_instant(client: httpx.AsyncClient, plant: Plant) -> None:
    first, second = _of(plant, "filler-1")[:2]

    async def state_at(at: datetime) -> httpx.Response:
        return await client.get("/api/v1/equipment/filler-1/state", params={"at": at.isoformat()})

    assert (await state_at(first.at)).json()["seq"] == first.seq
    assert (await state_at(second.at - timedelta(microseconds=1))).json()["seq"] == first.seq
    assert (await state_at(second.at)).json()["seq"] == second.seq
    before = await state_at(first.at - timedelta(microseconds=1))
    assert (before.status_code, before.json()["code"]) == (404, "no_state_yet")


@pytest.mark.parametrize("zone", ["Z", "z", "%2B00:00", "-00:00"])
async def test_instants_are_taken_in_any_zone(client: httpx.AsyncClient, plant: Plant, zone: str) -> None:
    local = plant.now_at.strftime("%Y-%m-%dT%H:%M:%S")
    response = await client.get(f"/api/v1/equipment/filler-1/state?at={local}{zone}")
    assert response.json()["seq"] == plant.states["filler-1"].seq
    shifted = (plant.now_at + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.000")
    response = await client.get(f"/api/v1/equipment/filler-1/state?at={shifted}%2B02:00")
    assert response.json()["seq"] == plant.states["filler-1"].seq


async def test_the_future_has_no_state_but_a_clock_may_run_ahead_a_little(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    url = "/api/v1/equipment/filler-1/state"
    near = (plant.now_at + timedelta(seconds=5)).isoformat()
    assert (await client.get(url, params={"at": near})).status_code == 200
    far = (plant.now_at + timedelta(seconds=6)).isoformat()
    response = await client.get(url, params={"at": far})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")
    assert response.json()["hint"] == f"It is {plant.now_at.isoformat().replace('+00:00', 'Z')} here."


async def test_transitions_are_the_bytes_of_the_journal(client: httpx.AsyncClient, plant: Plant) -> None:
    response = await client.get("/api/v1/equipment/oven-1/transitions?limit=50")
    joined = b",".join(item.json for item in _of(plant, "oven-1"))
    assert response.content == b'{"items":[%b],"next":null,"stream":"%b","seq":60}' % (
        joined,
        STREAM.encode(),
    )


@hypothesis_settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 25), count=st.integers(0, 60), use_token=st.booleans())
async def test_pages_put_together_are_the_whole_without_a_hole(
    limit: int, count: int, use_token: bool
) -> None:
    plant = Plant()
    plant.fill(count)
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)
    got: list[int] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        query: dict[str, int | str] = {"limit": limit}
        pages = 0
        while True:
            pages += 1
            page = (await client.get("/api/v1/equipment/oven-1/transitions", params=query)).json()
            assert len(page["items"]) <= limit
            got += [item["seq"] for item in page["items"]]
            if page["next"] is None:
                break
            query["after"] = page["next"] if use_token else page["next"].rpartition(":")[2]
        assert got == [item.seq for item in _of(plant, "oven-1")]
        assert pages == max(1, -(-len(got) // limit))  # no page is asked for in vain
        # polling on from the last page finds what is new, and only that
        plant.move("filler-1")
        new = plant.move("oven-1")
        query["after"] = f"{page['stream']}:{page['seq']}"
        polled = (await client.get("/api/v1/equipment/oven-1/transitions", params=query)).json()
    assert [item["seq"] for item in polled["items"]] == [new.seq]
    assert polled["seq"] == new.seq


async def test_a_transition_recorded_while_asking_is_not_given_again_by_the_next_poll(plant: Plant) -> None:
    class Busy(HistoryTwin):
        async def transitions(  # type: ignore[no-untyped-def]
            self, equipment: str, **how
        ) -> list[Recorded]:
            self.plant.move("oven-1")
            return list(await super().transitions(equipment, **how))

    ports = msgspec.structs.replace(make_ports(plant), history=Busy(plant))
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        page = (await client.get("/api/v1/equipment/oven-1/transitions")).json()
    assert page["items"][-1]["seq"] == page["seq"] == 61


async def test_transitions_between_two_instants_take_the_first_and_leave_the_last(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    all_ = _of(plant, "oven-1")
    window = {"from": all_[2].at.isoformat(), "to": all_[5].at.isoformat()}
    page = (await client.get("/api/v1/equipment/oven-1/transitions", params=window)).json()
    assert [item["seq"] for item in page["items"]] == [item.seq for item in all_[2:5]]


async def test_nothing_found_is_an_empty_list(client: httpx.AsyncClient) -> None:
    window = {"from": "2001-01-01T00:00:00Z", "to": "2001-01-02T00:00:00Z"}
    response = await client.get("/api/v1/equipment/oven-1/transitions", params=window)
    assert (response.status_code, response.json()["items"]) == (200, [])


@pytest.mark.parametrize(
    ("after", "status", "code"),
    [
        (f"{STREAM}:5", 410, "too_old"),
        ("other:30", 410, "other_stream"),
        ("61", 416, "from_the_future"),
        ("nonsense", 400, "invalid_parameter"),
    ],
)
async def test_a_cursor_that_promises_nothing_is_refused(
    client: httpx.AsyncClient, plant: Plant, after: str, status: int, code: str
) -> None:
    plant.first_seq = 10
    response = await client.get("/api/v1/equipment/oven-1/transitions", params={"after": after})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await client.get("/api/v1/equipment/oven-1/transitions")).status_code == 200


async def test_a_timeline_is_cut_at_both_ends_and_has_no_holes(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    from_ = START + timedelta(minutes=3, seconds=30)
    query = {"from": from_.isoformat(), "to": "2026-11-21T20:20:30Z"}
    answer = (await client.get("/api/v1/equipment/oven-1/timeline", params=query)).json()
    items = answer["items"]
    assert (items[0]["from"], items[-1]["to"]) == ("2026-11-21T20:03:30Z", "2026-11-21T20:20:30Z")
    assert all(one["to"] == two["from"] for one, two in pairwise(items))
    assert sum(item["duration_s"] for item in items) == 17 * 60
    assert (answer["equipment"], answer["from"], answer["to"]) == (
        "oven-1",
        items[0]["from"],
        items[-1]["to"],
    )


async def test_a_timeline_reaches_back_a_day_from_now_unless_told(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    now = plant.now_at
    for query in ({}, {"to": (now + timedelta(days=3)).isoformat()}):
        answer = (await client.get("/api/v1/equipment/oven-1/timeline", params=query)).json()
        assert msgspec.convert(answer["to"], datetime) == now
        assert msgspec.convert(answer["from"], datetime) == now - timedelta(days=1)


@pytest.mark.parametrize("route", ["transitions", "timeline"])
async def test_a_window_that_ends_before_it_begins_is_refused(client: httpx.AsyncClient, route: str) -> None:
    window = {"from": "2026-11-21T20:10:00Z", "to": "2026-11-21T20:10:00Z"}
    response = await client.get(f"/api/v1/equipment/oven-1/{route}", params=window)
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "from")


@hypothesis_settings(max_examples=40, deadline=None)
@given(gaps=st.lists(st.sampled_from([0, 0, 1, 60]), max_size=20), limit=st.integers(1, 5))
async def test_pages_of_a_timeline_put_together_are_the_whole_even_where_states_last_no_time(
    gaps: list[int], limit: int
) -> None:
    plant = Plant()
    for gap in gaps:
        plant.move("oven-1", gap)
    plant.now_at += timedelta(minutes=1)
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at)
    from_ = START - timedelta(minutes=1)
    whole = await HistoryTwin(plant).timeline("oven-1", from_, plant.now_at, 1000)
    got: list[Interval] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        query: dict[str, int | str] = {"limit": limit, "from": from_.isoformat()}
        for _ in range(len(whole) + 1):
            page = (await client.get("/api/v1/equipment/oven-1/timeline", params=query)).json()
            got += msgspec.convert(page["items"], list[Interval])
            if page["next"] is None:
                break
            assert page["to"] == page["next"]
            query["from"] = page["next"]
    assert page["next"] is None
    assert got == whole


async def test_long_lists_are_compressed_for_those_who_take_it(client: httpx.AsyncClient) -> None:
    url = "/api/v1/equipment/oven-1/transitions"
    plain = await client.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = await client.get(url, headers={"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content  # the client unpacks
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    refused = await client.get(url, headers={"accept-encoding": "gzip;q=0, *"})
    assert "content-encoding" not in refused.headers
    short = await client.get("/api/v1/equipment", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in short.headers


async def test_very_long_lists_are_compressed_all_the_same(plant: Plant) -> None:
    plant.log.clear()
    for count in range(400):
        plant.record(make_transition("oven-1", count + 1, START, "Idle", "Starting"))
    app = create_app(make_ports(plant), ApiSettings(), now=lambda: datetime(2027, 1, 1, tzinfo=UTC))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        headers = {"accept-encoding": "gzip"}
        async with client.stream(
            "GET", "/api/v1/equipment/oven-1/transitions?limit=400", headers=headers
        ) as response:
            raw = b"".join([part async for part in response.aiter_raw()])
    assert len(msgspec.json.decode(gzip.decompress(raw))["items"]) == 400


async def test_history_away_is_said_and_the_live_state_stays(client: httpx.AsyncClient, plant: Plant) -> None:
    plant.database_down = "connection refused"
    at = quote(plant.now_at.isoformat())
    for route in (f"state?at={at}", "transitions", "timeline"):
        response = await client.get(f"/api/v1/equipment/oven-1/{route}")
        assert (response.status_code, response.json()["code"]) == (503, "history_unavailable")
        assert response.headers["retry-after"] == "5"
    assert (await client.get("/api/v1/equipment/oven-1/state")).status_code == 200
