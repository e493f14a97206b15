"""Events read one by one that may well be asked for again, kept for that.

Where a page of transitions is asked for again and again, looking each of them up on the disk is most of what
the answer costs. Bounded by count; the one read first goes first. Knows no file.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.journal.codec import Unreadable
from statemodel.records import Recorded

#: Events remembered of one segment: a few pages, some megabytes.
EVENTS_MAX = 1000

Found = Recorded | tuple[int, Unreadable]


class Remembered:
    """Events by their numbers. What was written once under a number does not change; what cannot be read is
    tried again each time."""

    def __init__(self, read: Callable[[int], Found], events_max: int = EVENTS_MAX) -> None:
        self._read = read
        self._events_max = events_max
        self._events: dict[int, Recorded] = {}

    def find(self, seq: int) -> Found:
        """The event of a number, or the number and what is wrong."""
        known = self._events.get(seq)
        if known is not None:
            return known
        found = self._read(seq)
        if isinstance(found, Recorded):
            self._events[seq] = found
            if len(self._events) > self._events_max:
                del self._events[next(iter(self._events))]
        return found
