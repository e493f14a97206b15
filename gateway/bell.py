"""Wakes many who wait for the same thing without keeping everybody else waiting meanwhile.

A thousand streams that are woken at once run one after another before anything else gets its turn. So they
are woken a few at a time, and between two groups there is a pause as long as the group took: those who are
woken never have more than half of the event loop.
"""

from __future__ import annotations

import asyncio

#: Woken at once.
GROUP = 16


class Bell:
    """Rings for everybody who waits at that moment. Used from one event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._due: dict[asyncio.Future[None], None] = {}
        self._waking = False

    @property
    def waiting(self) -> int:
        """How many wait, or are about to be woken."""
        return len(self._waiting) + len(self._due)

    async def heard(self) -> None:
        """Return after the next time it rings."""
        ring: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ring] = None
        try:
            await ring
        finally:
            self._waiting.pop(ring, None)
            self._due.pop(ring, None)

    def ring(self) -> None:
        """Wake everybody who waits now."""
        if not self._waiting:
            return
        self._due.update(self._waiting)
        self._waiting.clear()
        if not self._waking:
            self._waking = True
            self._wake()

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        group = [ring for ring, _ in zip(self._due, range(GROUP), strict=False)]
        for ring in group:
            del self._due[ring]
            if not ring.done():
                ring.set_result(None)
        if self._due:
            loop.call_soon(self._after, loop.time())  # after the first steps of those just woken
        else:
            self._waking = False

    def _after(self, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(loop.time() - began_s, self._wake)
