"""What the edge node needs from the journal, in its own words. Nothing here knows how things are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.journal.values import Cursor, JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch


class RecordSource(Protocol):
    """The one ordered log of events and samples, where sinks keep their cursors and a few small things."""

    @property
    def position(self) -> JournalPosition:
        """How far it has come."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order, at most `limit`. Those that cannot be read are left out."""
        ...

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = ...
    ) -> Sequence[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order, until `limit` batches or enough samples."""
        ...

    async def cursor(self, sink: str) -> Cursor:
        """Where a sink is; a new sink is at the beginning."""
        ...

    def require(self, sink: str, *, events: bool, batches: bool) -> None:
        """What a sink reads; only that is kept until the sink is done with it."""
        ...

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """A sink is done with everything up to `cursor`: it need not be kept for that sink any longer."""
        ...

    async def wait_beyond(self, seq: int, batch: int) -> None:
        """Return when there is an event after `seq` or a sample batch after `batch`."""
        ...

    async def keep(self, name: str, body: bytes, *, now: bool = ...) -> None:
        """Keep some bytes under a name; with `now` they are durable when this returns."""
        ...

    async def kept(self, name: str) -> bytes | None:
        """What was kept last under a name."""
        ...
