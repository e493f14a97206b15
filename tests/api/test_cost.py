"""What a request costs, counted in calls of functions: the same on a fast machine and a busy one."""

from __future__ import annotations

import cProfile
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

_REQUESTS = 20


def _trivial() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/ready")
    async def ready() -> Response:
        return Response(b'{"ready":true}', media_type="application/json")

    return app


async def _calls(app: FastAPI, path: str) -> float:
    """Calls a request, once everything is warm."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8420),
            "state": {},
        }
        await app(scope, receive, send)

    await ask()
    assert sent[0]["status"] == 200
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(_REQUESTS):
        await ask()
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats()) / _REQUESTS


async def test_a_state_costs_less_than_a_common_route_of_ready_bytes(app: FastAPI) -> None:
    trivial = await _calls(_trivial(), "/ready")
    state = await _calls(app, "/api/v1/equipment/filler-1/state")
    assert state < 0.65 * trivial
