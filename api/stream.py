"""Server-sent events: the one sequence, from a cursor on, for as long as the client reads.

Each client is fed by a task of its own that asks for the next events only after the last ones were taken,
so a client that stops reading holds nothing but its own place, and loses it after a while. What is told are
the journal's bytes. Knows cursors and frames; does not know where the events are held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access import Permission
from api.cursor import resume_after, too_old, write_cursor
from api.examples import EVENT_STREAM, EXAMPLE_CURSOR
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import EVENT_TYPES, Param, cursor, invalid_parameter, names, read_cursor, read_header, some_of
from api.ports import HistoryUnavailable, StreamPosition, TooOld
from api.responses import BASE_HEADERS, NO_STORE
from api.routes.find import equipment_hint
from api.settings import ApiSettings
from api.streams import Streams
from statemodel.records import Recorded

_log = logging.getLogger("andon.api.stream")

_CHUNK_BYTES_MAX = (
    32_768  # small against a socket's buffer: each chunk taken is progress the stall clock sees
)
_LAST_WORD_S = 1.0  # for the end of a stream; who does not take it in time is cut off

#: Key in the ASGI state under which our server hands over the means to cut a connection off.
ABORT = "andon_abort"

_HEADERS = ((b"content-type", b"text/event-stream"), NO_STORE, (b"x-accel-buffering", b"no"), *BASE_HEADERS)


class StalledError(Exception):
    """The client has taken nothing for as long as it is allowed to."""


def frame(event: Recorded) -> bytes:
    """One event as a server-sent event: `id` is its cursor, `data` the bytes of the journal."""
    return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (
        event.stream.encode(),
        event.seq,
        event.type.encode(),
        event.json,
    )


class Selection:
    """Which events a client wants; None means all."""

    def __init__(self, types: frozenset[str] | None, equipment: frozenset[str] | None) -> None:
        self._types = types
        self._equipment = equipment

    def takes(self, event: Recorded) -> bool:
        """Whether the event is wanted."""
        return (self._types is None or event.type in self._types) and (
            self._equipment is None or event.equipment in self._equipment
        )


def chunks(events: Sequence[Recorded], selection: Selection) -> Iterator[tuple[bytes, int]]:
    """The wanted events as frames, joined up to a size worth a write, each with the last sequence in it."""
    frames: list[bytes] = []
    size = last_seq = 0
    for event in events:
        if selection.takes(event):
            frames.append(frame(event))
            last_seq = event.seq
            size += len(frames[-1])
            if size >= _CHUNK_BYTES_MAX:
                yield b"".join(frames), last_seq
                frames, size = [], 0
    if frames:
        yield b"".join(frames), last_seq


class EventStream(Response):
    """A response that goes on until the client leaves, stops reading, or the gateway ends it."""

    def __init__(
        self,
        source: AsyncIterator[Sequence[Recorded]],
        position: StreamPosition,
        after: int,
        selection: Selection,
        settings: ApiSettings,
        streams: Streams,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_HEADERS)
        self._source = source
        self._stream = position.stream
        # With events waiting, the first step is taken before the answer begins: "too old" is then still a
        # problem document and not a stream that breaks off.
        self._behind = after < position.last_seq
        self._passed = after  # the last event the source gave, wanted or not
        self._told = after  # the last cursor the client has been sent
        self._selection = selection
        self._settings = settings
        self._streams = streams
        self._started = False
        self._wrote_at = 0.0
        self._writing = asyncio.Lock()

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
        with self._streams.admit() as ending:
            gone = asyncio.create_task(_until_gone(receive))
            work = (asyncio.create_task(self._pump(send)), asyncio.create_task(self._beat(send)))
            try:
                await asyncio.wait({gone, ending, *work}, return_when=asyncio.FIRST_COMPLETED)
                left = gone.done()
                failure = await _end(*work)
                if not left:
                    await self._finish(failure, scope, send, gone)
            finally:
                await _end(gone, *work)

    async def _pump(self, send: Send) -> None:
        """Tell what the source gives, at the pace at which the client takes it."""
        try:
            if not self._behind:
                await self._start(send)
            async for events in self._source:
                await self._start(send)
                for chunk, last_seq in chunks(events, self._selection):
                    async with self._writing:
                        await self._write(send, chunk)
                        self._told = self._passed = last_seq
                if events:
                    self._passed = events[-1].seq
                await asyncio.sleep(0)  # a client with much to catch up on gives way to the others
        finally:
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()

    async def _beat(self, send: Send) -> None:
        """Break every silence that is long enough for somebody on the way to think the stream dead."""
        loop = asyncio.get_running_loop()
        heartbeat_s = self._settings.heartbeat_s
        while True:
            silent_s = loop.time() - self._wrote_at if self._started else 0.0
            if silent_s < heartbeat_s:
                await asyncio.sleep(heartbeat_s - silent_s)
                continue
            async with self._writing:  # what it says is true only while nobody else writes
                await self._write(send, self._heartbeat())
                self._told = self._passed

    def _heartbeat(self) -> bytes:
        """A comment; with the cursor when events were passed over, so that a resume skips them too."""
        if self._told == self._passed:
            return b": heartbeat\n\n"
        return b": heartbeat\nid: %b\n\n" % write_cursor(self._stream, self._passed).encode()

    async def _start(self, send: Send) -> None:
        """Begin the answer, unless it has begun."""
        if self._started:
            return
        async with self._writing:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            start = write_cursor(self._stream, self._passed).encode()
            await self._write(send, b"retry: %d\nid: %b\n\n" % (self._settings.retry_ms, start))

    async def _write(self, send: Send, chunk: bytes) -> None:
        """Hand bytes to the server, which takes them when the client has taken the ones before."""
        try:
            async with asyncio.timeout(self._settings.stall_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise StalledError from None
        self._wrote_at = asyncio.get_running_loop().time()

    async def _finish(
        self, failure: BaseException | None, scope: Scope, send: Send, gone: asyncio.Task[None]
    ) -> None:
        """End the response in the way its reason asks for."""
        match failure:
            case StalledError():
                self._streams.stalled()
                _log.warning("event stream closed: the client took nothing for %g s", self._settings.stall_s)
                await _cut_off(scope, gone)
            case TooOld() if not self._started:
                raise too_old(self._passed, failure.position)
            case HistoryUnavailable() if not self._started:
                raise failure
            case None | TooOld() | HistoryUnavailable():
                if failure is not None:
                    _log.warning("event stream ended after %s: %s", self._passed, failure)
                await self._start(send)
                try:
                    async with asyncio.timeout(_LAST_WORD_S):
                        await send({"type": "http.response.body", "body": b": end\n\n", "more_body": False})
                except TimeoutError:
                    await _cut_off(scope, gone)
            case _:
                raise failure


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Task[None]) -> BaseException | None:
    """Cancel what still runs, wait for it, and give the first failure that is not a cancellation."""
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = (result for result in results if result is not None)
    return next((failure for failure in failures if not isinstance(failure, asyncio.CancelledError)), None)


async def _cut_off(scope: Scope, gone: asyncio.Task[None]) -> None:
    """Drop the connection with whatever is still buffered; a polite close would wait for the client."""
    abort = scope.get("state", {}).get(ABORT)
    if abort is not None:
        abort()
        await asyncio.wait({gone}, timeout=_LAST_WORD_S)


# The route --------------------------------------------------------------------------------------------------


async def stream_events(context: Context, call: Call) -> Response:
    """Open a stream after a cursor, or from now on."""
    live = context.ports.live
    wanted = call.query["equipment"]
    for name in wanted or ():
        if live.equipment_named(name) is None:
            reason = f'no equipment is named "{name}"'
            raise invalid_parameter("equipment", reason, equipment_hint(live, name))
    given = call.headers.get(b"last-event-id")
    place = read_header(given, LAST_EVENT_ID) if given else call.query["after"]
    position = live.position()
    after = position.last_seq if place is None else resume_after(place, position)
    selection = Selection(call.query["types"], frozenset(wanted) if wanted else None)
    source = live.events(after)
    return EventStream(source, position, after, selection, context.settings, context.streams)


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
                some_of("types", EVENT_TYPES, "Only events of these types, separated by commas."),
                names("equipment", "Only events of this equipment, separated by commas.", "filler-1"),
                LAST_EVENT_ID,
            ),
            (
                "too_old",
                "other_stream",
                "from_the_future",
                "too_many_streams",
                "stopping",
                "history_unavailable",
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
reconnect where it stopped. 410 and 416 mean that the cursor is of no use any more; the answer says where to
take a snapshot and start again.
"""
