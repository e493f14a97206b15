"""How far the hosts have been told, so that nothing is left out after a loss: the cursor's arithmetic. Pure.

Messages of Sparkplug have no acknowledgement (QoS 0). What counts as told is what the broker has read, and of
that not the newest: a broker that dies, or a host that was gone before anyone noticed, did not pass it on or
take it in. Nothing here knows sessions, brokers or the journal.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from datetime import datetime, timedelta

from gateway.historian.values import Backlog
from gateway.journal.values import Cursor


class Lately:
    """What had been told so long ago. Bounded by how often it is noted."""

    def __init__(self, window_s: float, at: float, cursor: Cursor) -> None:
        self._window_s = window_s
        self._noted: deque[tuple[float, Cursor]] = deque([(at, cursor)])

    def over(self, window_s: float) -> Lately:
        """The same for another window; what is noted already is not older than the one of before."""
        self._window_s = window_s
        return self

    def note(self, at: float, cursor: Cursor) -> None:
        """At monotonic time `at`, everything up to `cursor` had been told. Kept once for each change."""
        if self._noted[-1][1] != cursor:
            self._noted.append((at, cursor))
        while len(self._noted) > 1 and self._noted[1][0] <= at - self._window_s:
            self._noted.popleft()

    def before(self, at: float) -> Cursor:
        """What had been told at monotonic time `at`; the oldest that is known when that is too long ago."""
        place = bisect_right(self._noted, at, key=lambda noted: noted[0])
        return self._noted[max(0, place - 1)][1]

    def only_before(self, at: float) -> Cursor:
        """The same; what was noted later is as if it had not been told, what was noted before stays."""
        while len(self._noted) > 1 and self._noted[-1][0] > at:
            self._noted.pop()
        return self._noted[-1][1]


class Progress:
    """Two ways through the journal at once: what is new since the birth, and what gathered before it.

    `cursor` is where both have been told without a hole. Events and batches move on their own.
    """

    def __init__(self, cursor: Cursor) -> None:
        self._past = self._birth = self._present = cursor
        self._began_at: datetime | None = None
        self._began = cursor

    def born(self, since: Cursor, birth: Cursor, at: datetime) -> None:
        """The births show what is true at `birth`; what came after `since` is still to be told as history."""
        since = Cursor(min(since.seq, birth.seq), min(since.batch, birth.batch))
        self._past = self._began = since
        self._birth = self._present = birth
        self._began_at = at

    def told_past(self, cursor: Cursor) -> None:
        """History has been told up to here."""
        self._past = self._past.beyond(cursor)

    def told_present(self, cursor: Cursor) -> None:
        """What is new has been told up to here."""
        self._present = self._present.beyond(cursor)

    @property
    def cursor(self) -> Cursor:
        """Everything up to here has been told."""
        return Cursor(
            self._present.seq if self._past.seq >= self._birth.seq else self._past.seq,
            self._present.batch if self._past.batch >= self._birth.batch else self._past.batch,
        )

    @property
    def past(self) -> Cursor:
        """How far history has been told."""
        return self._past

    @property
    def birth(self) -> Cursor:
        """Where history ends."""
        return self._birth

    @property
    def present(self) -> Cursor:
        """How far what is new has been told."""
        return self._present

    def backlog(self, now: datetime) -> Backlog | None:
        """What is left of history, and when it will be told if all goes on as it did since the birth."""
        events, batches = self._left(self._past)
        if not events and not batches:
            return None
        all_events, all_batches = self._left(self._began)
        share = 1 - (events + batches) / max(1, all_events + all_batches)
        if self._began_at is None or share <= 0 or now <= self._began_at:
            return Backlog(events, batches, None)
        passed_s = (now - self._began_at).total_seconds()
        caught_up_at = now + timedelta(seconds=passed_s * (1 - share) / share)
        return Backlog(events, batches, caught_up_at, (all_events - events) / passed_s)

    def _left(self, after: Cursor) -> tuple[int, int]:
        return max(0, self._birth.seq - after.seq), max(0, self._birth.batch - after.batch)
