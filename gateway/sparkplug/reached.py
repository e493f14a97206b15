"""How far hosts have been told, over all connections of an edge node, and what of it the journal keeps.

What a broker has read counts as passed on after a while, and the rest is said again after a loss, since
nobody knows who still heard it; with a primary host so much more as that may have been gone unnoticed. The
arithmetic is `progress.py`'s; nothing here speaks to a broker.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from connectors.base import Clock
from gateway.journal.values import Cursor
from gateway.sparkplug.host import PrimaryHost
from gateway.sparkplug.numbers import has_number
from gateway.sparkplug.progress import Lately, Progress
from gateway.sparkplug.source import RecordSource

#: What a broker has read counts as passed on after this, in seconds; the rest is said again after a loss.
REPEAT_S = 2.0
#: For what is held for a dead device the kept cursor waits until so many events have come after it.
HELD_EVENTS_MAX = 10_000

log = structlog.get_logger(__name__)


class Reached:
    """That of one edge node, with its primary host if it has one; `repeat_s` is 0 without."""

    def __init__(
        self, journal: RecordSource, sink: str, clock: Clock, host: PrimaryHost | None, repeat_s: float
    ) -> None:
        self._journal, self._sink, self._clock, self._host = journal, sink, clock, host
        self._repeat_s = repeat_s = max(REPEAT_S, repeat_s)
        self._since = Cursor()
        self.progress = Progress(self._since)
        self._lately = Lately(repeat_s, clock.monotonic(), self._since)
        self._saved = self._since
        #: The primary host's stay during the last connection that told anything, and when that ended.
        self._spell = host.spell if host is not None else None
        self._ended_s = self._born_s = clock.monotonic()
        #: What the host has heard for sure if the word on which we were born is not its own.
        self._certain = self._since
        self._oldest: tuple[int, datetime | None] = (-1, None)
        self._batch_before = 0

    async def begin(self) -> None:
        """Go on where the journal says. A node it has never heard of begins with the tags of now."""
        cursor = await self._journal.cursor(self._sink)
        if cursor == Cursor() and not await has_number(self._journal, self._sink):
            cursor = Cursor(batch=self._journal.position.last_batch)
            await self._journal.advance(self._sink, cursor)
        self._since = self._saved = cursor
        self.progress = Progress(cursor)
        self._ended_s = self._clock.monotonic()
        self._lately = Lately(self._repeat_s, self._ended_s, cursor)

    def over(self, repeat_s: float) -> Reached:
        """The same, with another `repeat`."""
        self._repeat_s = max(REPEAT_S, repeat_s)
        self._lately = self._lately.over(self._repeat_s)
        return self

    @property
    def lag_events(self) -> int:
        """Events in the journal that no broker has read, or that are to be said again."""
        position = self._journal.position
        return max(0, position.last_seq - max(self.progress.cursor.seq, position.first_seq - 1))

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest of them was recorded, as far as is known."""
        return self._oldest[1]

    # --- over the life of a connection

    def born(self) -> Cursor:
        """Births are about to be said. From where on history can be told then: what the journal has freed is
        told by nobody."""
        self._go_back()
        self._born_s = self._clock.monotonic()
        self._certain = self._lately.before(self._ended_s - self._repeat_s)
        self._spell = self._host.spell if self._host is not None else None
        position = self._journal.position
        held = self._since.beyond(Cursor(position.first_seq - 1, position.first_batch - 1))
        if self._since != Cursor() and held.seq > self._since.seq:
            missing = held.seq - self._since.seq
            log.warning("the journal has freed what was not told", sink=self._sink, events=missing)
        return held

    def lost(self) -> None:
        """A connection that told something is over: what a host may not have heard is history of the next."""
        now_s = self._clock.monotonic()
        self._lately.note(now_s, self.progress.cursor)
        if self._host is not None and self._host.came_anew:  # then nobody has heard any of it
            self._lately = Lately(self._repeat_s, now_s, self._certain)
        self._since, self._ended_s = self._lately.only_before(now_s - REPEAT_S), now_s
        self.progress = Progress(self._since)
        self._go_back()

    def _go_back(self) -> None:
        """Where the primary host was away, what it may not have heard before anyone noticed is history too.

        Its stay tells: as long as that is the same, losing our connection costs no more than without a host,
        however often it happens. What was noted stays, for the day on which it turns out to have been away.
        """
        if self._host is not None and self._host.spell != self._spell:
            self._since = self._lately.only_before(self._ended_s - self._repeat_s)
            self.progress = Progress(self._since)

    # --- now and then

    async def note(self, *, telling: bool, owes_tags: bool, held_seq: int | None) -> None:
        """Note how far it is, and keep what is beyond doubt.

        `telling`: something is told at all. `owes_tags`: there are values of tags that the broker has not
        read. `held_seq`: the oldest event that is held for a dead device.
        """
        now_s, progress = self._clock.monotonic(), self.progress
        # With no value to tell, what the journal held a moment ago has none that was not told.
        if telling and not owes_tags:
            progress.told_present(Cursor(batch=self._batch_before))
        self._batch_before = self._journal.position.last_batch
        if telling:  # else what is doubtful stays so
            self._lately.note(now_s, progress.cursor)
            doubtful_s = now_s - self._repeat_s
            young = self._born_s > doubtful_s  # the host's word may still turn out to be an old one
            await self._save(self._certain if young else self._lately.before(doubtful_s), held_seq)
        await self._look_for_oldest(progress.cursor.seq)

    async def _save(self, cursor: Cursor, held_seq: int | None) -> None:
        if held_seq is not None and cursor.seq - held_seq < HELD_EVENTS_MAX:
            cursor = Cursor(min(cursor.seq, held_seq - 1), cursor.batch)
        if cursor.beyond(self._saved) != self._saved:
            self._saved = cursor.beyond(self._saved)
            await self._journal.advance(self._sink, self._saved)

    async def _look_for_oldest(self, after: int) -> None:
        """Since when something waits; asked once for each place where it begins."""
        if self._journal.position.last_seq <= after or self._oldest[0] == after:
            return
        waiting = await self._journal.read(after, 1)
        self._oldest = after, waiting[0].recorded_at if waiting else None
