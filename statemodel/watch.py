"""What guards remember: edges, changes, ages and how long a condition has held.

A watch is looked at once per evaluation, before the rules are, whether or not a rule gets as far as asking
for it; so short-circuits never make it miss an edge. The watch itself is shared by all equipment of a model;
what it remembers lives in the equipment's own list. Time is handed in, never read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from statemodel.kleene import COMPARISONS, Value

#: The values of one equipment: its inputs, then what its watches say.
Values = list[Value]
Test = Callable[[Values], Value]

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rising:
    """`rising(x)` and, with `to` False, `falling(x)`: true in the one evaluation that finds x just turned.

    After x was undecided there is no edge: what happened meanwhile was not seen.
    """

    test: Test
    out: int
    place: int
    to: bool

    def look(self, values: Values, memory: list[Any], now: datetime) -> datetime | None:
        """Note the present value; returns when time alone may change the answer (here: never)."""
        value, before = self.test(values), memory[self.place]
        memory[self.place] = value
        values[self.out] = None if value is None else value is self.to and before is (not self.to)
        return None


@dataclass(frozen=True, slots=True)
class Changed:
    """`changed(x)`: true in the one evaluation that finds another value than the one before."""

    test: Test
    out: int
    place: int

    def look(self, values: Values, memory: list[Any], now: datetime) -> datetime | None:
        """Note the present value; returns when time alone may change the answer (here: never)."""
        value, before = self.test(values), memory[self.place]
        memory[self.place] = value
        values[self.out] = None if value is None else before is not None and value != before
        return None


@dataclass(frozen=True, slots=True)
class Held:
    """`held(x, "5s")`: x has been true without a break for at least that long. Rules' `for` is the same.

    When nobody saw x become true (a restart, a lost link), it may have been true for long already: the
    answer is undecided until x has been watched for the whole duration, or turns false.
    """

    test: Test
    out: int
    place: int
    duration: timedelta

    def look(self, values: Values, memory: list[Any], now: datetime) -> datetime | None:
        """Note the present value; returns the instant at which x will have held for long enough."""
        value, before = self.test(values), memory[self.place]
        if value is not True:
            memory[self.place] = values[self.out] = value
            return None
        if not isinstance(before, tuple):
            before = memory[self.place] = (now, before is False)
        since: datetime = before[0]
        if now - since >= self.duration:
            values[self.out] = True
            return None
        values[self.out] = False if before[1] else None
        return since + self.duration


@dataclass(frozen=True, slots=True)
class Aged:
    """`age(x) > limit`: how long ago x took its present value, against a limit in seconds.

    The age is that of the value, not of the sample: a tag that is read again and again without changing
    grows older, whether or not its repetitions reach the gateway. That makes it the test for a heartbeat
    that has stopped. Of a value that nobody saw begin (a restart, a lost link) only a least age is known:
    until that passes the limit, or the value changes, the answer is undecided.
    """

    test: Test
    limit: Test
    sign: str
    out: int
    place: int

    def look(self, values: Values, memory: list[Any], now: datetime) -> datetime | None:
        """Note the present value; returns the instant at which its age will pass the limit."""
        value, limit_s = self.test(values), self.limit(values)
        if value is None:
            memory[self.place] = values[self.out] = None
            return None
        before = memory[self.place]
        if before is None or before[0] != value:
            before = memory[self.place] = (value, now, before is not None)
        since: datetime = before[1]
        answer = COMPARISONS[self.sign]((now - since).total_seconds(), limit_s)
        # an age that is only known to be at least so much can pass a limit, but not stay under it
        passed = answer is (self.sign in (">", ">="))
        values[self.out] = answer if before[2] or passed else None
        return _passing(since, limit_s, now, exclusive=self.sign in (">", "<="))


def _passing(since: datetime, limit_s: Value, now: datetime, *, exclusive: bool) -> datetime | None:
    """When an age that began at `since` passes the limit; None when it has, or never will."""
    if limit_s is None or isinstance(limit_s, str):
        return None
    try:
        passing = since + timedelta(seconds=limit_s)
        if exclusive:
            passing += _MICROSECOND
    except OverflowError:
        return None
    return passing if passing > now else None


Watch = Rising | Changed | Held | Aged
