"""Tags by the hour: which hours a transaction touches, and figures of stretches of whole hours. Pure.

A row of `andon.sample_hour` tells of one tag and one hour what its samples say from the first of them on.
What was in force before is known from the row before, so rows are made one by one and put together here.
Values hold until the next sample, as in `statemodel.tag_history`. Knows no SQL.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec

from gateway.historian.recorded import joined_value
from gateway.historian.rows import dated
from statemodel.tag_history import SampleBucket
from statemodel.types import SampleBatch, TagValue

HOUR = timedelta(hours=1)
_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_BAD = 2


class HourRow(msgspec.Struct, frozen=True):
    """One tag in one hour from `first_at` to the end of the hour.

    `known_s` is for how many seconds a number was known, `integral` that number over those seconds. `number`
    and `value` are what was in force at the end, None when it was not known.
    """

    hour: datetime
    samples: int
    first_at: datetime
    known_s: float
    integral: float
    min: float | int | None
    max: float | int | None
    last_at: datetime
    number: float | int | None
    value: TagValue


class Piece(msgspec.Struct, frozen=True):
    """Part of a bucket: either all of its whole hours, or what lies before or after them."""

    bucket: int
    begin: datetime
    end: datetime
    whole: bool


def hour_of(at: datetime) -> datetime:
    """The full hour (UTC) an instant lies in."""
    return at - (at - _ZERO) % HOUR


def hours_touched(batches: Iterable[SampleBatch]) -> list[datetime]:
    """The hours that samples are filed in, in order."""
    hours: set[datetime] = set()
    begin = end = last = _ZERO  # of the hour met last, and the time: most samples are of the same
    for batch in batches:
        source_time = batch.source_time
        for sample in batch.samples:
            at = dated(sample, True) if source_time else sample.received_at
            if at is not last:
                last = at
                if not begin <= at < end:
                    begin = hour_of(at)
                    end = begin + HOUR
                    hours.add(begin)
    return sorted(hours)


def cut(bounds: Sequence[datetime]) -> list[Piece]:
    """The buckets between bounds, each cut at its first and its last full hour."""
    found: list[Piece] = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        first = hour_of(begin)
        first += HOUR if first < begin else timedelta(0)
        last = hour_of(end)
        if last <= first:
            first = last = end
        parts = ((begin, first, False), (first, last, True), (last, end, False))
        found.extend(Piece(number, *part) for part in parts if part[0] < part[1])
    return found


def hour_row(row: asyncpg.Record | Mapping[str, Any], kind: str) -> HourRow:
    """A row of `tag_hours`; `kind` is what the tag's last value was."""
    known = row["last_quality"] < _BAD
    return HourRow(
        row["hour"],
        row["samples"],
        row["first_at"],
        row["known_s"],
        row["integral"] or 0.0,
        _number(row["min"], kind),
        _number(row["max"], kind),
        row["last_at"],
        _number(row["last_value"], kind) if known else None,
        joined_value(row["last_value"], row["last_text"], kind) if known else None,
    )


def _number(number: float | None, kind: str) -> float | int | None:
    """Extremes of a boolean are 0 and 1, of an integer integers."""
    value: TagValue = joined_value(number, None, kind)
    return int(value) if isinstance(value, bool) else value  # type: ignore[return-value]  # it has no text


def of_hours(before: HourRow | None, rows: Sequence[HourRow], begin: datetime, end: datetime) -> SampleBucket:
    """A tag between two full hours. `before` is the newest row before, `rows` are those between, in order."""
    known: list[float | int] = []
    count, known_s, integral = 0, 0.0, 0.0
    current, since = before, begin
    for row in (*rows, None):
        held_s = ((end if row is None else row.first_at) - since).total_seconds()
        if held_s > 0 and current is not None and current.number is not None:
            known.append(current.number)
            known_s += held_s
            integral += current.number * held_s
        if row is None:
            break
        count += row.samples
        known_s += row.known_s
        integral += row.integral
        known += [number for number in (row.min, row.max) if number is not None]
        current, since = row, row.hour + HOUR
    return SampleBucket(
        begin,
        end,
        count,
        min(known, default=None),
        max(known, default=None),
        integral / known_s if known_s else None,
        None if current is None else current.value,
        known_s,
    )


class Hours(msgspec.Struct, frozen=True):
    """Rows of one tag in order, with the newest before the first hour asked for.

    `samples_from` is from when on the samples are all there, None when none have been deleted.
    """

    rows: Sequence[HourRow]
    samples_from: datetime | None

    def between(self, begin: datetime, end: datetime) -> SampleBucket:
        """The tag between two full hours."""
        first = bisect_left(self.rows, begin, key=lambda row: row.hour)
        last = bisect_left(self.rows, end, key=lambda row: row.hour)
        return of_hours(self.rows[first - 1] if first else None, self.rows[first:last], begin, end)

    def missing(self, loose: Iterable[Piece]) -> str | None:
        """What cannot be told of parts of hours, in words."""
        if self.samples_from is None or all(piece.begin >= self.samples_from for piece in loose):
            return None
        return (
            f"parts of hours before {self.samples_from:%Y-%m-%dT%H:%MZ}, of which only whole hours are kept: "
            "begin at a full hour"
        )


def joined(parts: Sequence[SampleBucket]) -> SampleBucket:
    """Neighbouring stretches as one."""
    if len(parts) == 1:
        return parts[0]
    known_s = sum(part.known_s for part in parts)
    integral = sum((part.avg or 0.0) * part.known_s for part in parts)
    return SampleBucket(
        parts[0].from_,
        parts[-1].to,
        sum(part.count for part in parts),
        min((part.min for part in parts if part.min is not None), default=None),
        max((part.max for part in parts if part.max is not None), default=None),
        integral / known_s if known_s else None,
        parts[-1].last,
        known_s,
    )
