"""The journal's twin in memory: for tests, and to try a publisher without a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.journal.values import Cursor, JournalPosition
from statemodel.records import Recorded


class MemoryJournal:
    """Keeps `EventSource`. `append` takes events that carry their numbers already."""

    def __init__(self, stream: str = "memory") -> None:
        self._stream = stream
        self._events: list[Recorded] = []
        self._last_batch = 0
        self._cursors: dict[str, Cursor] = {}
        self._news = asyncio.Condition()

    @property
    def position(self) -> JournalPosition:
        """All of it can be read."""
        return JournalPosition(self._stream, 1, len(self._events), 1, self._last_batch)

    async def append(self, *events: Recorded, batches: int = 0) -> None:
        """Add events, which continue the sequence, and count sample batches nobody here reads."""
        for event in events:
            assert event.seq == len(self._events) + 1, "the sequence has no gap"
            self._events.append(event)
        async with self._news:
            self._last_batch += batches
            self._news.notify_all()

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """As `EventSource`."""
        return self._events[after : after + limit]

    async def cursor(self, sink: str) -> Cursor:
        """As `EventSource`."""
        return self._cursors.get(sink, Cursor())

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """As `EventSource`; a cursor never goes back."""
        before = self._cursors.get(sink, Cursor())
        assert cursor.seq >= before.seq, "a cursor never goes back"
        assert cursor.batch >= before.batch, "a cursor never goes back"
        self._cursors[sink] = cursor
        async with self._news:
            self._news.notify_all()

    async def wait_beyond(self, seq: int, batch: int) -> None:
        """As `EventSource`."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._events) > seq or self._last_batch > batch)

    async def wait_cursor(self, sink: str, seq: int) -> Cursor:
        """Return when a sink is done with event `seq`."""
        async with self._news:
            await self._news.wait_for(lambda: self._cursors.get(sink, Cursor()).seq >= seq)
        return self._cursors[sink]
