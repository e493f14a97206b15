"""A route as one value: what it takes, what it does, what it may answer.

Serving and documentation both come from it, so a route cannot be served undocumented, nor documented
otherwise than it is served. Knows the framework; does not know any noun.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.body import BODY_CODES, read_body, refuse_others
from api.params import Param, read_query
from api.ports import Ports
from api.problems import Problem
from api.settings import ApiSettings
from api.streams import Streams

#: Prefix of everything that has a version.
PREFIX = "/api/v1"

_HEADERS_READ = frozenset((b"accept-encoding", b"idempotency-key", b"if-none-match", b"last-event-id"))
_HEADERS_OF_BODY = frozenset((b"content-length", b"transfer-encoding"))


class Context(msgspec.Struct, frozen=True):
    """What every route is handed besides its request. `now` gives aware UTC time."""

    ports: Ports
    settings: ApiSettings
    now: Callable[[], datetime]
    streams: Streams


class Call(msgspec.Struct, frozen=True):
    """One request, read and judged. `headers` holds only those that some route uses, in lower case; `body` is
    what the operation's type made of it, None where there is none."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[bytes, bytes]
    body: Any = None


class Answer(msgspec.Struct, frozen=True):
    """A documented answer, not a problem. `schema` is a type, types of which it is one, a JSON Schema, or
    None without a body."""

    status: int
    description: str
    media: str = ""
    schema: Any = None
    examples: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}


Handler = Callable[[Context, Call], Awaitable[Response]]


class Body(msgspec.Struct, frozen=True):
    """What a route that changes something takes: a type that forbids unknown fields, and examples of it."""

    type_: type
    examples: Mapping[str, Any] = {}


class Operation(msgspec.Struct, frozen=True):
    """One route: GET, or POST when it has a `body`. `problems` lists the codes it may answer with, besides
    those every such route has."""

    path: str
    tag: str
    summary: str
    description: str
    handler: Handler
    answers: Sequence[Answer]
    params: Sequence[Param] = ()
    problems: Sequence[str] = ()
    body: Body | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it answers."""
        return ("GET", "HEAD") if self.body is None else ("POST",)

    def name(self) -> str:
        """Unique name of the operation, stable for generated clients: that of its handler."""
        return str(getattr(self.handler, "__name__", self.path))

    def query(self) -> tuple[Param, ...]:
        """The parameters that stand in the query string."""
        return tuple(param for param in self.params if param.place == "query")

    def codes(self) -> tuple[str, ...]:
        """Every problem code this route may answer with."""
        of_body = ("unexpected_body",) if self.body is None else BODY_CODES
        common = ("unknown_parameter", "invalid_parameter", *of_body)
        own = tuple(code for code in self.problems if code not in common)
        return (*common, *own, "internal_error")


class _DirectRoute(APIRoute):
    """A route whose endpoint takes the request as it comes: its parameters are declared in the operation."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, without a search for dependencies it does not have."""
        return self.endpoint


def serve_operation(app: FastAPI, operation: Operation, context: Context) -> None:
    """Add the route of an operation to the application."""
    query = operation.query()
    handler, body = operation.handler, operation.body

    async def endpoint(request: Request) -> Response:
        scope = request.scope
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _HEADERS_READ:
                headers[name] = value
            elif name in _HEADERS_OF_BODY and value != b"0":
                raise _body_refused()
        call = Call(scope["path_params"], read_query(scope["query_string"], query), headers)
        return await handler(context, call)

    async def endpoint_of_body(request: Request) -> Response:
        assert body is not None, "served only where there is one"
        refuse_others(request)
        scope = request.scope
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS_READ}
        asked = read_query(scope["query_string"], query)
        sent = await read_body(request, body.type_)
        return await handler(context, Call(scope["path_params"], asked, headers, sent))

    app.router.add_api_route(
        operation.path,
        endpoint if body is None else endpoint_of_body,
        methods=list(operation.methods),
        name=operation.name(),
        response_model=None,
        include_in_schema=False,  # the document is made from the operations themselves
        route_class_override=_DirectRoute,
    )


def _body_refused() -> Problem:
    # The connection is closed, or the client could go on sending its body for as long as it likes.
    return Problem(
        "unexpected_body",
        "The request has a body; GET requests have none.",
        headers=((b"connection", b"close"),),
    )
