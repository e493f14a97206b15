"""Filters of lists, paging through what moves meanwhile, and answers a client has already."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest

from tests.api.twins import CYCLE, NAMES, Plant

_TAGGED = (
    "/api/v1/equipment",
    "/api/v1/equipment/oven-1",
    "/api/v1/equipment/oven-1/state",
    "/api/v1/equipment/oven-1/transitions",
    "/api/v1/equipment/oven-1/timeline",
    "/api/v1/models",
    "/api/v1/models/packml",
    "/api/v1/tags",
    "/api/v1/connections",
)


@pytest.mark.parametrize("path", _TAGGED)
async def test_what_a_client_has_already_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for known in (etag, f'"other", {etag}', "*", etag.removeprefix("W/")):
        again = await client.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_an_event_elsewhere_changes_no_etag_and_one_here_does(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    paths = ("/api/v1/models", "/api/v1/equipment", "/api/v1/equipment/oven-1/transitions?limit=50")
    before = {path: (await client.get(path)).headers["etag"] for path in paths}
    plant.record(plant.refuse("oven-1"))  # moves the sequence and nothing else
    for path in paths:
        answer = await client.get(path, headers={"if-none-match": before[path]})
        assert answer.status_code == 304, path
    plant.move("oven-1")
    after = {path: (await client.get(path)).headers["etag"] for path in paths}
    assert [path for path in paths if after[path] != before[path]] == list(paths[1:])


async def test_a_snapshot_that_can_be_continued_no_more_is_sent_anew(
    client: httpx.AsyncClient, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who is told to begin again takes a snapshot, and browsers ask for it with the ETag of the old one.
    for path in ("/api/v1/equipment", "/api/v1/equipment?path=filling/line-1/oven-1&limit=1"):
        known = {"if-none-match": (await client.get(path)).headers["etag"]}
        for _ in range(10):
            plant.record(plant.refuse("oven-1"))
        assert (await client.get(path, headers=known)).status_code == 304
        monkeypatch.setattr(plant, "first_seq", plant.last_seq - 2)
        answer = await client.get(path, headers=known)
        assert (answer.status_code, answer.json()["seq"]) == (200, plant.last_seq)
    for path in ("/api/v1/equipment", "/api/v1/tags", "/api/v1/equipment/oven-1/transitions"):
        known = {"if-none-match": (await client.get(path)).headers["etag"]}
        with monkeypatch.context() as other:
            other.setattr("tests.api.twins.STREAM", "0f0f0f0f-5a2f-4e0b-9a57-2f1c8f6f4b1d")
            answer = await client.get(path, headers=known)
        assert answer.status_code == 200, path
        assert answer.json()["stream"].startswith("0f0f0f0f")


async def test_the_documented_304_are_those_there_are(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path in ("/api/v1/equipment", "/api/v1/models/{name}", "/api/v1/tags", "/api/v1/connections"):
        responses = document["paths"][path]["get"]["responses"]
        assert "ETag" in responses["304"]["headers"]
        assert "ETag" in responses["200"]["headers"]


async def test_a_long_list_is_compressed_and_the_same_and_its_etag_too(client: httpx.AsyncClient) -> None:
    path = "/api/v1/equipment/oven-1/transitions?limit=50"
    plain = await client.get(path, headers={"accept-encoding": "identity"})
    packed = await client.get(path, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.content == plain.content
    assert packed.headers["etag"] == plain.headers["etag"]
    assert gzip.compress(b"")  # decoded by the client above


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("path=filling", list(NAMES)),
        ("path=filling/line-1", list(NAMES)),
        ("path=/filling/line-1/", list(NAMES)),
        ("path=filling/line-1/oven-1", ["oven-1"]),
        ("path=filling/line-1/oven", []),  # places are cut at levels
        ("path=fill", []),
        ("path=baking", []),
        ("model=packml", list(NAMES)),
        ("model=oven", []),
    ],
)
async def test_equipment_by_place_and_model(client: httpx.AsyncClient, query: str, names: list[str]) -> None:
    answer = await client.get(f"/api/v1/equipment?{query}")
    assert [item["name"] for item in answer.json()["items"]] == names


async def test_equipment_by_state_and_category(client: httpx.AsyncClient, plant: Plant) -> None:
    for _ in range(4):
        plant.move("oven-1")
        for state in CYCLE:
            names = [name for name in NAMES if plant.states[name].state == state]
            answer = await client.get("/api/v1/equipment", params={"state": state})
            assert [item["name"] for item in answer.json()["items"]] == names
        for category in ("productive", "standby", "productive,standby"):
            names = [name for name in NAMES if plant.states[name].category in category.split(",")]
            answer = await client.get("/api/v1/equipment", params={"category": category})
            assert [item["name"] for item in answer.json()["items"]] == names


@pytest.mark.parametrize(
    ("path", "parameter", "hint"),
    [
        ("/api/v1/equipment?model=packm", "model", 'Did you mean "packml"?'),
        ("/api/v1/equipment?category=productiv", "category", 'Did you mean "productive"?'),
        ("/api/v1/connections?link=upp", "link", 'Did you mean "up"?'),
    ],
)
async def test_filters_that_would_never_match_are_refused(
    client: httpx.AsyncClient, path: str, parameter: str, hint: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 400
    assert [(error["parameter"], error["hint"]) for error in answer.json()["errors"]] == [(parameter, hint)]


async def test_connections_by_link(client: httpx.AsyncClient) -> None:
    async def names(link: str) -> list[Any]:
        return [
            item["name"] for item in (await client.get(f"/api/v1/connections?link={link}")).json()["items"]
        ]

    assert await names("up") == ["filler-plc"]
    assert await names("down,refused") == ["oven-plc"]
    assert await names("refused") == []


async def test_tags_by_equipment(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/tags?equipment=filler-1")
    assert [item["tag"] for item in answer.json()["items"]] == ["filler-plc/state", "filler-plc/speed"]
    unknown = await client.get("/api/v1/tags?equipment=filer-1")
    assert (unknown.status_code, unknown.json()["errors"][0]["parameter"]) == (400, "equipment")
    assert unknown.json()["hint"] == 'Did you mean "filler-1"?'


async def test_a_page_goes_on_where_its_last_item_has_left_the_filter(
    client: httpx.AsyncClient, plant: Plant
) -> None:
    while plant.states["filler-1"].state != plant.states["capper-2"].state:
        plant.move("filler-1")
    state = plant.states["filler-1"].state
    first = (await client.get("/api/v1/equipment", params={"state": state, "limit": 1})).json()
    assert (first["items"][0]["name"], first["next"]) == ("filler-1", "filler-1")
    plant.move("filler-1")  # another state now
    params = {"state": state, "limit": 3, "after": first["next"]}
    second = (await client.get("/api/v1/equipment", params=params)).json()
    assert "capper-2" in [item["name"] for item in second["items"]]
    assert second["next"] is None


async def test_a_page_that_ends_with_the_list_says_so(client: httpx.AsyncClient) -> None:
    page = (await client.get("/api/v1/equipment", params={"limit": 3})).json()
    assert (len(page["items"]), page["next"]) == (3, None)
