"""Answers to questions about transitions that are put again before the answer has changed. Pure.

People and programs ask for the same page every few seconds; while the equipment stands still, the answer is
the one before, and the journal's thread need not be asked. Bounded by the events in all of them; the answer
used least lately goes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from statemodel.records import Recorded

#: Events in all answers, and in the longest that is kept.
EVENTS_MAX, PAGE_EVENTS_MAX = 2_000, 200


class Pages:
    """Answers by their questions, each with where matters stood when the question was put."""

    def __init__(self, events_max: int = EVENTS_MAX, page_events_max: int = PAGE_EVENTS_MAX) -> None:
        self._events_max, self._page_events_max = events_max, page_events_max
        self._pages: dict[Hashable, tuple[Hashable, Sequence[Recorded]]] = {}
        self._weight = 0

    def find(self, question: Hashable, stand: Hashable) -> Sequence[Recorded] | None:
        """The answer, if matters stand as they did then."""
        page = self._pages.pop(question, None)
        if page is None:
            return None
        if page[0] != stand:
            self._weight -= 1 + len(page[1])
            return None
        self._pages[question] = page  # at the end: used last
        return list(page[1])

    def keep(self, question: Hashable, stand: Hashable, found: Sequence[Recorded]) -> None:
        """Remember an answer, unless it is long."""
        if len(found) > self._page_events_max:
            return
        before = self._pages.pop(question, None)
        self._weight += len(found) - (-1 if before is None else len(before[1]))
        self._pages[question] = (stand, tuple(found))
        while self._weight > self._events_max:
            _, gone = self._pages.pop(next(iter(self._pages)))
            self._weight -= 1 + len(gone)
