"""The same stream over a WebSocket: one message from the client says what it wants, the rest is told.

A client that wants something else opens another one. Knows the messages of ASGI; the server in front of it
bounds their size and asks whether the other side is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any, Generic, Literal

import msgspec
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from api.access import Permission, Principal
from api.body import decoded
from api.cursor import parse_cursor, resume_after
from api.examples import EXAMPLE_CURSOR
from api.guard import HEADERS
from api.messages import FRAMES
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import EVENT_TYPES, read_query
from api.ports import HistoryUnavailable
from api.problems import ParameterError, Problem
from api.settings import ApiSettings
from api.streaming.frames import (
    Begun,
    Ended,
    FramedMessages,
    Frames,
    Heartbeat,
    MessageFrames,
    Piece,
    Told,
    close_code,
    close_reason,
    last_messages,
)
from api.streaming.pump import Gone, Plan, Pump
from api.streaming.selection import LeftOut, Selection
from api.streaming.wanted import judged
from api.streams import Place

PATH = f"{PREFIX}/ws"

_TEXTS, _FRAMES = MessageFrames(), FramedMessages()
_TYPES = "|".join(EVENT_TYPES)

EventType = Annotated[str, msgspec.Meta(pattern=rf"^(?:{_TYPES})\Z")]


class Subscription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first message of a client. Everything may be left out: `{}` is every event from now on."""

    after: int | str | None = None
    types: Annotated[tuple[EventType, ...], msgspec.Meta(min_length=1, max_length=100)] | None = None
    equipment: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    coalesce: bool = False


class _Wire(Generic[Piece]):
    """A WebSocket that was accepted."""

    def __init__(
        self, receive: Receive, send: Send, frames: Frames[Piece], form: Literal["text", "frames"]
    ) -> None:
        """`form` is what the server is told a piece is."""
        self._receive = receive
        self._send = send
        self._form = form
        self.frames: Frames[Piece] = frames
        self.closed = False

    async def open(self) -> None:
        """Nothing: it is open since the handshake."""

    async def send(self, piece: Piece) -> None:
        """The server takes it when the client has taken the ones before."""
        try:
            await self._send({"type": "websocket.send", self._form: piece})
        except OSError as error:
            raise Gone from error

    async def first(self) -> str | bytes:
        """What the client says first.

        Raises:
            Gone: it has left.
        """
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Gone
        text: str | None = message.get("text")
        return bytes(message["bytes"]) if text is None else text

    async def until_gone(self) -> None:
        """A client says one thing only."""
        message = await self._receive()
        if message["type"] == "websocket.receive":
            raise Problem(
                "invalid_body",
                "There was a second message; the first says all a client may say.",
                hint="Open another WebSocket to ask for something else.",
            )

    async def end(self, problem: Problem) -> None:
        """The reason as a message, and the closing handshake."""
        details = problem.details(PATH)
        await self.send(self.frames.problem(details))
        await self.close(close_code(details.code), close_reason(details))

    async def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        self.closed = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError as error:
            raise Gone from error

    def last_words(self, problem: Problem) -> bytes:
        """The same, as it stands on the wire."""
        self.closed = True
        details = problem.details(PATH)
        return last_messages(_TEXTS.problem(details), close_code(details.code), close_reason(details))


def _wire(scope: Scope, receive: Receive, send: Send) -> _Wire[Any]:
    """The shorter way where the server has one."""
    if FRAMES in scope.get("extensions", ()):
        return _Wire(receive, send, _FRAMES, "frames")
    return _Wire(receive, send, _TEXTS, "text")


class _Endpoint:
    """Serves the upgrade of one path."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket to its end.

        Raises:
            Problem: the upgrade is refused.
        """
        context = self._context
        headers = {name: value for name, value in scope["headers"] if name in HEADERS}
        by = await context.guard.admit(scope, headers, Permission.READ, scoped=True)
        read_query(scope["query_string"], ())
        with context.streams.admit(by) as place:
            await receive()  # that somebody wants to connect
            await send({"type": "websocket.accept"})
            wire = _wire(scope, receive, send)
            try:
                await self._serve(wire, by, place, scope)
            except (Gone, asyncio.CancelledError) as ended:
                wire.closed = True
                if not isinstance(ended, Gone):
                    raise
            finally:
                if not wire.closed:
                    with contextlib.suppress(Gone):
                        await wire.close(1011, "internal_error: the log of the gateway has the cause")

    async def _serve(self, wire: _Wire[Any], by: Principal, place: Place, scope: Scope) -> None:
        context = self._context
        try:
            plan = self._plan(await self._asked(wire, place), by)
            await Pump(context.ports.live, plan, context.settings, wire).run(place, scope)
            wire.closed = True
        except Problem as problem:
            await wire.end(problem)
        except HistoryUnavailable as error:
            detail = f"The database does not answer: {error.reason}"
            await wire.end(Problem("history_unavailable", detail))

    async def _asked(self, wire: _Wire[Any], place: Place) -> Subscription:
        """The first message, as far as it can be judged by itself."""
        first = asyncio.ensure_future(wire.first())
        try:
            wait_s = self._context.settings.first_message_s
            waited: set[asyncio.Future[Any]] = {first, place.ending}
            await asyncio.wait(waited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if place.ending.done():
                raise place.ending.result()
            if not first.done():
                raise Problem(
                    "body_too_slow",
                    f"No message came within {wait_s:g} s that says what is wanted.",
                    hint='Send {} for all events from now on, or {"after": "stream:seq"} to continue.',
                )
            said = first.result()
        finally:
            first.cancel()
        if isinstance(said, bytes):
            raise Problem("unsupported_media_type", "The message is binary; it has to be text.")
        subscription: Subscription = decoded(said.encode(), Subscription)
        return subscription

    def _plan(self, asked: Subscription, by: Principal) -> Plan:
        live = self._context.ports.live
        types = None if asked.types is None else frozenset(asked.types)
        for place, reason, hint in judged(live, by, asked.equipment, types, coalesce=asked.coalesce):
            raise _refused(place, reason, hint)
        position = live.position()
        after = position.last_seq
        if asked.after is not None:
            cursor = parse_cursor(str(asked.after))
            if cursor is None:
                hint = "Write a sequence number, or stream:seq as an earlier message gave it."
                raise _refused("after", "it is not a cursor", hint)
            after = resume_after(cursor, position)
        equipment = None if asked.equipment is None else frozenset(asked.equipment)
        return Plan(position, after, Selection(types, equipment, by), asked.coalesce)


def _refused(place: str, reason: str, hint: str) -> Problem:
    error = ParameterError("body", place, reason, hint)
    return Problem("invalid_body", f'"{place}": {reason}', hint=hint, errors=(error,))


def serve_websocket(app: FastAPI, context: Context) -> None:
    """Add the WebSocket to the application."""
    app.router.routes.append(WebSocketRoute(PATH, _Endpoint(context), name="websocket_events"))


# What a plain request gets ----------------------------------------------------------------------------------


async def open_websocket(_: Context, __: Call) -> Response:
    """Refuse a request that does not ask for the upgrade."""
    raise Problem(
        "upgrade_required",
        "Events are told here over a WebSocket only.",
        headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
    )


_EXAMPLES = {
    "the first": msgspec.to_builtins(Begun(EXAMPLE_CURSOR, 2.0, 15.0)),
    "silence": msgspec.to_builtins(Heartbeat(None)),
    "left out": msgspec.to_builtins(LeftOut(EXAMPLE_CURSOR.partition(":")[0], 1042, 3042, 1994)),
}


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            PATH,
            "events",
            "Every event, over a WebSocket",
            _DESCRIPTION,
            open_websocket,
            (
                Answer(
                    101,
                    "The upgrade. The client sends a `Subscription` and is told messages: the `type` of each "
                    "is `begin`, `event`, `heartbeat`, `left_out` or `problem`.",
                    "application/json",
                    (Subscription, Begun, Heartbeat, LeftOut, Told, Ended),
                    _EXAMPLES,
                ),
            ),
            (),
            ("upgrade_required", "too_many_streams", "stopping", "stalled"),
            needs=Permission.READ,
            scoped=True,
        ),
    )


_DESCRIPTION = """
The stream of `/events` for clients that prefer a WebSocket. The first message is the client's, and its only
one: `{"after": "stream:seq", "types": [...], "equipment": [...], "coalesce": false}`, all of it optional.
Every message to the client is a JSON object. An `event` has a `cursor` to continue after and the `event`, the
bytes that were journalled. The last one is a `problem`; then the connection is closed, with 1012 when the
gateway stops, 1013 when it is enough to connect again after the last cursor, 1011 when the gateway failed,
and 1008 when the same would be refused again.
"""
