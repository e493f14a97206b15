"""Saying events: every one, in order, and the cursor where the broker certainly stands.

The journal's cursor moves over an event when its acknowledgement and those of all before it have arrived, so
an event can come twice (same id) but never be missing. For the same reason, what a lost broker acknowledged
in its last moments is said again. Memory is bounded by one reading and by what is in flight, however long the
outage was.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import structlog

from connectors.base import Clock
from gateway.historian.values import Backlog
from gateway.journal.values import Cursor
from gateway.mqtt.link import Link, MessageRefused
from gateway.publish.draining import Draining
from gateway.publish.order import Acknowledged, Lately
from gateway.publish.source import EventSource
from gateway.publish.states import States
from gateway.publish.voice import Voice
from statemodel.records import Recorded
from statemodel.types import Transition

#: Most events in memory at once.
READ_MAX = 256

#: Least time between two writes of the cursor, in seconds.
SAVE_EVERY_S = 0.25

#: How long a connection has to last after an acknowledgement for that to count for ever, in seconds: a broker
#: that dies may have acknowledged events without having passed them on. They are said again.
REPEAT_S = 2.0

#: While a backlog is said, the states of all equipment are looked at this often, in seconds.
LOOK_EVERY_S = 0.1

#: Time between two looks at whether the broker has said anything, in seconds.
ALIVE_EVERY_S = 0.5

#: An event that the broker refuses is tried again this often, in seconds.
REFUSED_AGAIN_S = 30.0

#: A batch number no journal reaches: we wait for events only.
NEVER = sys.maxsize

log = structlog.get_logger(__name__)


class Events:
    """The events of the journal for one broker, and that sink's cursor."""

    def __init__(
        self,
        sink: str,
        journal: EventSource,
        states: States,
        voice: Voice,
        clock: Clock,
        tell_refused: Callable[[MessageRefused], None],
    ) -> None:
        self._tell_refused, self._refused = tell_refused, asyncio.Event()
        self._sink, self._journal, self._clock = sink, journal, clock
        self._states, self._voice = states, voice
        self._acked = Acknowledged()
        self._saved_seq = 0
        self._lately = Lately(REPEAT_S, clock.monotonic(), 0)
        self._alive_s = clock.monotonic()
        self._followed: Lately | None = None
        self._moved = asyncio.Event()
        self._waiting_since: datetime | None = None
        self._draining = Draining(clock.monotonic(), 0, 0)
        self.told = 0
        """Events the broker acknowledged; one that was said again counts again."""

    # -- how it goes

    @property
    def lag(self) -> int:
        """Events the broker has not acknowledged, or that are to be said again."""
        return max(0, self._journal.position.last_seq - self._acked.seq)

    @property
    def oldest_unsent_at(self) -> datetime | None:
        """When the oldest of them was recorded, as far as is known."""
        return (self._acked.oldest_at or self._waiting_since) if self.lag else None

    def backlog(self, *, connected: bool) -> Backlog | None:
        """What gathered, how fast it goes out, and when it will be out; None when there is nothing."""
        lag = self.lag
        if not lag or (connected and lag <= READ_MAX):
            return None
        if not connected:
            return Backlog(lag, 0, None)
        per_s, left_s = self._draining.outlook(lag, self._clock.monotonic())
        at = None if left_s is None else self._clock.now() + left_s
        return Backlog(lag, 0, at, per_s)

    # -- life

    async def begin(self) -> None:
        """Find the place to go on from.

        Raises:
            GatewayError: the journal failed.
        """
        self._journal.require(self._sink, events=True, batches=False)
        self._saved_seq = (await self._journal.cursor(self._sink)).seq
        first_seq = self._journal.position.first_seq
        seq = max(self._saved_seq, first_seq - 1)  # what was freed before this sink came never comes
        self._acked = Acknowledged(seq)
        self._lately = self._followed or Lately(REPEAT_S, self._clock.monotonic(), seq)
        self._followed = None
        if 0 < self._saved_seq < seq:
            log.warning(
                "the journal no longer holds all events this broker has not had; they stay untold there",
                sink=self._sink,
                missing=seq - self._saved_seq,
                hint="was the broker out of the configuration for long? the database has them",
            )

    async def say(self, link: Link) -> None:
        """Say what the broker has not acknowledged, then what comes, until the connection is over.

        When the broker refuses an event, events wait and that one is tried again: it is never passed over.
        States go on meanwhile.
        """
        while True:
            self._refused.clear()
            going_on = asyncio.create_task(self._say_on(link))
            refused = asyncio.create_task(self._refused.wait())
            try:
                await asyncio.wait({going_on, refused}, return_when=asyncio.FIRST_COMPLETED)
                if going_on.done():
                    await going_on
            finally:
                for task in (going_on, refused):
                    task.cancel()
                await asyncio.gather(going_on, refused, return_exceptions=True)
            while self._refused.is_set():
                self._waiting_since = self._acked.oldest_at
                self._acked = Acknowledged(self._acked.seq)
                await self._say_states_only(link, self._clock.monotonic() + REFUSED_AGAIN_S)
                await self._try_first(link)

    async def _try_first(self, link: Link) -> None:
        """Say the refused one alone: those behind it would come again with every try."""
        self._refused.clear()
        await self._say(link, await self._journal.read(self._acked.seq, 1))
        while len(self._acked) and not self._refused.is_set():
            await self._say_states_only(link, self._clock.monotonic())

    async def _say_states_only(self, link: Link, until_s: float) -> None:
        while True:
            await self._states.say(link, self._states.names, {})
            await self._clock.sleep(LOOK_EVERY_S)
            if self._clock.monotonic() >= until_s:
                return

    async def _say_on(self, link: Link) -> None:
        journal, states = self._journal, self._states
        after = self._acked.seq
        self._draining = Draining(self._clock.monotonic(), after, journal.position.last_seq)
        looked_s, is_all_looked_at = self._clock.monotonic(), True
        while True:
            last = journal.position.last_seq
            events = await journal.read(after, READ_MAX)
            if not events and last > after:  # they cannot be read; the journal says so elsewhere
                self._acked.sent(last, link.connected_at)
                self._acknowledge(last, told=False)
                after = last
            if not events:
                await journal.wait_beyond(after, NEVER)
                continue
            after = events[-1].seq
            # States do not queue behind a backlog: while there is one, look at all equipment now and then.
            newest = {event.equipment: event for event in events if type(event.event) is Transition}
            if after >= journal.position.last_seq and is_all_looked_at:
                await states.say(link, newest, newest)
            elif after >= journal.position.last_seq or self._clock.monotonic() - looked_s >= LOOK_EVERY_S:
                looked_s, is_all_looked_at = self._clock.monotonic(), True
                await states.say(link, states.names, newest)
            else:
                is_all_looked_at = False
            await self._say(link, events)

    async def _say(self, link: Link, events: Sequence[Recorded]) -> None:
        looked_s = self._clock.monotonic()
        for event in events:
            if self._refused.is_set():
                return  # events wait behind the one that is refused, also in the moment before `say` stops us
            while link.full:
                await link.room()
                if (now_s := self._clock.monotonic()) - looked_s >= LOOK_EVERY_S:
                    looked_s = now_s  # a slow line: a batch can take longer than a state may wait
                    await self._states.say(link, self._states.names, {})
            self._acked.sent(event.seq, event.recorded_at)
            if not self._voice.event(link, event, partial(self._acknowledge, event.seq), self._is_refused):
                self._acknowledge(event.seq, told=False)

    def _acknowledge(self, seq: int, *, told: bool = True) -> None:
        self.told += told
        if self._acked.done(seq):
            self._waiting_since = None  # the next that waits is younger
            self._moved.set()

    def _is_refused(self, refused: MessageRefused) -> None:
        self._refused.set()
        self._tell_refused(refused)

    async def watch(self, link: Link) -> None:
        """Note when the broker was last heard, until the connection is over: a silence is missed late.

        What came since the last look may have come right after it: this process may have stood still since.
        """
        heard, looked_s = -1, self._clock.monotonic()
        while True:
            if (now := link.acknowledged + link.heard) != heard:
                heard, self._alive_s = now, looked_s
            looked_s = self._clock.monotonic()
            await self._clock.sleep(ALIVE_EVERY_S)

    async def connection_over(self) -> None:
        """Keep the cursor. What this broker acknowledged in its last moments is as if it had not: it has to
        last anew. They are the last before it fell silent, which is noticed a keep-alive later."""
        certain = self._lately.seq(self._alive_s)
        await self.save()
        self._acked = Acknowledged(certain)
        self._lately = Lately(REPEAT_S, self._clock.monotonic(), certain)

    async def handed_over(self) -> None:
        """The connection stands, and another one goes on with it from the cursor; see `follow`."""
        await self.save()
        self._followed = self._lately

    def follow(self, before: Events) -> None:
        """Before `begin`: go on with the connection of another, and with what is not certain there yet."""
        self._followed, self._alive_s, self.told = before._followed, before._alive_s, before.told

    async def wait_out(self, pause_s: float) -> None:
        """Sleep, and note since when something waits, also when it comes only now."""
        self._waiting_since = None
        resting = asyncio.create_task(self._clock.sleep(pause_s))
        news = asyncio.create_task(self._journal.wait_beyond(self._acked.seq, NEVER))
        try:
            await asyncio.wait({resting, news}, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                await news
                waiting = await self._journal.read(self._acked.seq, 1)
                self._waiting_since = waiting[0].recorded_at if waiting else None
            await resting
        finally:
            resting.cancel()
            news.cancel()

    # -- cursor

    async def keep_cursor(self) -> None:
        """Keep the cursor whenever it has moved, for ever."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self.save()
            await self._clock.sleep(SAVE_EVERY_S)

    async def save(self) -> None:
        """Keep the cursor where the broker stands."""
        seq, now_s = self._acked.seq, self._clock.monotonic()
        self._lately.note(now_s, seq)
        self._draining.note(now_s, seq, self._journal.position.last_seq)
        if seq > self._saved_seq:
            await self._journal.advance(self._sink, Cursor(seq=seq))
            self._saved_seq = seq
