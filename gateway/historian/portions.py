"""What one transaction writes, read from the journal: some events, some batches, and what could not be given.

Large portions are read in slices, so that the journal's thread has time for commits in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from gateway.journal import Cursor
from gateway.journal.values import JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch, TagSample

EVENTS_MAX = 10_000
BATCHES_MAX = 20_000
#: Read at once: some milliseconds of the journal's thread.
_SLICE_EVENTS, _SLICE_BATCHES, _SLICE_SAMPLES = 1_000, 2_000, 10_000
#: Packed at once, about half a millisecond of work.
_PACK_SAMPLES = 2_000


class Source(Protocol):
    """What portions are read from: the gateway's journal, or the folder of another."""

    @property
    def position(self) -> JournalPosition:
        """What is held."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order; those that cannot be read are left out."""
        ...

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order; those that cannot be read are left out."""
        ...


class Missing(msgspec.Struct, frozen=True):
    """Numbers the journal could not give any more."""

    numbering: str
    first: int
    last: int


class Portion(msgspec.Struct, frozen=True):
    """What one transaction writes, and between which cursors it lies.

    `beyond` is where the range begins that it is the next piece of; None for the next piece after the cursor.
    """

    before: Cursor
    after: Cursor
    events: Sequence[Recorded]
    batches: Sequence[tuple[int, SampleBatch]]
    missing: Sequence[Missing] = ()
    beyond: Cursor | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(len(batch.samples) for _, batch in self.batches)

    def is_full(self, rows_max: int) -> bool:
        """Whether nothing is won by letting more gather."""
        return (
            len(self.batches) >= BATCHES_MAX
            or len(self.events) >= min(EVENTS_MAX, rows_max)
            or self.samples >= rows_max
        )

    def slices(self) -> Iterator[list[tuple[bool, Sequence[TagSample]]]]:
        """The batches, some thousand samples at a time."""
        groups: list[tuple[bool, Sequence[TagSample]]] = []
        samples = 0
        for _, batch in self.batches:
            groups.append((batch.source_time, batch.samples))
            samples += len(batch.samples)
            if samples >= _PACK_SAMPLES:
                yield groups
                groups, samples = [], 0
        if groups:
            yield groups


async def read_portion(
    journal: Source,
    before: Cursor,
    *,
    rows_max: int,
    up_to: Cursor | None = None,
    beyond: Cursor | None = None,
) -> Portion | None:
    """What comes after a cursor, as far as `up_to`, or None. Numbers that are missing are noted in it.

    Raises:
        JournalFailed: the journal failed.
    """
    last = up_to or Cursor(journal.position.last_seq, journal.position.last_batch)
    events = await _events(journal, before.seq, last.seq, rows_max)
    batches = await _batches(journal, before.batch, last.batch, rows_max)
    missing: list[Missing] = []
    seq = _end("event", before.seq, [e.seq for e in events], last.seq, missing)
    batch = _end("batch", before.batch, [n for n, _ in batches], last.batch, missing)
    after = Cursor(seq, batch)
    return None if after == before else Portion(before, after, events, batches, missing, beyond)


async def _events(journal: Source, after: int, last: int, rows_max: int) -> list[Recorded]:
    found: list[Recorded] = []
    limit = min(EVENTS_MAX, rows_max)
    while len(found) < limit and after < last:
        slice_ = await journal.read(after, min(_SLICE_EVENTS, limit - len(found), last - after))
        inside = [event for event in slice_ if event.seq <= last]
        found += inside
        if len(inside) < len(slice_) or not slice_:
            break
        after = slice_[-1].seq
    return found


async def _batches(journal: Source, after: int, last: int, rows_max: int) -> list[tuple[int, SampleBatch]]:
    found: list[tuple[int, SampleBatch]] = []
    samples = 0
    while samples < rows_max and len(found) < BATCHES_MAX and after < last:
        slice_ = await journal.read_batches(
            after,
            min(_SLICE_BATCHES, BATCHES_MAX - len(found), last - after),
            samples_max=min(_SLICE_SAMPLES, rows_max - samples),
        )
        inside = [item for item in slice_ if item[0] <= last]
        found += inside
        if len(inside) < len(slice_) or not slice_:
            break
        after = slice_[-1][0]
        samples += sum(len(batch.samples) for _, batch in slice_)
    return found


def _end(numbering: str, before: int, numbers: Sequence[int], last: int, missing: list[Missing]) -> int:
    """Where a portion ends. Jumps in the numbers, made only by what the journal lost, are noted."""
    expected = before + 1
    for number in numbers:
        if number != expected:
            missing.append(Missing(numbering, expected, number - 1))
        expected = number + 1
    if not numbers and last > before:
        missing.append(Missing(numbering, expected, last))
        return last
    return expected - 1
