"""One connection of the edge node, once it may speak: births, what is new, what gathered, in that order.

What is new does not queue behind history: both are told side by side, a bounded stretch of each at a time,
and each goes on when the broker has read its last one. On a slow link values of tags are overtaken by newer
ones, and follow as history when there is room; events never are. The session says what the messages are, the
outbox sends them; the journal is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from connectors.base import Clock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.journal.values import Cursor
from gateway.sparkplug.due import DueTags
from gateway.sparkplug.links import Links
from gateway.sparkplug.messages import NODE, Now, Publication
from gateway.sparkplug.outbox import Outbox
from gateway.sparkplug.past import Page, pages
from gateway.sparkplug.present import Present
from gateway.sparkplug.progress import Progress
from gateway.sparkplug.session import Session
from gateway.sparkplug.source import RecordSource
from gateway.together import together
from statemodel.records import Recorded
from statemodel.types import SourceLost, SourceRestored

#: Most events read at once.
READ_MAX = 256
#: Most values of tags told in one go, and how long further ones are waited for, in seconds.
TAGS_MAX, GATHER_S = 500, 0.02
#: How often it is looked whether births are owed, in seconds.
OWED_EVERY_S = 0.25
#: So long overtaken values gather before they are read from the journal, in seconds.
OVERTAKEN_EVERY_S = 0.5
#: Longest time in which what is on its way may come to rest before another goes on, in seconds.
REST_S = 2.0
#: A batch number no journal reaches.
_NEVER = sys.maxsize

#: Asks the session for its births.
Birth = Callable[[Now], tuple[Publication, ...]]


class Telling:
    """What is told on one connection. Of no use when that is over."""

    def __init__(
        self,
        *,
        session: Session,
        outbox: Outbox,
        journal: RecordSource,
        present: Present,
        progress: Progress,
        links: Links,
        due: DueTags,
        history_tags: Collection[str],
        clock: Clock,
        devices: Sequence[str],
        connections: Sequence[str],
    ) -> None:
        self._session, self._outbox, self._journal = session, outbox, journal
        self._present, self._progress, self._links = present, progress, links
        self._due, self._history_tags, self._clock = due, frozenset(history_tags), clock
        self._devices, self._connections = devices, connections
        #: Connections whose loss was read, and not yet all that was recorded with it.
        self._lost: dict[str, None] = {}
        #: Connections that were seen to be lost at the last look, and what was recorded at the one after.
        self._seen: frozenset[str] = frozenset()
        self._seen_by: int | None = None
        #: Whether the broker has yet to read values of tags; to begin with, those of the births.
        self._on_their_way = True
        #: Tags whose values were overtaken, and up to which batch: these are still to be told, as history.
        self._overtaken: set[str] = set()
        self._overtaken_upto = 0
        #: Up to here all that is recorded has been handed in: a value is recorded a moment before.
        self._all_upto = 0
        self._overtook = asyncio.Event()
        #: What is true once the broker has read what was handed in last, by who handed it in.
        self._then: dict[str, Callable[[], None]] = {}
        #: Values of tags up to here that another has not told are told as history.
        self._gap_upto = 0
        #: Values told as history.
        self.historical = 0

    def now(self) -> Now:
        """The time, as the session wants it."""
        return Now(self._clock.now(), self._clock.monotonic())

    def be_born(self, birth: Birth, since: Cursor) -> None:
        """Show what is true at this instant; what the journal holds after `since` and up to now is history.

        Nothing is awaited here, so states, links and numbers belong to the same instant.
        """
        session, present, now = self._session, self._present, self.now()
        seq = present.position().last_seq
        for device in self._devices:
            session.know(present.state(device), now, present.why(device))
        for name in self._connections:
            session.connection(name, present.is_up(name), now)
        session.samples(self._due.take(), now)
        self._due.overtaken()  # the journal has them, up to the births
        batch = self._journal.position.last_batch
        self._progress.born(since, Cursor(seq, batch), now.at)
        self._links.look(present.is_lost)
        for device in self._devices:
            session.link(device, self._has_past or self._links.lives(device), now)
        self._outbox.put(birth(now))

    def go_on(self, deaths: Iterable[Publication]) -> None:
        """As `be_born` where hosts know another configuration, which the session has taken over: only what
        differs is born. What the record says since then is told as news. Nothing is awaited here.
        """
        session, present, outbox, now = self._session, self._present, self._outbox, self.now()
        outbox.put(deaths)
        for device in self._devices:
            if not session.knows(device):
                session.know(present.state(device), now, present.why(device))
        if not session.knows():
            for name in self._connections:
                session.connection(name, present.is_up(name), now)
        outbox.put(session.samples(self._due.take(), now))
        self._due.overtaken()
        self._gap_upto = self._journal.position.last_batch
        for device in self._devices:
            outbox.put(session.link(device, self._has_past or self._links.lives(device), now))
        outbox.put(session.births_of_new(now))

    async def rest(self) -> None:
        """Have the broker read what is on its way, when `run` has ended. What it does not read in time, or on
        a connection that ends, is told again by whoever goes on."""
        with contextlib.suppress(TimeoutError, SinkUnavailable, SinkRefused):
            async with asyncio.timeout(REST_S):
                batch = self._journal.position.last_batch
                await self._clock.sleep(GATHER_S)  # a value is recorded a moment before it is handed in
                self._outbox.put(self._session.samples(self._due.take(), self.now()))
                self._overtaken |= self._due.overtaken() & self._history_tags
                await self._outbox.drained()
                for then in self._then.values():
                    then()
                self._then.clear()
                if not self._overtaken and not self._gap_upto:
                    self._progress.told_present(Cursor(batch=batch))

    async def _told(self, who: str, then: Callable[[], None]) -> None:
        """Wait until the broker has read what was handed in, and do what follows from it."""
        self._then[who] = then
        await self._outbox.told()
        del self._then[who]
        then()

    @property
    def _has_past(self) -> bool:
        return self._progress.past != self._progress.birth

    @property
    def owes_tags(self) -> bool:
        """Whether there are values of tags that the broker has not read yet."""
        return self._on_their_way or bool(self._due) or bool(self._overtaken)

    async def run(self) -> None:
        """Tell what there is to tell, for ever. Call after `be_born`.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
            JournalFailed: the journal is of no use any more.
        """
        await self._outbox.told()
        await self._tell_gap()
        self._on_their_way = False
        await together(self._tell_events(), self._tell_tags(), self._tell_history(), self._tell_owed())

    # --- what is new

    async def _tell_events(self) -> None:
        after = self._progress.present.seq
        while True:
            last = self._journal.position.last_seq
            events = await self._journal.read(after, READ_MAX)
            if not events and last <= after:
                await self._journal.wait_beyond(after, _NEVER)
                continue
            # What cannot be read is passed over; the journal says so elsewhere.
            after = events[-1].seq if events else last
            self._outbox.put(self._news_of(events, all_of_them=after >= last))
            await self._told("events", partial(self._progress.told_present, Cursor(seq=after)))

    def _news_of(self, events: Sequence[Recorded], *, all_of_them: bool) -> list[Publication]:
        """Transitions in order; a device says its last state before it dies, and lives before its next.

        With a loss goes what it does to states, recorded right after it: so nobody dies before all that is
        recorded has been told.
        """
        news: list[Publication] = []
        waiting: list[Recorded] = []
        now = self.now()
        for recorded in events:
            event = recorded.event
            if isinstance(event, SourceLost):
                self._lost[event.connection] = None
            elif isinstance(event, SourceRestored):
                news.extend(self._session.events(waiting, now))
                waiting.clear()
                if event.connection in self._lost:
                    del self._lost[event.connection]
                    news.extend(self._turn(event.connection, now, lost=True))
                news.extend(self._turn(event.connection, now, lost=False))
            else:
                waiting.append(recorded)
        news.extend(self._session.events(waiting, now))
        if all_of_them:
            for connection in self._lost:
                news.extend(self._turn(connection, now, lost=True))
            self._lost.clear()
        return news

    def _turn(self, connection: str, now: Now, *, lost: bool) -> list[Publication]:
        news = list(self._session.connection(connection, not lost, now))
        return news + self._live_or_die(self._links.turn(connection, lost=lost), now)

    def _live_or_die(self, turned: Iterable[tuple[str, bool]], now: Now) -> list[Publication]:
        """Births and deaths of devices. While history is told none dies: a dead device has none."""
        news: list[Publication] = []
        for device, lives in turned:
            if lives or not self._has_past:
                news.extend(self._session.link(device, lives, now))
        return news

    def _look_at_links(self) -> None:
        """Now and then: the record says when a link was lost, but not one that was never there.

        The record goes first, with the last states of a device: what is seen twice counts once all that was
        recorded by then has been told.
        """
        seen = frozenset(name for name in self._connections if self._present.is_lost(name))
        if seen != self._seen:
            self._seen, self._seen_by = seen, None
        elif self._seen_by is None:
            self._seen_by = self._journal.position.last_seq
        elif self._progress.present.seq >= self._seen_by and not self._lost:
            self._outbox.put(self._live_or_die(self._links.look(seen.__contains__), self.now()))

    async def _tell_tags(self) -> None:
        before = self._progress.birth.batch
        while True:
            await self._due.some()
            batch = self._journal.position.last_batch
            self._on_their_way = True
            self._outbox.put(self._session.samples(self._due.take(TAGS_MAX), self.now()))
            self._overtaken |= self._due.overtaken() & self._history_tags
            await self._outbox.told()
            self._on_their_way = False
            if self._overtaken:
                self._overtaken_upto, self._all_upto = batch, before
                self._overtook.set()
            elif not self._due:
                self._progress.told_present(Cursor(batch=before))
            before = batch
            await self._clock.sleep(GATHER_S)

    async def _tell_owed(self) -> None:
        """Births somebody asked for too soon after the last ones, or that a value of another type wants."""
        while True:
            await self._clock.sleep(OWED_EVERY_S)
            self._look_at_links()
            due_s = self._session.due_s
            if due_s is not None and due_s <= self._clock.monotonic():
                await self._outbox.told()
                self._outbox.put(self._session.tick(self.now()))

    async def reborn(self, device: str = NODE) -> None:
        """A host asks for births: at once, or at the end of the window. Returns when they are out."""
        births = self._session.rebirth(self.now(), device)
        if births:
            self._outbox.put(births)
            await self._outbox.told()

    # --- what gathered

    async def _tell_history(self) -> None:
        """What gathered before the births; then, ever again, what newer values have overtaken since."""
        await self._tell_past()
        while True:
            await self._overtook.wait()
            self._overtook.clear()
            after, tags = self._progress.present, frozenset(self._overtaken)
            until = Cursor(after.seq, self._overtaken_upto)
            async for page in pages(self._journal, after, until, tags):
                upto = Cursor(batch=min(page.upto.batch, self._all_upto))
                await self._tell_page(page, until, "overtaken", partial(self._progress.told_present, upto))
            if self._overtaken_upto == until.batch and self._overtaken == tags:
                self._overtaken.clear()
            await self._clock.sleep(OVERTAKEN_EVERY_S)

    async def _tell_gap(self) -> None:
        """Values of tags that came while one configuration went and the next one came."""
        after = self._progress.present
        until = Cursor(after.seq, self._gap_upto)
        async for page in pages(self._journal, after, until, self._history_tags):
            await self._tell_page(page, until, "gap", partial(self._progress.told_present, page.upto))
        self._gap_upto = 0

    async def _tell_past(self) -> None:
        session, progress, until = self._session, self._progress, self._progress.birth
        async for page in pages(self._journal, progress.past, until, self._history_tags):
            await self._tell_page(page, until, "past", partial(progress.told_past, page.upto))
        progress.told_past(until)
        now = self.now()
        for device in self._devices:
            self._outbox.put(session.link(device, self._links.lives(device), now))

    async def _tell_page(self, page: Page, until: Cursor, who: str, then: Callable[[], None]) -> None:
        news = self._session.history(page.items, self.now())
        self._outbox.put(news)
        if who == "past":
            self._outbox.put(self._session.backlog(until.seq - page.upto.seq, self.now()))
        await self._told(who, then)
        self.historical += sum(len(item.payload.metrics) for item in news)
