"""What a tag was worth over time: recorded samples, and stretches of time summed up.

Samples are recorded on change, so a value holds until the next one: between two samples the tag had the
earlier value, and figures of a stretch are those of what was in force in it. A bad sample means that the
value was not known, and such time counts for nothing. Pure; knows no store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

import msgspec

from statemodel.types import Quality, TagSample, TagValue

#: Integers beyond it are not all exact as floats, which figures are made with.
_EXACT_MAX = 2**53


class DatedSample(msgspec.Struct, frozen=True):
    """A recorded sample. `at` is the time it counts from: the device's where the connection says so and it
    is plausible, else that of receipt."""

    at: datetime
    value: TagValue
    quality: Quality
    source_at: datetime | None
    received_at: datetime
    substatus: str = ""

    @property
    def number(self) -> float | int | None:
        """The value as a number (a boolean is 0 or 1); None when it is no number or not known."""
        value = self.value
        if self.quality is Quality.BAD or not isinstance(value, (int, float)):
            return None
        try:
            number = (
                int(value) if isinstance(value, int) and -_EXACT_MAX <= value <= _EXACT_MAX else float(value)
            )
        except OverflowError:
            return None
        return number if math.isfinite(number) else None


def dated(sample: TagSample, at: datetime) -> DatedSample:
    """A sample with the time it counts from."""
    return DatedSample(
        at, sample.value, sample.quality, sample.source_at, sample.received_at, sample.substatus
    )


class SampleBucket(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A tag between two instants.

    `count` is how many samples were recorded. `min`, `max` and `avg` are of the values in force, one from
    before included, and `avg` is weighted by how long each was; null when no number was known. `last` is the
    value in force at the end, null when it was not known. `known_s` is for how many seconds a number was.
    """

    from_: datetime
    to: datetime
    count: int
    min: float | int | None
    max: float | int | None
    avg: float | None
    last: TagValue
    known_s: float


def summed_up(
    before: DatedSample | None, samples: Iterable[DatedSample], bounds: Sequence[datetime]
) -> list[SampleBucket]:
    """One bucket for each two neighbouring bounds. `before` is the newest sample before the first bound,
    `samples` are those from the first bound to before the last, in order."""
    buckets: list[SampleBucket] = []
    waiting = iter(samples)
    following = next(waiting, None)
    current = before
    for begin, end in pairwise(bounds):
        inside: list[DatedSample] = []
        while following is not None and following.at < end:
            inside.append(following)
            following = next(waiting, None)
        buckets.append(_bucket(current, inside, begin, end))
        current = inside[-1] if inside else current
    return buckets


def _bucket(
    before: DatedSample | None, inside: Sequence[DatedSample], begin: datetime, end: datetime
) -> SampleBucket:
    steps = [(max(sample.at, begin), sample) for sample in ([before, *inside] if before else inside)]
    ends = [*(at for at, _ in steps[1:]), end] if steps else []
    known: list[float | int] = []
    known_s = integral = 0.0
    for (at, sample), until in zip(steps, ends, strict=True):
        number, lasted_s = sample.number, (until - at).total_seconds()
        # What came from before and was replaced at the very start was never in force here.
        if number is None or (sample is before and not lasted_s):
            continue
        known.append(number)
        known_s += lasted_s
        integral += number * lasted_s
    last = steps[-1][1] if steps else None
    return SampleBucket(
        begin,
        end,
        len(inside),
        min(known, default=None),
        max(known, default=None),
        integral / known_s if known_s else None,
        last.value if last is not None and last.quality is not Quality.BAD else None,
        known_s,
    )
