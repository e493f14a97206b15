"""Reading what a broker has retained: a short-lived second connection that only listens.

It asks for exact topics, some at a time, so that nothing of anybody else comes in, and it is bounded in
time, topics and bytes. It never publishes and has no will. What was not given in time looks as if it were not
there, so whoever judges looks twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from connectors.base import Clock
from gateway.clock import SystemClock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link, Message
from gateway.mqtt.options import LinkOptions

#: So long a silence after the last answer means that there is no more.
QUIET_S = 0.4
#: Most bytes taken from the broker in one reading.
BYTES_MAX = 16_000_000
#: Longest reading.
READ_S_MAX = 20.0
#: Longest wait for the good-bye to go out.
_STOP_S = 1.0


async def read_retained(
    options: LinkOptions,
    topics: Sequence[str],
    *,
    quiet_s: float = QUIET_S,
    bytes_max: int = BYTES_MAX,
    timeout_s: float = READ_S_MAX,
    clock: Clock | None = None,
) -> Mapping[str, bytes]:
    """The retained payload of each of these topics that has one.

    `options` are those of the publisher; the client id gets `-reconcile` behind it.

    Raises:
        SinkUnavailable: the broker does not answer, not in time, or with more than `bytes_max`.
        SinkRefused: it will not have us, or lets us not read these topics.
    """
    own = replace(options, client_id=f"{options.client_id}-reconcile", qos_needed=0, retain_needed=False)
    reading = _Reading(bytes_max)
    try:
        async with asyncio.timeout(timeout_s):
            link = await Link.open(own, clock or SystemClock(), will=None, on_message=reading.came)
            try:
                await reading.read(link, topics, quiet_s)
            except SinkRefused as refused:
                raise SinkRefused(
                    f"the topics cannot be compared: {refused.reason}", hint=refused.hint
                ) from refused
            finally:
                link.abort() if reading.too_much else await link.stop(_STOP_S)
    except TimeoutError as error:
        raise SinkUnavailable(f"the broker at {options.address} does not answer in time") from error
    if reading.too_much:
        raise SinkUnavailable(f"the broker at {options.address} gives more than is taken")
    return reading.found


class _Reading:
    def __init__(self, bytes_max: int) -> None:
        self.found: dict[str, bytes] = {}
        self._bytes_left = bytes_max
        self._news = asyncio.Event()

    @property
    def too_much(self) -> bool:
        return self._bytes_left < 0

    def came(self, message: Message) -> None:
        """A message is there; an empty one says that the topic is no longer retained."""
        self._bytes_left -= len(message.topic) + len(message.payload)
        if self.too_much:
            self.found.clear()
        elif message.payload:
            self.found[message.topic] = message.payload
        else:
            self.found.pop(message.topic, None)
        self._news.set()

    async def read(self, link: Link, topics: Sequence[str], quiet_s: float) -> None:
        """Return when every topic has come, nothing has for a while, or too much has."""
        await link.subscribe(dict.fromkeys(topics, 0))
        while len(self.found) < len(topics) and not self.too_much:
            self._news.clear()
            try:
                async with asyncio.timeout(quiet_s):
                    await self._news.wait()
            except TimeoutError:
                break
        await link.room()  # it still stands, so what did not come is not there
