"""Which poll group's turn it is on a link they share. Pure: time is handed in.

Each group has a fixed rate. A group that is due has until its next due time; among those that are due, the
one that has the least time left goes first, request by request. So a fast group is not held up by a long
slow one, and a slow one is never starved: sooner or later it is the one with the least time left. Cycles
that could not begin in time are skipped and counted, never queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NOT_BEGUN = -1.0


@dataclass(slots=True)
class _Turn:
    interval_s: float
    due: float
    began: float = _NOT_BEGUN


@dataclass(frozen=True, slots=True)
class Cycle:
    """Figures of one finished cycle, as `Link.cycle` wants them."""

    duration_s: float
    lateness_s: float
    skipped: int


class Schedule:
    """The turns of some groups, by their index. All are due at the start."""

    def __init__(self, intervals_s: Sequence[float], now: float) -> None:
        self._turns = [_Turn(interval_s, now) for interval_s in intervals_s]

    def next(self, now: float) -> int | None:
        """The group whose request goes next, or None when none is due."""
        best: int | None = None
        least = 0.0
        for index, turn in enumerate(self._turns):
            if turn.due <= now:
                deadline = turn.due + turn.interval_s
                if best is None or deadline < least:
                    best, least = index, deadline
        return best

    def wait_s(self, now: float) -> float:
        """Seconds until the next group is due; infinite without groups."""
        return max(0.0, min((turn.due for turn in self._turns), default=float("inf")) - now)

    def began(self, group: int, now: float) -> None:
        """The group's cycle starts; how late it is shows now."""
        self._turns[group].began = now

    def finished(self, group: int, now: float) -> Cycle:
        """The group's cycle is complete; its next turn is the first that has not passed altogether.

        A turn that is late by less than an interval is still taken, at once.
        """
        turn = self._turns[group]
        began, lateness_s = turn.began, max(0.0, turn.began - turn.due)
        turn.began = _NOT_BEGUN
        turn.due += turn.interval_s
        skipped = max(0, int((now - turn.due) / turn.interval_s))
        turn.due += skipped * turn.interval_s
        return Cycle(max(0.0, now - began), lateness_s, skipped)
