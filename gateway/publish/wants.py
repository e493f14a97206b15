"""What has to be said again, or cleared: each topic once, however often somebody wants it.

Where what was lost comes in: a topic somebody found missing, everything after a broker lost its store, what
would expire. Bounded by the number of topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from gateway.mqtt.link import Link
from gateway.publish.holdings import Held
from gateway.publish.voice import Voice

#: Says the newest on a topic that is ours.
SayAgain = Callable[[Link, str, Held], Awaitable[None]]


class Wants:
    """The wishes of one broker."""

    def __init__(self, voice: Voice, say_again: SayAgain) -> None:
        self._voice, self._say_again = voice, say_again
        self._wanted: dict[str, bool] = {}
        self._news = asyncio.Event()

    @property
    def own(self) -> Mapping[str, Held]:
        """Every retained topic this configuration has."""
        return self._voice.held

    def again(self, topics: Iterable[str]) -> None:
        """Say the newest on these topics once more; what is not ours to say is ignored."""
        self._wanted.update(dict.fromkeys((topic for topic in topics if topic in self.own), True))
        self._news.set()

    def clear(self, topics: Iterable[str]) -> None:
        """Let the broker forget these topics; one that this configuration has there is never cleared."""
        kept = self._voice.elsewhere
        left = (topic for topic in topics if topic not in self.own and topic not in kept)
        self._wanted.update(dict.fromkeys(left, False))
        self._news.set()

    async def say(self, link: Link) -> None:
        """Do what is wanted, until the connection is over."""
        self._wanted.clear()  # after a connect everything is said anyway
        while True:
            while not self._wanted:
                self._news.clear()
                await self._news.wait()
            if link.full:
                await link.room()
            topic = next(iter(self._wanted))
            if self._wanted.pop(topic):
                await self._say_again(link, topic, self.own[topic])
            else:
                self._voice.clear(link, topic)
