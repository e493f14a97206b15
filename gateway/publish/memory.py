"""The journal's twin in memory: for tests, and to try a publisher without a disk."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from gateway.journal.values import Cursor, JournalPosition
from statemodel.records import Recorded


class MemoryJournal:
    """Keeps `EventSource`. `append` takes events that carry their numbers already."""

    def __init__(self, stream: str = "memory") -> None:
        self._stream = stream
        self._events: list[Recorded] = []
        self._last_seq = 0
        self._cursors: dict[str, Cursor] = {}
        self._news = asyncio.Condition()

    @property
    def position(self) -> JournalPosition:
        """All of it can be read."""
        return JournalPosition(self._stream, 1, self._last_seq, 1, 0)

    async def append(self, *events: Recorded, damaged: int = 0) -> None:
        """Add events, which continue the sequence, then so many that can never be read."""
        for event in events:
            assert event.seq == self._last_seq + 1, "the sequence has no gap"
            self._events.append(event)
            self._last_seq = event.seq
        self._last_seq += damaged
        async with self._news:
            self._news.notify_all()

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """As `EventSource`."""
        start = bisect_right(self._events, after, key=lambda event: event.seq)
        return self._events[start : start + limit]

    async def cursor(self, sink: str) -> Cursor:
        """As `EventSource`."""
        return self._cursors.get(sink, Cursor())

    def require(self, sink: str, *, events: bool, batches: bool) -> None:
        """As `EventSource`; everything is kept anyway."""

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """As `EventSource`; a cursor never goes back."""
        before = self._cursors.get(sink, Cursor())
        assert cursor.seq >= before.seq, "a cursor never goes back"
        self._cursors[sink] = cursor
        async with self._news:
            self._news.notify_all()

    async def wait_beyond(self, seq: int, batch: int) -> None:
        """As `EventSource`."""
        async with self._news:
            await self._news.wait_for(lambda: self._last_seq > seq)

    async def wait_cursor(self, sink: str, seq: int) -> Cursor:
        """Return when a sink is done with event `seq`."""
        async with self._news:
            await self._news.wait_for(lambda: self._cursors.get(sink, Cursor()).seq >= seq)
        return self._cursors[sink]
