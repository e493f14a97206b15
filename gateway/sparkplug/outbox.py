"""Publications on their way: turned into bytes and sent by one task, in the order the session made them.

The numbers of Sparkplug's messages leave no other order, so nobody else sends. Whoever hands something in
waits for it (`told`), which bounds what lies here: one stretch of news, one of history, one set of births.

A broker may take small packets only. DATA is then told in several messages. A value that is too large even so
is told as null with bad quality, so that nobody takes the one before it for good. Of what cannot be told at
all no number is used up: a hole in the numbers makes hosts ask for births again and again.
Knows no session, journal or equipment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from gateway.errors import SinkRefused
from gateway.mqtt.link import Link
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import NUMBERS, Publication
from gateway.sparkplug.names import Names, Verb
from gateway.sparkplug.payload import Metric, Payload, Property, WrongValue, encode
from gateway.sparkplug.pictures import QUALITY_BAD, QUALITY_GOOD

#: So much is sent before anything else in the process gets its turn.
TURN_MESSAGES, TURN_BYTES = 16, 64_000
#: What the broker has not read yet may be so much; then it is asked how far it is.
UNREAD_BYTES_MAX = 1_000_000
#: Bytes of a packet beside topic and payload, at most: its head, two lengths and a topic alias.
_HEAD_BYTES_MAX = 16

_DATA = frozenset({Verb.NDATA, Verb.DDATA})
_BIRTHS = frozenset({Verb.NBIRTH, Verb.DBIRTH})
#: What a value that the broker does not take is told with, and the next one that it takes.
_TOO_LARGE = {
    "Quality": Property(DataType.INT32, QUALITY_BAD),
    "Substatus": Property(DataType.STRING, "too_large"),
}
_FITS_AGAIN = {
    "Quality": Property(DataType.INT32, QUALITY_GOOD),
    "Substatus": Property(DataType.STRING, None),
}

log = structlog.get_logger(__name__)


class Outbox:
    """What is to be sent on one connection."""

    def __init__(
        self, link: Link, names: Names, on_birth: Callable[[bytes], None] = lambda body: None
    ) -> None:
        """`on_birth` is told the bytes of each NBIRTH that is on its way."""
        self._link, self._names, self._on_birth = link, names, on_birth
        self._waiting: deque[Publication] = deque()
        self._put = 0
        self._sent = 0
        #: So far the numbers are from those of the session, by parts more or messages less since the NBIRTH.
        self._shift = 0
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._born: set[str] = set()
        self._unborn: set[str] = set()
        #: Aliases of metrics that have a quality, and of those that were too large last.
        self._rated: set[int] = set()
        self._nulled: set[int] = set()
        #: What a person should know, by device: of these hosts do not hear all there is.
        self.warnings: dict[str, str] = {}
        #: Messages that were not sent since their device has no birth that the broker takes.
        self.left_out = 0
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

    async def drained(self) -> None:
        """Send what waits, when `run` has ended; returns when the broker has read it all.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over.
        """
        while self._waiting:
            await self._link.room()
            self._send(self._waiting.popleft())
            self._sent += 1
        await self._link.taken()

    async def run(self) -> None:
        """Send for ever.

        Raises:
            SinkUnavailable, SinkRefused: the connection is over, or the broker does not take the NBIRTH.
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
        """Send one of the session's messages; how many bytes that took."""
        verb, device = publication.verb, publication.device
        if verb is Verb.NBIRTH:
            self._shift = 0
            self._born.clear()
            self._unborn.clear()
            self.warnings.clear()
        elif verb is Verb.DBIRTH:
            self._unborn.discard(device)
            self.warnings.pop(device, None)
        elif device in self._unborn:
            self.left_out += 1
            self._shift -= 1
            return 0
        size, all_sent = self._said(publication)
        if verb is Verb.NBIRTH and not all_sent:
            raise SinkRefused(
                f"the NBIRTH is larger than the {self._link.limits.packet_max} bytes the broker takes",
                hint="raise the largest packet it takes, or show fewer tags",
            )
        if verb is Verb.DBIRTH:
            if all_sent:
                self._born.add(device)
            else:
                size += self._never_born(publication)
        elif verb is Verb.DDEATH:
            self._born.discard(device)
        return size

    def _never_born(self, birth: Publication) -> int:
        """A device hosts cannot be told of: they see none, or one that is dead, not one that stands still."""
        device = birth.device
        self._unborn.add(device)
        if device not in self._born:
            return 0
        self._born.discard(device)
        self._shift += 1  # the session knows nothing of it
        topic = self._names.topic(Verb.DDEATH, device)
        payload = Payload(birth.payload.at, birth.payload.seq, ())
        return self._said(Publication(topic, payload, Verb.DDEATH, device))[0]

    def _said(self, publication: Publication) -> tuple[int, bool]:
        """Bytes sent, and whether everything was."""
        payload, parts, count, size, all_sent = publication.payload, [self._metrics(publication)], 0, 0, True
        while parts:
            metrics = parts.pop()
            try:
                body = self._body(payload, metrics, count)
            except WrongValue as error:  # the rest of the equipment must not fall silent with it
                self.unwritable += 1
                log.critical("a message cannot be written", topic=publication.topic, reason=error.reason)
                all_sent = False
                continue
            if publication.verb in _DATA and len(metrics) > 1 and self._too_large(publication.topic, body):
                half = len(metrics) // 2
                parts += (metrics[half:], metrics[:half])
            elif self._link.publish(publication.topic, body, qos=0):
                count, size = count + 1, size + len(body)
                if publication.verb is Verb.NBIRTH:
                    self._on_birth(body)
            else:
                all_sent = False
                self._warn(publication, len(body))
                if publication.verb in _DATA and metrics[0].value is not None:
                    parts.append((self._null(metrics[0]),))
        self._shift += count - 1
        return size, all_sent

    def _metrics(self, publication: Publication) -> Sequence[Metric]:
        """What a message says; of what was too large before, that it is good again."""
        metrics = publication.payload.metrics
        if publication.verb in _BIRTHS:  # all is said anew, with its quality
            born = {metric.alias: "Quality" in metric.properties for metric in metrics}
            self._nulled -= {alias for alias in born if alias is not None}
            self._rated |= {alias for alias, rated in born.items() if rated and alias is not None}
        elif self._nulled and publication.verb in _DATA:
            return tuple(self._again(metric) for metric in metrics)
        return metrics

    def _again(self, metric: Metric) -> Metric:
        if metric.alias not in self._nulled or metric.historical:
            return metric
        self._nulled.discard(metric.alias)
        return metric if metric.properties else msgspec.structs.replace(metric, properties=_FITS_AGAIN)

    def _null(self, metric: Metric) -> Metric:
        """Stands for a value that is too large."""
        if metric.alias not in self._rated:
            return msgspec.structs.replace(metric, value=None)
        if not metric.historical:
            self._nulled.add(metric.alias)
        return msgspec.structs.replace(metric, value=None, properties=_TOO_LARGE)

    def _body(self, payload: Payload, metrics: Sequence[Metric], before: int) -> bytes:
        """The bytes of a message, or of a part of it that so many went before."""
        shift = self._shift + before
        if payload.seq is not None and (shift or metrics is not payload.metrics):
            payload = msgspec.structs.replace(payload, seq=(payload.seq + shift) % NUMBERS, metrics=metrics)
        return encode(payload)

    def _too_large(self, topic: str, body: bytes) -> bool:
        packet_max = self._link.limits.packet_max
        return packet_max is not None and _HEAD_BYTES_MAX + len(topic.encode()) + len(body) > packet_max

    def _warn(self, publication: Publication, size: int) -> None:
        device, packet_max = publication.device, self._link.limits.packet_max
        if device in self.warnings:  # said once for each birth
            return
        log.error("a message is too large", topic=publication.topic, bytes=size, packet_bytes_max=packet_max)
        who = device or "the node"
        told = "a value is too large for the broker; hosts see null"
        if publication.verb not in _DATA:
            told = f"a {publication.verb} is too large for the broker; hosts do not hear it"
        self.warnings[device] = f"{who}: {told}"
