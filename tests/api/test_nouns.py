"""Tags, connections, models, health and metrics."""

from __future__ import annotations

import httpx
import pytest

from tests.api.twins import STREAM, Plant


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["state", "speed", "temp"]),
        ("?connection=filler-plc", ["state", "speed"]),
        ("?quality=bad", ["speed", "temp"]),
        ("?quality=good", ["state"]),
        ("?quality=uncertain", []),
        ("?quality=bad&connection=oven-plc", ["temp"]),
        ("?quality=bad&after=filler-plc/speed", ["temp"]),
    ],
)
async def test_tags_can_be_narrowed_down(client: httpx.AsyncClient, query: str, names: list[str]) -> None:
    answer = (await client.get(f"/api/v1/tags{query}")).json()
    assert [item["name"] for item in answer["items"]] == names
    assert (answer["next"], answer["stream"], answer["seq"]) == (None, STREAM, 60)


async def test_a_tag_tells_value_quality_and_both_times(client: httpx.AsyncClient) -> None:
    good = (await client.get("/api/v1/tags/filler-plc/state")).json()
    assert good["latest"]["value"] == 3
    assert good["latest"]["source_at"] == good["latest"]["received_at"] == "2026-11-21T20:00:00Z"
    bad = (await client.get("/api/v1/tags/oven-plc/temp")).json()["latest"]
    assert (bad["value"], bad["quality"], bad["substatus"]) == (None, "bad", "no_communication")
    assert (await client.get("/api/v1/tags/filler-plc/speed")).json()["latest"] is None


async def test_connections_tell_their_link(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/connections")).json()
    assert [(item["name"], item["link"]) for item in answer["items"]] == [
        ("filler-plc", "up"),
        ("oven-plc", "down"),
    ]
    one = (await client.get("/api/v1/connections/oven-plc")).json()
    assert (one["protocol"], one["last_error"]) == ("modbus", "no answer for 3 s")


async def test_models(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/api/v1/models")).json()
    assert answer["items"] == [{"name": "packml"}, {"name": "oven"}]
    assert (await client.get("/api/v1/models/oven")).json()["name"] == "oven"


async def test_liveness_and_readiness_are_two_things(client: httpx.AsyncClient, plant: Plant) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).status_code == 200
    plant.ready = False
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "failing")
    assert (await client.get("/healthz")).status_code == 200
    plant.alive = False
    response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "failing"})


async def test_metrics_keep_their_own_content_type(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")
    assert response.text == "andon_link_up 1\n"
    assert response.headers["content-type"] == "text/plain; version=0.0.4"
