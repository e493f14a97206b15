"""A route as one value: what it takes, what it does, what it may answer.

Serving and documentation both come from it, so a route cannot be served undocumented, nor documented
otherwise than it is served. Knows the framework; does not know any noun.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access import Permission, Principal
from api.body import BODY_BYTES_MAX, BODY_CODES, read_body
from api.guard import HEADERS, Guard, peer_of
from api.params import Param, read_query
from api.ports import Ports
from api.problems import Problem
from api.settings import ApiSettings
from api.streams import Streams

#: Prefix of everything that has a version.
PREFIX = "/api/v1"

_HEADERS_READ = HEADERS | {
    b"accept-encoding",
    b"content-type",
    b"idempotency-key",
    b"if-match",
    b"if-none-match",
    b"last-event-id",
}
_CLOSE = (b"connection", b"close")
_HEADERS_OF_BODY = frozenset((b"content-length", b"transfer-encoding"))


class Context(msgspec.Struct, frozen=True):
    """What every route is handed besides its request. `now` gives aware UTC time."""

    ports: Ports
    settings: ApiSettings
    now: Callable[[], datetime]
    streams: Streams
    guard: Guard


class Call(msgspec.Struct, frozen=True):
    """One request, read and judged. `headers` holds only those that some route uses, in lower case; `by` is
    who sends it, already allowed to; `body` is what the operation's type made of it, None where there is
    none; `peer` is the address it comes from and `secure` says that it came over TLS."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    headers: Mapping[bytes, bytes]
    by: Principal
    body: Any = None
    peer: str = ""
    secure: bool = False


class Answer(msgspec.Struct, frozen=True):
    """A documented answer, not a problem. `schema` is a type, types of which it is one, a JSON Schema, or
    None without a body."""

    status: int
    description: str
    media: str = ""
    schema: Any = None
    examples: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    #: It has an ETag, and is 304 without a body when the client has it already.
    tagged: bool = False


Handler = Callable[[Context, Call], Awaitable[Response]]


class Body(msgspec.Struct, frozen=True):
    """What a route that changes something takes: a type that forbids unknown fields, and examples of it."""

    type_: type
    examples: Mapping[str, Any] = {}
    bytes_max: int = BODY_BYTES_MAX


class _Described(msgspec.Struct, frozen=True):
    """What an operation is, but for who may have it done."""

    path: str
    tag: str
    summary: str
    description: str
    handler: Handler
    answers: Sequence[Answer]
    params: Sequence[Param] = ()
    problems: Sequence[str] = ()
    body: Body | None = None


Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Operation(_Described, frozen=True, kw_only=True):
    """One route. `problems` lists the codes it may answer with, besides those every such route has.

    `needs` has no default: what nobody thought about cannot be served. `scoped` says that the handler looks
    at the areas of `Call.by` itself (see `api/scope.py`); where it does not, callers with areas are refused.
    """

    needs: Permission
    method: Method = "GET"
    scoped: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: a body is taken by a method that has none.
        """
        if self.body is not None and self.method in ("GET", "DELETE"):
            raise ValueError(f"{self.path}: {self.method} takes no body")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    def name(self) -> str:
        """Unique name of the operation, stable for generated clients: that of its handler."""
        return str(getattr(self.handler, "__name__", self.path))

    def query(self) -> tuple[Param, ...]:
        """The parameters that stand in the query string."""
        return tuple(param for param in self.params if param.place == "query")

    def codes(self) -> tuple[str, ...]:
        """Every problem code this route may answer with."""
        common = ["unknown_parameter", "invalid_parameter", "wrong_host", "too_many_requests", "locked_out"]
        common += ("uri_too_long", "headers_too_large")
        common += ("unexpected_body",) if self.body is None else BODY_CODES
        if self.needs is not Permission.PUBLIC:
            common += ("unauthenticated", "invalid_credentials", "session_ended")
            common += ("forbidden", "password_must_change")
        if self.method != "GET":
            common.append("cross_site")
        own = [code for code in self.problems if code not in common]
        return (*common, *own, "internal_error")


class _DirectRoute(APIRoute):
    """A route whose endpoint takes the request as it comes: its parameters are declared in the operation."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, without a search for dependencies it does not have."""
        return self.endpoint

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request without the stacks that would close such dependencies; failures are answered by the
        application, one layer out."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def serve_operation(app: FastAPI, operation: Operation, context: Context) -> None:
    """Add the route of an operation to the application."""
    query = operation.query()
    handler, body, guard = operation.handler, operation.body, context.guard
    needs, scoped = operation.needs, operation.scoped
    uri_bytes_max, headers_bytes_max = context.settings.uri_bytes_max, context.settings.headers_bytes_max

    async def endpoint(request: Request) -> Response:
        scope = request.scope
        headers: dict[bytes, bytes] = {}
        has_body = False
        room = headers_bytes_max
        for name, value in scope["headers"]:
            room -= len(name) + len(value)
            if name in _HEADERS_READ:
                headers[name] = value
            elif name in _HEADERS_OF_BODY and value != b"0":
                has_body = True
        by = await guard.admit(scope, headers, needs, scoped=scoped)
        if room < 0:
            raise _headers_refused(headers_bytes_max)
        if len(scope["path"]) + len(scope["query_string"]) > uri_bytes_max:
            raise _uri_refused(uri_bytes_max)
        if body is None and has_body:
            raise _body_refused()
        asked = read_query(scope["query_string"], query)
        sent = None if body is None else await read_body(request, body.type_, body.bytes_max)
        secure = scope["scheme"] == "https"
        return await handler(
            context, Call(scope["path_params"], asked, headers, by, sent, peer_of(scope), secure)
        )

    app.router.add_api_route(
        operation.path,
        endpoint,
        methods=list(operation.methods),
        name=operation.name(),
        response_model=None,
        include_in_schema=False,  # the document is made from the operations themselves
        route_class_override=_DirectRoute,
    )


def _headers_refused(bytes_max: int) -> Problem:
    return Problem("headers_too_large", f"The headers have more than {bytes_max} bytes.", headers=(_CLOSE,))


def _uri_refused(bytes_max: int) -> Problem:
    return Problem("uri_too_long", f"The address has more than {bytes_max} bytes.")


def _body_refused() -> Problem:
    # The connection is closed, or the client could go on sending its body for as long as it likes.
    return Problem(
        "unexpected_body",
        "The request has a body; this route reads none.",
        headers=((b"connection", b"close"),),
    )
