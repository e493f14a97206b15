"""What the publisher needs from the journal, said in its own words.

The journal is one implementation, `memory` another. Nothing here knows how events are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.journal.values import Cursor
from statemodel.records import Recorded


class Position(Protocol):
    """How far the journal has come."""

    @property
    def last_seq(self) -> int:
        """Number of the newest event; 0 before the first."""
        ...

    @property
    def last_batch(self) -> int:
        """Number of the newest sample batch; 0 before the first."""
        ...


class EventSource(Protocol):
    """The one ordered log of events, and the place where sinks keep their cursors."""

    @property
    def position(self) -> Position:
        """How far it has come."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order, at most `limit`; empty when there are none yet."""
        ...

    async def cursor(self, sink: str) -> Cursor:
        """Where a sink is; a new sink is at the beginning."""
        ...

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """A sink is done with everything up to `cursor`: it need not be kept for that sink any longer."""
        ...

    async def wait_beyond(self, seq: int, batch: int) -> None:
        """Return when there is an event after `seq` or a sample batch after `batch`."""
        ...
