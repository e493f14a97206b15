"""Publications on their way: turned into bytes and sent by one task, in the order the session made them.

The numbers of Sparkplug's messages leave no other order, so nobody else sends. Whoever hands something in
waits for it (`told`), which bounds what lies here: one stretch of news, one of history, one set of births.
Knows no session, journal or equipment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import structlog

from gateway.mqtt.link import Link
from gateway.sparkplug.messages import Publication
from gateway.sparkplug.payload import WrongValue, encode

#: So much is sent before anything else in the process gets its turn.
TURN_MESSAGES, TURN_BYTES = 16, 64_000
#: What the broker has not read yet may be so much; then it is asked how far it is.
UNREAD_BYTES_MAX = 1_000_000

log = structlog.get_logger(__name__)


class Outbox:
    """What is to be sent on one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[Publication] = deque()
        self._put = 0
        self._sent = 0
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        #: Messages that could not be written as bytes; nothing the session makes should ever be one.
        self.unwritable = 0

    def put(self, publications: Iterable[Publication]) -> None:
        """Send these, after all that was put here before."""
        before = len(self._waiting)
        self._waiting.extend(publications)
        self._put += len(self._waiting) - before
        self._news.set()

    async def told(self) -> None:
        """Return when the broker has read everything that was put here until now.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        upto = self._put
        while self._sent < upto:
            self._moved.clear()
            await self._moved.wait()
        await self._link.taken()

    async def run(self) -> None:
        """Send for ever.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        unread_bytes = turn_bytes = turn = 0
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            if self._link.full:
                await self._link.room()
            size = self._send(self._waiting.popleft())
            self._sent += 1
            self._moved.set()
            unread_bytes, turn_bytes, turn = unread_bytes + size, turn_bytes + size, turn + 1
            if unread_bytes >= UNREAD_BYTES_MAX:
                await self._link.taken()
                unread_bytes = 0
            if turn >= TURN_MESSAGES or turn_bytes >= TURN_BYTES:
                await asyncio.sleep(0)
                turn = turn_bytes = 0

    def _send(self, publication: Publication) -> int:
        try:
            body = encode(publication.payload)
        except WrongValue as error:  # the rest of the equipment must not fall silent with it
            self.unwritable += 1
            log.critical("a message cannot be written", topic=publication.topic, reason=error.reason)
            return 0
        self._link.publish(publication.topic, body, qos=0)
        return len(body)
