"""Everything a caller can do wrong, and what the answer says about it."""

from __future__ import annotations

import logging

import httpx
import msgspec
import pytest

from api.app import create_app
from api.params import UnreadableError, read_time, write_time
from api.problems import KINDS, ProblemDetails
from api.settings import ApiSettings
from tests.api.twins import Plant, make_ports

STATE = "/api/v1/equipment/filler-1/state"

#: Request, status, code, and the hint a person gets.
TABLE = [
    ("/api/v1/equipment/filer-1", 404, "unknown_equipment", 'Did you mean "filler-1"?'),
    ("/api/v1/equipment/FILLER-1/state", 404, "unknown_equipment", 'Did you mean "filler-1"?'),
    (
        "/api/v1/equipment/zzz/transitions",
        404,
        "unknown_equipment",
        "GET /api/v1/equipment lists the names.",
    ),
    ("/api/v1/equipment/zzz/timeline", 404, "unknown_equipment", "GET /api/v1/equipment lists the names."),
    ("/api/v1/tags/filler-plc/stat", 404, "unknown_tag", 'Did you mean "filler-plc/state"?'),
    ("/api/v1/tags/filer-plc/state", 404, "unknown_tag", 'Did you mean "filler-plc"?'),
    ("/api/v1/connections/oven-pcl", 404, "unknown_connection", 'Did you mean "oven-plc"?'),
    ("/api/v1/models/packlm", 404, "unknown_model", 'Did you mean "packml"?'),
    ("/api/v1/equipments", 404, "not_found", 'Did you mean "/api/v1/equipment"?'),
    ("/api/v1/equipment/", 404, "not_found", 'Did you mean "/api/v1/equipment"?'),
    (
        "/api/v1/equipment/oven-1/stat",
        404,
        "not_found",
        'Did you mean "/api/v1/equipment/oven-1/state"?',
    ),
    ("/nothing/like/any/of/it", 404, "not_found", "The routes are listed at /docs."),
    (f"{STATE}?zzz=1", 400, "unknown_parameter", "This route takes at, known_at, wait, after."),
    ("/healthz?verbose", 400, "unknown_parameter", "This route takes no parameters."),
    ("/api/v1/equipment/oven-1/transitions?form=1", 400, "unknown_parameter", 'Did you mean "from"?'),
    (
        f"{STATE}?at=2026-11-21T20:00:00Z&at=2026-11-21T20:00:00Z",
        400,
        "invalid_parameter",
        "Give it once; where several values are allowed, separate them with commas.",
    ),
    (
        f"{STATE}?at=2026-11-21T20:00:00+01:00",
        400,
        "invalid_parameter",
        'A "+" in a URL means a space: write the offset as %2B01:00, or use Z.',
    ),
    (
        f"{STATE}?at=2026-11-21T20:00:00",
        400,
        "invalid_parameter",
        "Add Z for UTC (2026-11-21T20:00:00Z) or an offset such as %2B01:00.",
    ),
    (
        f"{STATE}?at=2026-11-21",
        400,
        "invalid_parameter",
        "Add the time of day and the zone: 2026-11-21T00:00:00Z.",
    ),
    (
        f"{STATE}?at=1763755623",
        400,
        "invalid_parameter",
        "Seconds or milliseconds since 1970 are not taken; write the time like 2026-11-21T22:07:03Z.",
    ),
    (f"{STATE}?at=", 400, "invalid_parameter", "Write it like 2026-11-21T22:07:03Z."),
    (f"{STATE}?at=2026-02-30T00:00:00Z", 400, "invalid_parameter", "Write it like 2026-11-21T22:07:03Z."),
    (
        f"{STATE}?at=0001-01-01T00:00:00%2B10:00",
        400,
        "invalid_parameter",
        "Write it like 2026-11-21T22:07:03Z.",
    ),
    (f"{STATE}?at=%ff", 400, "invalid_parameter", "Percent-encode UTF-8 bytes."),
    (
        "/api/v1/tags?limit=51",
        400,
        "invalid_parameter",
        "Ask for at most 50 items and go on with next.",
    ),
    ("/api/v1/tags?limit=0", 400, "invalid_parameter", "Ask for at most 50 items and go on with next."),
    ("/api/v1/tags?limit=%D9%A3", 400, "invalid_parameter", "Ask for at most 50 items and go on with next."),
    ("/api/v1/tags?quality=god", 400, "invalid_parameter", 'Did you mean "good"?'),
    ("/api/v1/tags?connection=oven", 400, "invalid_parameter", 'Did you mean "oven-plc"?'),
    ("/api/v1/tags?connection=", 400, "invalid_parameter", "Leave the parameter out, or give it a value."),
    ("/api/v1/tags?" + "&".join(f"p{n}=1" for n in range(40)), 400, "invalid_parameter", None),
]


@pytest.mark.parametrize(("url", "status", "code", "hint"), TABLE)
async def test_the_table_of_mistakes(
    client: httpx.AsyncClient, url: str, status: int, code: str, hint: str | None
) -> None:
    response = await client.get(url)
    problem = msgspec.json.decode(response.content, type=ProblemDetails)
    assert (response.status_code, problem.code) == (status, code)
    assert hint is None or problem.hint == hint
    assert response.headers["content-type"] == "application/problem+json"
    assert problem.status == status
    assert problem.title == KINDS[code].title
    assert problem.type == f"/docs#problem-{code}"
    assert problem.instance == httpx.URL(url).path
    assert problem.detail


async def test_all_that_is_wrong_is_told_at_once(client: httpx.AsyncClient) -> None:
    query = "form=2026-11-21T20:00:00Z&to=yesterday&limit=many&after=!"
    problem = (await client.get(f"/api/v1/equipment/oven-1/transitions?{query}")).json()
    assert problem["code"] == "invalid_parameter"
    assert [error["parameter"] for error in problem["errors"]] == ["form", "to", "limit", "after"]
    assert all(error["reason"] and error["hint"] and error["place"] == "query" for error in problem["errors"])


async def test_long_input_is_not_echoed_back_in_full(client: httpx.AsyncClient) -> None:
    for url in (f"/api/v1/equipment/{'x' * 5000}", f"{STATE}?{'y' * 5000}=1", f"{STATE}?at={'z' * 5000}"):
        problem = (await client.get(url)).json()
        assert len(problem["detail"]) < 300


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_change_nothing_and_are_told_so(
    client: httpx.AsyncClient, plant: Plant, method: str
) -> None:
    before = len(plant.log)
    response = await client.request(method, STATE, headers={"origin": "http://evil.example"})
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD"
    assert not any(name.startswith("access-control") for name in response.headers)
    assert len(plant.log) == before


@pytest.mark.parametrize("headers", [{}, {"transfer-encoding": "chunked"}])
async def test_a_body_is_refused_and_the_connection_given_up(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.request("GET", STATE, content=b'{"a":1}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "unexpected_body")
    assert response.headers["connection"] == "close"
    assert (await client.get(STATE, headers={"content-length": "0"})).status_code == 200


async def test_an_internal_error_tells_the_user_a_reference_and_nothing_else(
    plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def live(self) -> bool:
            raise RuntimeError("SELECT secret FROM /var/lib/andon")

        def report(self) -> dict[str, object]:
            return {}

    ports = msgspec.structs.replace(make_ports(plant), health=Broken())
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        with caplog.at_level(logging.ERROR, "andon.api"):
            response = await client.get("/healthz")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    for secret in ("SELECT", "/var/lib", "RuntimeError", "Traceback"):
        assert secret not in response.text
    assert f"reference={response.json()['reference']}" in caplog.text
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "url",
    [STATE, "/api/v1/tags", "/healthz", "/metrics", "/nowhere", f"{STATE}?x=1", "/docs", "/openapi.json"],
)
async def test_every_answer_carries_the_guarding_headers(client: httpx.AsyncClient, url: str) -> None:
    headers = (await client.get(url, headers={"origin": "http://evil.example"})).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == ("private, no-cache" if "etag" in headers else "no-store")
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "text", ["2026-11-21T22:07:03Z", "2026-11-21 22:07:03.25Z", "2026-11-21t22:07:03.123456789z"]
)
def test_times_read_and_written_are_the_same_instant(text: str) -> None:
    assert read_time(write_time(read_time(text))) == read_time(text)


@pytest.mark.parametrize(
    "text", ["2026-W47-6T00:00:00Z", "20261121T220703Z", "2026-11-21T22:07Z", "now", " "]
)
def test_other_ways_to_write_a_time_are_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_time(text)
