"""One stream from its cursor to its end: what server-sent events and WebSockets have in common.

A client is fed by a task of its own that asks for the next events only after the last ones were taken, so a
client that stops reading holds nothing but its own place, and loses it after a while. Knows cursors, silence
and reasons to end; does not know the form in which anything is told, nor where the events are held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import Any, Generic, Protocol

import msgspec

from api.cursor import too_old
from api.ports import HistoryUnavailable, LiveView, StreamPosition, TooOld
from api.problems import Problem
from api.settings import ApiSettings
from api.streaming.frames import Frames, Piece
from api.streaming.selection import Abridging, Selection
from api.streams import Place
from statemodel.records import Recorded

_log = logging.getLogger("andon.api.stream")

#: Key in the ASGI state under which our server hands over the transport of the connection.
TRANSPORT = "andon_transport"


class Gone(Exception):
    """The client has left."""


class StalledError(Exception):
    """The client has taken nothing for as long as it is allowed to."""


#: Reasons for a stream to end; everything else is a defect.
_FORESEEN = (Gone, StalledError, TooOld, HistoryUnavailable, Problem)


class Plan(msgspec.Struct, frozen=True):
    """What one client is to be told: events after `after` that the selection takes, abridged if it agrees."""

    position: StreamPosition
    after: int
    selection: Selection
    coalesce: bool = False


class Wire(Protocol, Generic[Piece]):
    """One connection and the form in which it is told things."""

    @property
    def frames(self) -> Frames[Piece]:
        """The form."""
        ...

    async def open(self) -> None:
        """Begin the answer, where it has not begun."""
        ...

    async def send(self, piece: Piece) -> None:
        """Hand over a piece; returns when those before it were taken.

        Raises:
            Gone: there is nobody any more.
        """
        ...

    async def until_gone(self) -> None:
        """Return when the client has left.

        Raises:
            Problem: it said something it may not.
        """
        ...

    async def end(self, problem: Problem) -> None:
        """Say why, and end politely."""
        ...

    def last_words(self, problem: Problem) -> bytes:
        """The same as bytes on the wire, for a client that takes nothing at the moment."""
        ...


class Pump(Generic[Piece]):
    """Feeds one client. Run it once."""

    def __init__(self, live: LiveView, plan: Plan, settings: ApiSettings, wire: Wire[Piece]) -> None:
        self._live = live
        self._plan = plan
        self._settings = settings
        self._wire: Wire[Piece] = wire
        self._stream = plan.position.stream
        # With events waiting, the first step is taken before the answer begins: "too old" is then still an
        # answer of its own and not a stream that breaks off.
        self._behind = plan.after < plan.position.last_seq
        self._passed = plan.after  # the last event the source gave, wanted or not
        self._told = plan.after  # the last cursor the client has been sent
        self._started = self._opened = False
        self._wrote_at = 0.0
        self._writing = asyncio.Lock()

    async def run(self, place: Place, scope: Any) -> None:
        """Serve the stream to its end.

        Raises:
            Problem: before anything was told: the cursor is too old, or the events cannot be read.
        """
        gone = asyncio.create_task(self._wire.until_gone())
        telling = asyncio.create_task(self._tell())
        beating = asyncio.create_task(self._beat())
        first: set[asyncio.Future[Any]] = {gone, place.ending, telling, beating}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            refused = gone.exception() if gone.done() else None
            left = gone.done() and refused is None
            failure = await _end(telling, beating)
            if failure is not None and not isinstance(failure, _FORESEEN):
                raise failure
            if left or isinstance(failure, Gone):
                return
            if place.ending.done():
                failure = failure if isinstance(failure, StalledError) else place.ending.result()
            await self._finish(refused or failure, place, scope, gone)
        finally:
            await _end(gone, telling, beating)

    async def _tell(self) -> None:
        """Tell what the source gives, at the pace at which the client takes it."""
        plan = self._plan
        source: AsyncIterator[Sequence[Recorded]] = self._live.events(plan.after, plan.selection.takes)
        abridging = (
            Abridging(plan.selection, self._settings.coalesce_behind_events) if plan.coalesce else None
        )
        try:
            if not self._behind:
                await self._start()
            async for events in source:
                await self._start()
                if events:
                    if abridging and abridging.begin(self._passed_or(events), self._live.position().last_seq):
                        await self._abridge(abridging, events)
                    else:
                        await self._tell_all(plan.selection.of(events))
                        self._passed = events[-1].seq
                await asyncio.sleep(0)  # a client with much to catch up on gives way to the others
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def _passed_or(self, events: Sequence[Recorded]) -> int:
        """The number before the next event: what the source gave may begin later where one is damaged."""
        return min(self._passed, events[0].seq - 1)

    async def _tell_all(self, events: Sequence[Recorded]) -> None:
        for piece, last_seq in self._wire.frames.events(events):
            async with self._writing:
                await self._write(piece)
                self._told = self._passed = last_seq

    async def _abridge(self, abridging: Abridging, events: Sequence[Recorded]) -> None:
        abridged = abridging.take(events)
        if abridged is None:
            return
        if abridged.left_out.count:
            async with self._writing:
                await self._write(self._wire.frames.left_out(abridged.left_out))
        await self._tell_all(abridged.events)
        self._passed = abridged.up_to

    async def _beat(self) -> None:
        """Break every silence that is long enough for somebody on the way to think the stream dead."""
        loop = asyncio.get_running_loop()
        heartbeat_s = self._settings.heartbeat_s
        while True:
            silent_s = loop.time() - self._wrote_at if self._started else 0.0
            if silent_s < heartbeat_s:
                await asyncio.sleep(heartbeat_s - silent_s)
                continue
            async with self._writing:  # what it says is true only while nobody else writes
                seq = None if self._told == self._passed else self._passed
                await self._write(self._wire.frames.heartbeat(self._stream, seq))
                self._told = self._passed

    async def _start(self) -> None:
        """Begin the answer, unless it has begun."""
        if self._started:
            return
        async with self._writing:
            self._started = True
            await self._bounded(self._wire.open())
            self._opened = True
            times_ms = (self._settings.retry_ms, int(self._settings.heartbeat_s * 1000))
            await self._write(self._wire.frames.begin(self._stream, self._passed, times_ms))

    async def _write(self, piece: Piece) -> None:
        await self._bounded(self._wire.send(piece))
        self._wrote_at = asyncio.get_running_loop().time()

    async def _bounded(self, sending: Awaitable[None]) -> None:
        """Wait no longer for what was sent before to be taken than is allowed."""
        try:
            async with asyncio.timeout(self._settings.stall_s):
                await sending
        except TimeoutError:
            raise StalledError from None

    async def _finish(
        self, failure: BaseException | None, place: Place, scope: Any, gone: asyncio.Task[None]
    ) -> None:
        """End the stream in the way its reason asks for."""
        match failure:
            case StalledError():
                place.stalled()
                stall_s = self._settings.stall_s
                _log.warning("event stream closed: the client took nothing for %g s", stall_s)
                detail = f"Nothing was taken for {stall_s:g} s."
                await self._cut_off(Problem("stalled", detail), scope, gone)
                return
            case TooOld():
                problem = too_old(self._passed, failure.position)
            case HistoryUnavailable():
                problem = Problem("history_unavailable", f"The database does not answer: {failure.reason}")
            case Problem():
                problem = failure
            case _:
                raise AssertionError("a stream has no end of its own")
        if not self._started:
            raise failure if isinstance(failure, HistoryUnavailable) else problem
        _log.info("event stream ended after %s: %s", self._passed, problem)
        try:
            async with asyncio.timeout(self._settings.last_word_s):
                await self._wire.end(problem)
        except TimeoutError:
            await self._cut_off(problem, scope, gone)
        except Gone:
            pass

    async def _cut_off(self, problem: Problem, scope: Any, gone: asyncio.Task[None]) -> None:
        """Put the last words behind what waits to be taken, and drop the connection when it is not taken."""
        transport = scope.get("state", {}).get(TRANSPORT)
        if transport is None or gone.done():
            return
        if self._opened:
            transport.write(self._wire.last_words(problem))
        await asyncio.wait({gone}, timeout=self._settings.last_word_s)
        transport.abort()
        await asyncio.wait({gone}, timeout=self._settings.last_word_s)


async def _end(*tasks: asyncio.Task[None]) -> BaseException | None:
    """Cancel what still runs, wait for it, and give the first failure that is not a cancellation."""
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = (result for result in results if result is not None)
    return next((failure for failure in failures if not isinstance(failure, asyncio.CancelledError)), None)
