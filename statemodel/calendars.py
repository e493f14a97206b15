"""Bounds to cut time at: equal buckets, calendar days and weeks of a place, shifts.

Local days have 23, 24 or 25 hours and are cut where the place's clocks say midnight; the bounds are UTC.
The time zone is handed in, so nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal

Unit = Literal["hour", "day", "week", "month"]

#: Most buckets one question may have.
BUCKETS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift by local clock, from `begins` to `ends` (on the next day when that is not later).

    `weekdays` are those it begins on, 0 (Monday) to 6.
    """

    name: str
    begins: time
    ends: time
    weekdays: frozenset[int] = frozenset(range(7))


@dataclass(frozen=True, slots=True)
class ShiftRun:
    """One turn of a shift, in UTC, on the local day it began."""

    name: str
    day: date
    begin: datetime
    end: datetime


def equal_bounds(begin: datetime, end: datetime, size: timedelta) -> tuple[datetime, ...]:
    """`begin`, then every `size`, then `end`: the last stretch may be shorter.

    Raises:
        ValueError: there would be no buckets, or too many.
    """
    if size <= timedelta(0) or end <= begin:
        raise ValueError("buckets need a length and a range")
    _bounded((end - begin) / size)
    bounds = [begin]
    while bounds[-1] + size < end:
        bounds.append(bounds[-1] + size)
    return (*bounds, end)


def calendar_bounds(begin: datetime, end: datetime, unit: Unit, zone: tzinfo) -> tuple[datetime, ...]:
    """`begin`, every local start of an hour, day, week (Monday) or month within the range, and `end`.

    Raises:
        ValueError: the range has no length, or too many buckets.
    """
    if end <= begin:
        raise ValueError("buckets need a range")
    _bounded((end - begin) / (timedelta(hours=1) if unit == "hour" else timedelta(days=1)))
    inner = (bound for bound in _starts(begin, unit, zone) if bound > begin)
    bounds = [begin]
    for bound in inner:
        if bound >= end:
            break
        bounds.append(bound)
    return (*bounds, end)


def shift_runs(begin: datetime, end: datetime, shifts: Sequence[Shift], zone: tzinfo) -> tuple[ShiftRun, ...]:
    """Every turn of every shift that has time within the range, by begin; not cut at the range.

    Raises:
        ValueError: the range has no length, or too many days.
    """
    if end <= begin:
        raise ValueError("shifts need a range")
    _bounded((end - begin) / timedelta(days=1) * max(len(shifts), 1))
    day, last = begin.astimezone(zone).date() - timedelta(days=1), end.astimezone(zone).date()
    runs = []
    while day <= last:
        runs += [
            run
            for shift in shifts
            if day.weekday() in shift.weekdays
            and (run := _run(shift, day, zone)).begin < end
            and run.end > begin
            and run.begin < run.end
        ]
        day += timedelta(days=1)
    return tuple(sorted(runs, key=lambda run: (run.begin, run.end, run.name)))


def _run(shift: Shift, day: date, zone: tzinfo) -> ShiftRun:
    last_day = day if shift.ends > shift.begins else day + timedelta(days=1)
    return ShiftRun(shift.name, day, _utc(day, shift.begins, zone), _utc(last_day, shift.ends, zone))


def _starts(begin: datetime, unit: Unit, zone: tzinfo) -> Iterator[datetime]:
    local = begin.astimezone(zone)
    if unit == "hour":
        # hours of a place may be skipped or happen twice; in UTC they simply follow each other
        bound = begin.astimezone(UTC) - timedelta(minutes=local.minute, seconds=local.second)
        bound = bound.replace(microsecond=0)
        while True:
            yield bound
            bound += timedelta(hours=1)
    day = local.date()
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    while True:
        yield _utc(day, time(0), zone)
        if unit == "month":
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            day += timedelta(days=7 if unit == "week" else 1)


def _utc(day: date, clock: time, zone: tzinfo) -> datetime:
    """The first instant at which the place's clocks show this, or would have, were it not skipped."""
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)


def _bounded(count: float) -> None:
    if count > BUCKETS_MAX:
        raise ValueError(f"that would be more than {BUCKETS_MAX} buckets")
