"""What a stranger finds: which doors are open, what errors give away, what headers promise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from api.access import Permission
from api.app import create_app
from api.auditing import AuditUnavailable
from api.ports import EquipmentView
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.desk_twins import AuditTwin, whole_ports
from tests.api.twins import LiveTwin, Plant

#: All that a caller who is nobody gets an answer from.
OPEN = {
    "POST /api/v1/sessions",
    "POST /api/v1/sessions/renew",
    "GET /api/v1/sessions/own",
    "DELETE /api/v1/sessions/own",
    "POST /api/v1/sessions/own/password",
    "GET /healthz",
    "GET /readyz",
}


@pytest.fixture
def app(plant: Plant) -> FastAPI:
    return create_app(whole_ports(plant, AccessTwin()), ApiSettings(), now=lambda: plant.now_at)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def test_a_scan_finds_the_doors_that_are_meant_to_be_open(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    assert {
        f"{one.method} {one.path}" for one in app.state.operations if one.needs is Permission.PUBLIC
    } == OPEN
    for one in app.state.operations:
        if one.needs is not Permission.PUBLIC:
            path = re.sub(r"{\w+}", "x", one.path)
            answer = await client.request(one.method, path)
            assert answer.status_code == 401, path
    for path in (
        "/docs",
        "/",
        "/openapi.json",
        "/metrics",
        "/redoc",
        "/docs/oauth2-redirect",
        "/.env",
        "/admin",
    ):
        assert (await client.get(path)).status_code in (401, 404), path
    for method in ("TRACE", "OPTIONS", "CONNECT", "PROPFIND"):
        assert (await client.request(method, "/api/v1/equipment")).status_code == 405


async def test_no_foreign_page_may_read_an_answer(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://evil.example", "Authorization": "Bearer ak_all"}
    asked = headers | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-andon"}
    for answer in (
        await client.get("/api/v1/equipment", headers=headers),
        await client.options("/api/v1/commands", headers=asked),
        await client.get("/nowhere", headers=headers),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_pages_run_no_script_but_their_own(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/"):
        page = await client.get(path, headers={"Authorization": "Bearer ak_viewer"})
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|javascript:|<style", page.text)


@pytest.mark.parametrize(
    "name", ["token", "access_token", "key", "api_key", "password", "jwt", "andon_session"]
)
async def test_no_credential_is_taken_from_an_address(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/api/v1/equipment?{name}=ak_all")).status_code == 401
    answer = await client.get(f"/api/v1/equipment?{name}=ak_all", headers={"Authorization": "Bearer ak_all"})
    assert answer.json()["code"] == "unknown_parameter"
    answer = await client.post(f"/api/v1/sessions?{name}=x", json={"user": "anna", "password": "x"})
    assert answer.json()["code"] == "unknown_parameter"


TELLING = 'SELECT * FROM andon.transition -- /var/lib/andon/journal/7.seg, asyncpg 0.31, File "x.py", line 7'
TELLTALE = re.compile(
    r"SELECT|andon\.transition|/var|/usr|/etc|\.py|line \d|Traceback|asyncpg|uvicorn|starlette|python", re.I
)


class Broken(LiveTwin):
    """Fails, and says too much of it."""

    def equipment(self) -> Any:
        raise RuntimeError(TELLING)

    def equipment_named(self, name: str) -> EquipmentView | None:
        raise KeyError(TELLING)


async def test_errors_tell_an_attacker_nothing(plant: Plant) -> None:
    ports = msgspec.structs.replace(whole_ports(plant, AccessTwin()), live=Broken(plant))
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer ak_all"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
        answers = [
            await client.get("/api/v1/equipment"),
            await client.get("/api/v1/equipment/x/state"),
            await client.get("/api/v1/models/../../etc/passwd"),
            await client.get("/nowhere"),
            await client.get("/api/v1/tags?limit=x"),
            await client.post("/api/v1/commands", content=b"{"),
            await client.get("/api/v1/models", headers={"Authorization": "Bearer no"}),
        ]
    assert [answer.status_code for answer in answers] == [500, 500, 404, 404, 400, 415, 401]
    for answer in answers:
        assert answer.json()["code"]
        told = {name: value for name, value in answer.json().items() if name not in ("instance", "detail")}
        assert not TELLTALE.search(str(told)), answer.text
        assert not TELLTALE.search(answer.json()["detail"].replace("/etc/passwd", "")), (
            answer.text
        )  # its own words
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers


async def test_what_is_private_is_kept_by_nobody(app: FastAPI, client: httpx.AsyncClient) -> None:
    for one in app.state.operations:
        if (
            one.method == "GET"
            and "{" not in one.path
            and "/events" not in one.path
            and "/ws" not in one.path
        ):
            answer = await client.get(one.path, headers={"Authorization": "Bearer ak_all"})
            assert (
                "no-store" in answer.headers["cache-control"] or "no-cache" in answer.headers["cache-control"]
            )
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


# What was refused leaves a trace ----------------------------------------------------------------------------


async def test_what_somebody_may_not_change_is_recorded_and_no_flood_of_it(plant: Plant) -> None:
    ports = whole_ports(plant, AccessTwin())
    clock = [100.0]
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at, monotonic=lambda: clock[0])
    audit = ports.audit
    assert isinstance(audit, AuditTwin)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for _ in range(5):
            answer = await client.post(
                "/api/v1/commands", json={}, headers={"Authorization": "Bearer ak_viewer"}
            )
            assert answer.json()["code"] == "forbidden"
        (entry,) = audit.entries
        assert (entry.action, entry.actor, entry.kind, entry.via) == (
            "access.denied",
            "viewer",
            "key",
            "rest",
        )
        assert (entry.target, entry.result, entry.code) == ("POST /api/v1/commands", "refused", "forbidden")
        assert entry.peer == "127.0.0.1"
        await client.post("/api/v1/users", json={}, headers={"Authorization": "Bearer ak_viewer"})
        assert len(audit.entries) == 2  # something else
        clock[0] += 61
        await client.post("/api/v1/commands", json={}, headers={"Authorization": "Bearer ak_viewer"})
        assert len(audit.entries) == 3
        await client.post("/api/v1/commands", json={})  # nobody: guesses are counted, not recorded
        await client.get("/api/v1/users", headers={"Authorization": "Bearer ak_admin"})
        assert len(audit.entries) == 3


async def test_a_caller_who_asks_for_ever_another_name_fills_no_audit_trail(plant: Plant) -> None:
    ports = whole_ports(plant, AccessTwin())
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at, monotonic=lambda: 100.0)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    viewer = {"Authorization": "Bearer ak_viewer"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=viewer) as client:
        for number in range(50):
            assert (await client.get(f"/api/v1/users/u{number}")).status_code == 403
            assert (await client.post(f"/api/v1/equipment/e{number}/corrections", json={})).status_code == 403
    assert isinstance(ports.audit, AuditTwin)
    assert [entry.target for entry in ports.audit.entries] == [
        "GET /api/v1/users/u0",
        "POST /api/v1/equipment/e0/corrections",
    ]


async def test_a_refusal_stands_though_it_cannot_be_recorded(plant: Plant) -> None:
    class Full(AuditTwin):
        async def record(self, entry: Any) -> int:
            raise AuditUnavailable("the disk is full")

    ports = msgspec.structs.replace(whole_ports(plant, AccessTwin()), audit=Full())
    app = create_app(ports, ApiSettings(), now=lambda: plant.now_at)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/api/v1/users", headers={"Authorization": "Bearer ak_viewer"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
