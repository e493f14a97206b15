"""From when to when something recorded was lost: told by what was recorded before and after it.

Reads in the store around damage that was met, at a time when nobody else is reading.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from gateway.journal.segment import SegmentId
from gateway.journal.values import Cursor, Damage
from statemodel.records import Recorded
from statemodel.types import SampleBatch


class Needs(msgspec.Struct, frozen=True):
    """What a required sink reads, so what must stay until it has."""

    events: bool
    batches: bool


class Readable(Protocol):
    """The part of a store this needs."""

    ids: list[SegmentId]
    cursors: dict[str, Cursor]
    required: dict[str, Needs]

    def read(self, after: int, limit: int) -> list[Recorded]: ...
    def read_batches(self, after: int, limit: int, samples_max: int) -> list[tuple[int, SampleBatch]]: ...
    def begun_at(self, id_: SegmentId) -> datetime: ...


def is_wanted(damage: Damage, required: Mapping[str, Needs], cursors: Mapping[str, Cursor]) -> bool:
    """Whether anybody has yet to read what cannot be read any more."""
    if not required or not (damage.seq or damage.batch):
        return True
    return any(
        (needs.events and damage.seq > cursor.seq) or (needs.batches and damage.batch > cursor.batch)
        for sink, needs in required.items()
        for cursor in [cursors.get(sink, Cursor())]
    )


def bounds(store: Readable, id_: SegmentId, damage: Damage, now: datetime) -> tuple[datetime, datetime]:
    """The instants between which something was lost: of the records next to it, else of its segment."""
    place = bisect.bisect_left(store.ids, id_.number, key=lambda i: i.number)
    following: Sequence[SegmentId] = store.ids[place + 1 : place + 2]
    at = store.begun_at(id_)
    until = store.begun_at(following[0]) if following else now
    if damage.seq:
        before = [r.recorded_at for r in store.read(damage.seq - 3, 2) if r.seq < damage.seq]
        after = [r.recorded_at for r in store.read(damage.seq, 1)]
    else:
        around = store.read_batches(damage.batch - 3, 4, 10**9) if damage.batch else []
        before = [b.received_at for n, b in around if n < damage.batch]
        after = [b.received_at for n, b in around if n > damage.batch]
    at, until = max(before, default=at), min(after, default=until)
    return at, max(at, until)
