"""Swinging door: leave out points that lie on the straight line between others. Pure; one door a signal.

From the last point that was let through, the doors are the steepest and the flattest line that pass no later
point at more than the deviation. A new point between the doors narrows them and becomes the one that is held
back; one outside lets the held one through, which is then where the next line begins. A point is held back
only while the line to it is between the doors of all before it, so the lines that join the points let
through pass none of those left out at more than the deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

_T = TypeVar("_T")


class Point(NamedTuple, Generic[_T]):
    """A value at an instant, and whatever it stands for."""

    at: datetime
    value: float
    what: _T


class SwingingDoor(Generic[_T]):
    """Decides which points of one signal are worth keeping. `deviation` is in units of the value, above 0."""

    __slots__ = ("_deviation", "_flattest", "_held", "_steepest", "begin")

    def __init__(self, deviation: float) -> None:
        self._deviation = deviation
        #: The last point let through: where the line begins.
        self.begin: Point[_T] | None = None
        self._held: Point[_T] | None = None
        self._flattest = self._steepest = 0.0

    @property
    def latest(self) -> Point[_T] | None:
        """The newest point it has seen."""
        return self._held or self.begin

    @property
    def holds(self) -> bool:
        """Whether it holds a point back."""
        return self._held is not None

    def take(self, point: Point[_T]) -> Iterator[_T]:
        """Take the next point in time; gives what is let through by that, oldest first."""
        begin, held = self.begin, self._held
        if begin is None:
            self.begin = point
            yield point.what
            return
        if held is not None:
            if point.at > held.at and self._between_doors(begin, point):
                self._narrow(begin, point)
                self._held = point
                return
            self.begin = begin = held
            self._held = None
            yield held.what
        if point.at <= begin.at:
            # No line joins two values at one instant: both are points of their own.
            self.begin = point
            yield point.what
            return
        self._flattest, self._steepest = self._doors(begin, point)
        self._held = point

    def flush(self) -> Iterator[_T]:
        """Let the held point through, if there is one: the next line begins there."""
        if self._held is not None:
            self.begin, self._held = self._held, None
            yield self.begin.what

    def reset(self) -> None:
        """Forget everything: the next point is let through. What is held back must have been flushed."""
        self.begin = self._held = None

    def _between_doors(self, begin: Point[_T], point: Point[_T]) -> bool:
        slope = (point.value - begin.value) / (point.at - begin.at).total_seconds()
        return self._flattest <= slope <= self._steepest

    def _narrow(self, begin: Point[_T], point: Point[_T]) -> None:
        flattest, steepest = self._doors(begin, point)
        self._flattest = max(self._flattest, flattest)
        self._steepest = min(self._steepest, steepest)

    def _doors(self, begin: Point[_T], point: Point[_T]) -> tuple[float, float]:
        seconds, rise = (point.at - begin.at).total_seconds(), point.value - begin.value
        return (rise - self._deviation) / seconds, (rise + self._deviation) / seconds
