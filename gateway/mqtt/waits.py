"""Who waits for an answer on one connection: until so much was read, or until a wish to hear was granted.

All of them hear it when the connection ends instead.
"""

from __future__ import annotations

import asyncio

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.subscribing import Wish


class Waits:
    """Those of one connection. `wishes` are by the packet identifier of their SUBSCRIBE."""

    def __init__(self) -> None:
        self.wishes: dict[int, Wish] = {}
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []

    async def ping(self, turn: int) -> None:
        """Wait until the ping with this number was answered.

        Raises:
            SinkUnavailable, SinkRefused: the connection ended before.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers.append((turn, done))
        await done

    def answered(self, pings: int) -> None:
        """So many pings were answered."""
        due = [done for turn, done in self._barriers if turn <= pings]
        self._barriers = [barrier for barrier in self._barriers if barrier[0] > pings]
        for done in due:
            if not done.done():  # else who waited has given up
                done.set_result(None)

    async def wish(self, number: int, filters: list[str], asked_at: float) -> tuple[Wish, bytes]:
        """Wait for the codes a SUBSCRIBE is answered with.

        Raises:
            SinkUnavailable, SinkRefused: the connection ended before.
        """
        wish = Wish(filters, asyncio.get_running_loop().create_future(), asked_at)
        self.wishes[number] = wish
        return wish, await wish.answer

    def granted(self, number: int, codes: bytes, words: str) -> None:
        """A SUBACK has come; one that nobody asked for changes nothing."""
        if (wish := self.wishes.pop(number, None)) is not None and not wish.answer.done():
            wish.words = words
            wish.answer.set_result(codes)

    def oldest_at(self) -> float | None:
        """When the wish that waits longest was asked for (monotonic seconds)."""
        return min((wish.asked_at for wish in self.wishes.values()), default=None)

    def fail(self, why: SinkUnavailable | SinkRefused) -> None:
        """The connection is over."""
        for done in [done for _, done in self._barriers] + [wish.answer for wish in self.wishes.values()]:
            if not done.done():
                done.set_exception(why)
                done.exception()  # told; whoever waits hears it, and nobody need
        self._barriers.clear()
        self.wishes.clear()
