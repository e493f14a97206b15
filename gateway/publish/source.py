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
    def stream(self) -> str:
        """Which numbering this is; another one once a journal begins anew."""
        ...

    @property
    def first_seq(self) -> int:
        """Number of the first event it still holds; one beyond the newest when it holds none."""
        ...

    @property
    def last_seq(self) -> int:
        """Number of the newest event; 0 before the first."""
        ...


class EventSource(Protocol):
    """The one ordered log of events, and the place where sinks keep their cursors."""

    @property
    def position(self) -> Position:
        """How far it has come."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order, at most `limit`. Those that cannot be read are left out."""
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
