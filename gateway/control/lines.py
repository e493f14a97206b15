"""Lines of commands: those for one tag or equipment go one after the other, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lines:
    """A line for each name, for as long as somebody stands in it."""

    def __init__(self, length_max: int) -> None:
        self._length_max = length_max
        self._lines: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    def is_full(self, name: str) -> bool:
        """Whether nobody more may stand in a line."""
        line = self._lines.get(name)
        return line is not None and len(line[1]) >= self._length_max

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for one's turn; locks are handed on in the order they were asked for."""
        lock, queue = self._lines.setdefault(name, (asyncio.Lock(), []))
        queue.append(None)
        try:
            async with lock:
                yield
        finally:
            queue.pop()
            if not queue:
                self._lines.pop(name, None)
