"""A cable between a client and a broker that writes down every PUBLISH and every acknowledgement.

Reads the packets by itself, after the standard and not with our code. When the broker dies the cable
is taken `down`: nobody can connect and what was on its way is lost, acknowledgements too. It can also lose
what a broker says kind by kind.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.ports import free_port

_PUBLISH = 3
PUBACK, PUBREC, PUBCOMP = 4, 5, 7
"""Kinds of packets of a broker, as the upper four bits of the first byte have them."""


class Sent(NamedTuple):
    """A PUBLISH: on which connection (counted from 1), when (monotonic), and what."""

    connection: int
    at: float
    topic: str
    payload: bytes
    retain: bool
    repeated: bool


class Acked(NamedTuple):
    """The broker has a message: the PUBLISH, and when it said so."""

    sent: Sent
    at: float


def packets(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packets out of a buffer: first byte and what follows the length (MQTT 5.0 section 2.1)."""
    while True:
        rest, at = 0, 1
        while at < len(buffer) and buffer[at] >= 0x80:
            rest |= (buffer[at] & 0x7F) << 7 * (at - 1)
            at += 1
        if at >= len(buffer):
            return
        rest |= buffer[at] << 7 * (at - 1)
        end = at + 1 + rest
        if len(buffer) < end:
            return
        packet = buffer[0], bytes(buffer[at + 1 : end])
        del buffer[:end]
        yield packet


#: Properties a PUBLISH can have (MQTT 5.0 section 2.2.2.2), and how long each is: so many bytes, or as many
#: as its own length says, once or twice.
_TOPIC_ALIAS = 0x23
_BYTES = {0x01: 1, 0x02: 4, _TOPIC_ALIAS: 2}
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}


def _properties(body: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """The properties of a PUBLISH that begin at a place, by identifier, and where they end."""
    length = shift = 0
    while body[at] >= 0x80:
        length |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
    length |= body[at] << shift
    at += 1
    end, found = at + length, dict[int, bytes]()
    while at < end:
        kind, begin = body[at], at + 1
        at = begin + _BYTES.get(kind, 0)
        for _ in range(_TEXTS.get(kind, 0)):
            at += 2 + int.from_bytes(body[at : at + 2], "big")
        assert at > begin, f"property {kind:#x} has no place in a PUBLISH"
        found[kind] = body[begin:at]
    return found, end


@dataclass
class Ledger:
    """What passed, in order."""

    protocol: str = "5"
    sent: list[Sent] = field(default_factory=list)
    acked: list[Acked] = field(default_factory=list)
    ended: list[tuple[int, float]] = field(default_factory=list)
    """Connections that were lost, and when."""
    _aliases: dict[int, dict[bytes, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What the standard forbids."""

    def out(self, connection: int, waiting: dict[int, Sent], first: int, body: bytes) -> None:
        """A packet of the client."""
        if first >> 4 != _PUBLISH:
            return
        length = int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + length].decode(), 2 + length
        number = 0
        if first >> 1 & 3:
            number = int.from_bytes(body[at : at + 2], "big")
            at += 2
        if self.protocol == "5":
            properties, at = _properties(body, at)
            if (alias := properties.get(_TOPIC_ALIAS)) is not None:
                named = self._aliases.setdefault(connection, {})
                named[alias] = topic = topic or named[alias]
        sent = Sent(connection, time.monotonic(), topic, body[at:], bool(first & 1), bool(first & 8))
        self.sent.append(sent)
        if number:
            if number in waiting:
                self.faults.append(f"packet identifier {number} was used while it was in use")
            waiting[number] = sent

    def back(self, waiting: dict[int, Sent], first: int, body: bytes) -> None:
        """A packet of the broker: PUBACK, or PUBCOMP, with which a message of QoS 2 is passed on."""
        if first >> 4 in (PUBACK, PUBCOMP) and not (len(body) > 2 and body[2] >= 0x80):
            self.acked.append(Acked(waiting.pop(int.from_bytes(body[:2], "big")), time.monotonic()))

    def said(self, ending: str) -> list[Sent]:
        """What was published on topics with this ending."""
        return [sent for sent in self.sent if sent.topic.endswith(ending)]

    def events(self) -> list[Sent]:
        """What was published on topics of events."""
        return [sent for sent in self.sent if "/_event/" in sent.topic]


class Tap:
    """Listens on a port of its own and passes everything on to the broker's."""

    def __init__(self, target_port: int, ledger: Ledger) -> None:
        self.port = free_port()
        self.ledger = ledger
        self.connections = 0
        self.connected = asyncio.Event()
        """Somebody has connected since it was last cleared; a person at the door counts."""
        self.losing: set[int] = set()
        """Kinds of packets of the broker that get lost on their way."""
        self.lost = 0
        """Packets that got lost."""
        self._target_port = target_port
        self._door: socket.socket | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Let clients in (again), on the same port as before."""
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._door.setblocking(False)
        # Not asyncio's server: closed while somebody comes in, it leaves a connection open that nobody has.
        asyncio.get_running_loop().add_reader(self._door, self._let_in, self._door)

    async def down(self) -> None:
        """End all connections; nobody gets in."""
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for _ in range(3):  # what was aborted is closed in the next turns of the loop
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    def _let_in(self, door: socket.socket) -> None:
        try:
            near, _ = door.accept()
        except BlockingIOError:
            return
        near.setblocking(False)
        task = asyncio.create_task(self._serve(near))
        self._serving.add(task)
        task.add_done_callback(partial(self._over, near))

    def _over(self, near: socket.socket, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        near.close()  # it may have been cancelled before it began

    async def _serve(self, near: socket.socket) -> None:
        self.connections += 1
        connection = self.connections
        self.connected.set()
        waiting: dict[int, Sent] = {}
        writer: asyncio.StreamWriter | None = None
        far: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(sock=near)
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
            out = partial(self.ledger.out, connection, waiting)
            back = partial(self.ledger.back, waiting)
            pipes = {
                asyncio.create_task(self._pass_on(reader, far, out, set())),
                asyncio.create_task(self._pass_on(far_reader, writer, back, self.losing)),
            }
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.ledger.ended.append((connection, time.monotonic()))
            for each in (writer, far):
                if each is not None:
                    each.transport.abort()
            await asyncio.sleep(0)  # both are closed then

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        note: Callable[[int, bytes], None],
        losing: set[int],
    ) -> None:
        buffer = bytearray()
        while data := await reader.read(65536):
            buffer += data
            if not losing:
                writer.write(data)
            for first, body in packets(buffer):
                note(first, body)
                if first >> 4 in losing:
                    self.lost += 1
                elif losing:
                    assert len(body) < 0x80, "what a broker says to a publisher is short"
                    writer.write(bytes((first, len(body))) + body)
            await writer.drain()
