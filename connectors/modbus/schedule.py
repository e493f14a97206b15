"""Whose turn it is on a line that poll groups share. Pure: time is handed in.

Each group has a fixed rate. A group that is due has until its next due time; among those that are due, the
one that has the least time left goes first, request by request. So a fast group is not held up by a long
slow one, and a slow one is never starved: sooner or later it is the one with the least time left. Cycles
that could not begin in time are skipped and counted, never queued.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

_NOT_BEGUN = -1.0


@dataclass(frozen=True, slots=True)
class Cycle:
    """Figures of one finished cycle, as `Link.cycle` wants them."""

    duration_s: float
    lateness_s: float
    skipped: int


@dataclass(slots=True, eq=False)
class Turn:
    """The turns of one group. While it is not `ready` it is passed over."""

    interval_s: float
    due: float
    ready: bool = True
    began: float = _NOT_BEGUN

    def begin(self, now: float) -> None:
        """The group's cycle starts; how late it is shows now."""
        self.began = now

    def finish(self, now: float) -> Cycle:
        """The group's cycle is complete; its next turn is the first that has not passed altogether.

        A turn that is late by less than an interval is still taken, at once.
        """
        began, lateness_s = self.began, max(0.0, self.began - self.due)
        self.began = _NOT_BEGUN
        self.due += self.interval_s
        skipped = max(0, int((now - self.due) / self.interval_s))
        self.due += skipped * self.interval_s
        return Cycle(max(0.0, now - began), lateness_s, skipped)

    def put_off(self, now: float) -> None:
        """Go on an interval from now, in the middle of a cycle or not."""
        self.due = now + self.interval_s


_T = TypeVar("_T", bound=Turn)


class Schedule(Generic[_T]):
    """Some turns."""

    def __init__(self, turns: Iterable[_T] = ()) -> None:
        self.turns = list(turns)

    def next(self, now: float) -> _T | None:
        """The turn whose request goes next, or None when none is due."""
        best: _T | None = None
        least = 0.0
        for turn in self.turns:
            if turn.due <= now and turn.ready:
                deadline = turn.due + turn.interval_s
                if best is None or deadline < least:
                    best, least = turn, deadline
        return best

    def wait_s(self, now: float) -> float:
        """Seconds until the next turn is due; infinite without any that is ready."""
        return max(0.0, min((turn.due for turn in self.turns if turn.ready), default=float("inf")) - now)
