"""The event streams that are open: a bound on their number, and one way to end them all.

Knows nothing of events; `api/stream.py` writes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem


class Streams:
    """The open streams of one application. Used from its event loop only."""

    def __init__(self, streams_max: int, retry_after_s: int) -> None:
        self._streams_max = streams_max
        self._retry_after = ((b"retry-after", b"%d" % retry_after_s),)
        self._endings: set[asyncio.Future[None]] = set()
        self._closing = False
        self._stalled_count = 0

    @property
    def open_count(self) -> int:
        """Streams open now."""
        return len(self._endings)

    @property
    def stalled_count(self) -> int:
        """Streams closed so far because their client stopped reading."""
        return self._stalled_count

    def stalled(self) -> None:
        """Count a stream whose client stopped reading."""
        self._stalled_count += 1

    def close(self) -> None:
        """End every open stream and admit no more: call before the server stops."""
        self._closing = True
        for ending in self._endings:
            if not ending.done():
                ending.set_result(None)

    @contextmanager
    def admit(self) -> Iterator[asyncio.Future[None]]:
        """Hold a place for a stream; the future is done when the stream has to end.

        Raises:
            Problem: `too_many_streams` or `stopping`.
        """
        if self._closing:
            raise Problem("stopping", "The gateway is shutting down.", headers=self._retry_after)
        if len(self._endings) >= self._streams_max:
            raise Problem(
                "too_many_streams",
                f"{self._streams_max} event streams are open, which is the limit.",
                headers=self._retry_after,
            )
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._endings.add(ending)
        try:
            yield ending
        finally:
            self._endings.discard(ending)
