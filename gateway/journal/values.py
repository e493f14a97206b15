"""What the journal says about itself: positions, cursors, figures. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from statemodel.types import SampleBatch


class Cursor(msgspec.Struct, frozen=True, order=False):
    """How far a sink has read: the last event and the last sample batch it certainly holds."""

    seq: int = 0
    batch: int = 0

    def beyond(self, other: Cursor) -> Cursor:
        """The further of two, part by part."""
        return Cursor(max(self.seq, other.seq), max(self.batch, other.batch))


class JournalPosition(msgspec.Struct, frozen=True):
    """What can be read: events `first_seq` to `last_seq`, batches `first_batch` to `last_batch`.

    Nothing is held when the last lies one before the first.
    """

    stream: str
    first_seq: int
    last_seq: int
    first_batch: int
    last_batch: int


class Damage(msgspec.Struct, frozen=True):
    """A stretch of the journal that cannot be read: in which file, what, why."""

    path: str
    reason: str
    seq: int = 0
    batch: int = 0


class Anchor(msgspec.Struct, frozen=True):
    """The end of the chain of commits: `digest` (hexadecimal) covers all events up to `seq` and batches up to
    `batch`. Who holds on to one elsewhere can tell later that nothing before it was changed.
    """

    seq: int
    batch: int
    digest: str


class JournalStats(msgspec.Struct, frozen=True):
    """Figures for people, health and metrics.

    `oldest_at` is when the oldest segment began. `full` is empty, or the reason why nothing more is taken
    for now. `damaged` lists at most the first hundred records that could not be read. `cut_bytes` is the torn
    tail that was cut off at the start. `shedding` is empty, or the reason why samples, but not events, are
    left out for now; `shed` counts those ever left out, by tag.
    """

    bytes: int
    bytes_max: int
    segments: int
    oldest_at: datetime
    events: int
    batches: int
    samples: int
    commits: int
    full: str
    damaged: tuple[Damage, ...]
    sinks: Mapping[str, Cursor]
    cut_bytes: int = 0
    shedding: str = ""
    shed: Mapping[str, int] = {}
    anchor: Anchor | None = None


class JournalWatcher(Protocol):
    """Who counts what the journal holds. Called in the journal's thread, so each method must be quick."""

    @property
    def name(self) -> str:
        """Under which its bytes are kept."""
        ...

    def appended(self, first: int, batches: Sequence[SampleBatch]) -> None:
        """Batches, numbered from `first`, are durable."""
        ...

    def to_keep(self) -> bytes:
        """All it must know to go on later from here."""
        ...

    def held_from(self) -> int:
        """To go on from what `to_keep` gave last, it has to read all batches beyond this number."""
        ...
