"""Wakes many who wait for news without keeping everybody else waiting meanwhile.

A thousand streams that are woken at once run one after another before anything else gets its turn. So they
are woken a few at a time, and after each few there is a pause as long as those took: together they never have
more than half of the event loop. Who says which news it wants is not woken for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

#: Woken at once, and asked at once whether they want to be.
WAKES_MAX, ASKED_MAX = 16, 256


class Bell(Generic[T]):
    """Rings for everybody who waits at that moment. Used from one event loop only.

    News are numbered. Everybody who is woken is told a number up to which nothing was wanted.
    """

    def __init__(self, last: int = 0) -> None:
        """`last` is the number of the newest news so far."""
        self._waiting: dict[asyncio.Future[int], Callable[[T], bool] | None] = {}
        self._last = last
        #: News that came while others were being told: the number before the first, and all of them.
        self._pending: tuple[int, list[T]] | None = None
        self._told: tuple[int, Sequence[T]] = (0, ())
        self._round: Iterator[asyncio.Future[int]] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def heard(self, wants: Callable[[T], bool] | None = None, within_s: float | None = None) -> int:
        """Wait for news that are wanted (None: any news), or until it has been quiet for a while.

        Returns the number after which to go on: nothing up to it was wanted.
        """
        loop = asyncio.get_running_loop()
        ring: asyncio.Future[int] = loop.create_future()
        self._waiting[ring] = wants
        quiet = None if within_s is None else loop.call_later(within_s, self._give_up, ring)
        try:
            return await ring
        finally:
            self._waiting.pop(ring, None)
            if quiet is not None:
                quiet.cancel()

    def ring(self, before: int = 0, last: int = 0, news: Sequence[T] = ()) -> None:
        """Wake those who wait now and want any of these news, numbered after `before` and up to `last`."""
        self._last = last
        if not self._waiting:
            return
        if self._pending is None:
            self._pending = (before, [])
        self._pending[1].extend(news)
        if self._round is None:
            self._begin()

    def _begin(self) -> None:
        assert self._pending is not None, "there are news"
        self._told, self._pending = self._pending, None
        self._round = iter(list(self._waiting))
        self._wake()

    def _wake(self) -> None:
        assert self._round is not None, "it rings"
        before, news = self._told
        wakes = 0
        loop = asyncio.get_running_loop()
        for asked, ring in enumerate(self._round, 1):
            wants = self._waiting.get(ring)
            if not ring.done() and (wants is None or any(map(wants, news))):
                ring.set_result(before)
                wakes += 1
            if wakes == WAKES_MAX or asked == ASKED_MAX:
                loop.call_soon(self._after, loop.time())  # after the first steps of those just woken
                return
        self._round = None
        if self._pending is not None:
            self._begin()

    def _after(self, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(loop.time() - began_s, self._wake)

    def _give_up(self, ring: asyncio.Future[int]) -> None:
        """Let one go on that has waited long; while it rings, it is asked in its turn."""
        if self._round is None and not ring.done():
            ring.set_result(self._last)
