"""Puts the application together: the operations, the document made of them, and the answers to failures.

`create_app` is all the gateway needs to know, besides `app.state.streams`, whose `close()` ends the open
event streams before the server stops.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.guard import HEADERS, Guard
from api.hints import nearest, shown
from api.limits import Rate
from api.openapi import document
from api.operation import Context, Operation, serve_operation
from api.ports import HistoryUnavailable, Ports
from api.problems import Problem
from api.responses import encode_json, problem_answer
from api.routes import (
    accounts,
    audit,
    commands,
    compliance,
    configuration,
    connections,
    corrections,
    equipment,
    explain,
    health,
    keys,
    kpi,
    models,
    reconciliations,
    sessions,
    tag_history,
    tags,
    users,
)
from api.routes.documentation import OpenApiDocument
from api.settings import ApiSettings
from api.streaming import sse, websocket
from api.streams import Streams

_log = logging.getLogger("andon.api")


def create_app(
    ports: Ports,
    settings: ApiSettings,
    *,
    now: Callable[[], datetime],
    monotonic: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
) -> FastAPI:
    """The API over some ports. `now` gives the time, aware and in UTC; `monotonic` seconds that never step.

    `app.state.streams` is the `Streams` of this application; `app.state.operations` are all its routes.
    """
    rate = None
    if settings.requests_per_s > 0:
        rate = Rate(settings.requests_per_s, settings.requests_burst, monotonic)
    traces = Rate(1 / 60, 1, monotonic, callers_max=1000)
    guard = Guard(ports.access, settings.hosts, rate, audit=ports.audit, traces=traces)
    streams = Streams(
        settings.streams_max,
        settings.retry_after_s,
        of_one_max=settings.streams_of_one_max,
        still=guard.still,
    )
    context = Context(ports, settings, now, streams, guard)
    described = OpenApiDocument()
    operations = (
        *equipment.operations(settings),
        *explain.operations(settings),
        *kpi.operations(settings),
        *corrections.operations(settings),
        *sse.operations(settings),
        *websocket.operations(settings),
        *tags.operations(settings),
        *tag_history.operations(settings),
        *accounts.operations(settings),
        *reconciliations.operations(settings),
        *connections.operations(settings),
        *models.operations(settings),
        *commands.operations(settings),
        *configuration.operations(settings),
        *audit.operations(settings),
        *compliance.operations(settings),
        *sessions.operations(settings),
        *users.operations(settings),
        *keys.operations(settings),
        *health.operations(settings),
        *described.operations(settings),
    )
    described.json = encode_json(document(operations, ports.version))
    told = msgspec.json.decode(described.json)
    app = FastAPI(
        title="Andon",
        version=ports.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for operation in operations:
        serve_operation(app, operation, context)
    websocket.serve_websocket(app, context)
    app.openapi = lambda: told  # type: ignore[method-assign]
    app.state.streams = streams
    app.state.rate = rate
    app.state.operations = operations
    _answer_failures(app, operations, settings, guard)
    return app


def _answer_failures(
    app: FastAPI, operations: Sequence[Operation], settings: ApiSettings, guard: Guard
) -> None:
    """Turn every failure a request can meet into a problem document."""
    retry_after = ((b"retry-after", b"%d" % settings.retry_after_s),)

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_answer(error, request.scope["path"])

    async def unavailable(request: Request, error: Exception) -> Response:
        assert isinstance(error, HistoryUnavailable)
        found = Problem(
            "history_unavailable", f"The database does not answer: {error.reason}", headers=retry_after
        )
        return problem_answer(found, request.scope["path"])

    async def unmatched(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.scope["path"]
        headers = {name: value for name, value in request.scope["headers"] if name in HEADERS}
        try:  # what is not served costs as much to ask for as what is
            guard.meet(request.scope, headers)
        except Problem as refused:
            return problem_answer(refused, path)
        if error.status_code == 405:
            detail = f"{request.method} is not served at {shown(path)}."
            allowed = ", ".join(_methods_at(path, operations)).encode()
            found = Problem("method_not_allowed", detail, headers=((b"allow", allowed),))
        else:
            near = _nearest_path(path, operations)
            hint = f'Did you mean "{near}"?' if near else ""
            found = Problem("not_found", f"Nothing is served at {shown(path)}.", hint=hint)
        return problem_answer(found, path)

    async def failed(request: Request, error: Exception) -> Response:
        # The server logs the failure itself, with its trace; this line ties it to what the caller was told.
        reference = secrets.token_hex(4)
        path = request.scope["path"]
        _log.error("request failed: reference=%s path=%s error=%s", reference, path, type(error).__name__)
        found = Problem("internal_error", "The request could not be answered.", reference=reference)
        return problem_answer(found, path)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HistoryUnavailable, unavailable)
    app.add_exception_handler(HTTPException, unmatched)
    app.add_exception_handler(Exception, failed)


def _methods_at(path: str, operations: Sequence[Operation]) -> list[str]:
    """The methods of all routes at a path that exists."""
    given = path.split("/")
    found: dict[str, None] = {}
    for operation in operations:
        parts = operation.path.split("/")
        if len(parts) == len(given) and all(
            part == own or part.startswith("{") for part, own in zip(parts, given, strict=True)
        ):
            found.update(dict.fromkeys(operation.methods))
    return list(found)


def _nearest_path(path: str, operations: Sequence[Operation]) -> str | None:
    """The route most like a path that has none; names in the path are kept as they are."""
    given = path.rstrip("/").split("/")
    paths = []
    for operation in operations:
        parts = operation.path.split("/")
        if len(parts) == len(given):
            pairs = zip(parts, given, strict=True)
            paths.append("/".join(own if part.startswith("{") else part for part, own in pairs))
    return nearest("/".join(given), paths)
