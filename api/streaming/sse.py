"""Server-sent events: a stream as a response that goes on until somebody ends it."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access import Permission, Principal
from api.cursor import resume_after
from api.examples import EVENT_STREAM, EXAMPLE_CURSOR
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import EVENT_TYPES, Param, cursor, invalid_parameter, names, one_of, read_cursor, read_header
from api.params import some_of as some_of_words
from api.problems import Problem
from api.responses import BASE_HEADERS, NO_STORE
from api.settings import ApiSettings
from api.streaming.frames import EventStreamFrames, last_chunk
from api.streaming.pump import Plan, Pump
from api.streaming.selection import Selection
from api.streaming.wanted import judged
from api.streams import Streams

_HEADERS = ((b"content-type", b"text/event-stream"), NO_STORE, (b"x-accel-buffering", b"no"), *BASE_HEADERS)
_FRAMES = EventStreamFrames()


class _Wire:
    """A response that is being sent."""

    frames = _FRAMES

    def __init__(self, path: str, receive: Receive, send: Send) -> None:
        self._path = path
        self._receive = receive
        self._send = send

    async def open(self) -> None:
        """The head of the response."""
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})

    async def send(self, piece: bytes) -> None:
        """The server takes it when the client has taken the ones before."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def until_gone(self) -> None:
        """Only a lost connection is heard of: the request has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def end(self, problem: Problem) -> None:
        """The reason as an event, and the end of the response."""
        told = self.frames.problem(problem.details(self._path))
        await self._send({"type": "http.response.body", "body": told, "more_body": False})

    def last_words(self, problem: Problem) -> bytes:
        """The same, as the last chunk."""
        return last_chunk(self.frames.problem(problem.details(self._path)))


class EventStream(Response):
    """Told from a cursor on, until the client leaves, stops reading, or the gateway ends it."""

    def __init__(self, context: Context, plan: Plan, by: Principal) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_HEADERS)
        self._live = context.ports.live
        self._settings: ApiSettings = context.settings
        self._streams: Streams = context.streams
        self._plan = plan
        self._by = by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream to its end.

        Raises:
            Problem: there is no place for another stream, or the cursor is too old.
            HistoryUnavailable: the first events cannot be read.
        """
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        with self._streams.admit(self._by) as place:
            wire = _Wire(scope["path"], receive, send)
            await Pump(self._live, self._plan, self._settings, wire).run(place, scope)


async def stream_events(context: Context, call: Call) -> Response:
    """Open a stream after a cursor, or from now on."""
    live = context.ports.live
    given = call.headers.get(b"last-event-id")
    place = read_header(given, LAST_EVENT_ID) if given else call.query["after"]
    names_, types = call.query["equipment"], call.query["types"]
    coalesce = call.query["coalesce"] == "true"
    for parameter, reason, hint in judged(live, call.by, names_, types, coalesce=coalesce):
        raise invalid_parameter(parameter, reason, hint)
    position = live.position()
    after = position.last_seq if place is None else resume_after(place, position)
    selection = Selection(types, frozenset(names_) if names_ else None, call.by)
    return EventStream(context, Plan(position, after, selection, coalesce), call.by)


_AFTER = cursor(
    "Continue after this event: a sequence number, or `stream:seq`. Without it the stream begins now; with 0 "
    "at the first event. `Last-Event-ID` wins over it."
)
LAST_EVENT_ID = Param(
    "Last-Event-ID",
    read_cursor,
    {"type": "string"},
    "The `id` of the last event received. Browsers send it by themselves when they reconnect to the same "
    "address, so it wins over `after`.",
    EXAMPLE_CURSOR,
    "header",
)
COALESCE = one_of(
    "coalesce",
    ("true", "false"),
    "With `true`, a client that has fallen behind is told the newest transition of each equipment, and how "
    "many events were left out, in place of all of them.",
)


def operations(_: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/events",
            "events",
            "Every event, as it happens",
            _DESCRIPTION,
            stream_events,
            (
                Answer(
                    200,
                    "Server-sent events, for ever. `event` is the type, `id` the cursor, `data` the event.",
                    "text/event-stream",
                    {"type": "string"},
                    {"a transition": EVENT_STREAM},
                ),
            ),
            (
                _AFTER,
                some_of_words("types", EVENT_TYPES, "Only events of these types, separated by commas."),
                names("equipment", "Only events of this equipment, separated by commas.", "filler-1"),
                COALESCE,
                LAST_EVENT_ID,
            ),
            (
                "too_old",
                "other_stream",
                "from_the_future",
                "too_many_streams",
                "stopping",
                "history_unavailable",
                "stalled",
            ),
            needs=Permission.READ,
            scoped=True,
        ),
    )


_DESCRIPTION = """
Tells every event after a cursor, in order and without a gap, and then each new one when it is journalled. The
`data` of an event are exactly the bytes that were journalled.

A comment breaks every silence; when a filter passed events over, it brings an `id` with it, so that a client
that reconnects does not read them again. A client that takes nothing for some time is cut off: it can
reconnect where it stopped. The last event is of the type `problem` and says why the stream ends. 410 and 416
mean that the cursor is of no use any more; the answer says where to take a snapshot and start again.
"""
