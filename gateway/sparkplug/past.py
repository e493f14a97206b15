"""What gathered while no host heard it: read from the journal page by page, events and samples as they came.

Only one page is in memory at a time. Knows no Sparkplug: who reads on says what becomes of each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from heapq import merge
from itertools import takewhile

import msgspec

from gateway.journal.values import Cursor
from gateway.sparkplug.source import RecordSource
from statemodel.records import Recorded
from statemodel.types import SampleBatch, TagSample

#: Most events and most samples of a page. A batch is never split, so a page may hold one batch more.
PAGE_EVENTS_MAX, PAGE_SAMPLES_MAX, PAGE_BATCHES_MAX = 256, 2000, 256

_Batches = Sequence[tuple[int, SampleBatch]]
_Timed = tuple[datetime, Recorded | TagSample]


class Page(msgspec.Struct, frozen=True):
    """A stretch of the past, oldest first, and where the journal stands after it."""

    items: Sequence[Recorded | TagSample]
    upto: Cursor


async def pages(
    journal: RecordSource, after: Cursor, until: Cursor, tags: Collection[str]
) -> AsyncIterator[Page]:
    """Everything in the journal after one cursor up to another: all events, and the samples of `tags`.

    What the journal cannot read, or has not any more, is left out and passed over.

    Raises:
        JournalFailed: the journal is of no use any more.
    """
    seq, number = after.seq, after.batch if tags else until.batch
    while seq < until.seq or number < until.batch:
        events: Sequence[Recorded] = ()
        batches: _Batches = ()
        if seq < until.seq:
            events = [e for e in await journal.read(seq, PAGE_EVENTS_MAX) if e.seq <= until.seq]
            seq = until.seq if not events else seq
        if number < until.batch:
            found = await journal.read_batches(number, PAGE_BATCHES_MAX, samples_max=PAGE_SAMPLES_MAX)
            batches = [item for item in found if item[0] <= until.batch]
            number = until.batch if not batches else number
        events, batches = _up_to_the_same_time(events, batches)
        seq = events[-1].seq if events else seq
        number = batches[-1][0] if batches else number
        yield Page(_merged(events, batches, tags), Cursor(seq, number))


def _up_to_the_same_time(
    events: Sequence[Recorded], batches: _Batches
) -> tuple[Sequence[Recorded], _Batches]:
    """Both as far as the one that ends earlier: nobody hears of Tuesday's events before Monday's samples."""
    if not events or not batches:
        return events, batches
    end = min(events[-1].recorded_at, batches[-1][1].received_at)
    earlier = list(takewhile(lambda event: event.recorded_at <= end, events))
    with_them = list(takewhile(lambda item: item[1].received_at <= end, batches))
    # A clock that was put back may leave nothing: then the order of the numbers is as good as any.
    return (earlier, with_them) if earlier or with_them else (events, ())


def _merged(
    events: Sequence[Recorded], batches: _Batches, tags: Collection[str]
) -> Sequence[Recorded | TagSample]:
    """Both in one order, neither sorted: when a clock was put back, the journal's order is the true one."""
    samples: list[_Timed] = [
        (batch.received_at, sample) for _, batch in batches for sample in batch.samples if sample.tag in tags
    ]
    told: list[_Timed] = [(event.recorded_at, event) for event in events]
    return [item for _, item in merge(samples, told, key=_time)]


def _time(timed: _Timed) -> datetime:
    return timed[0]
