"""A cable between a client and a broker that writes down every PUBLISH and every acknowledgement.

Reads the packets by itself, after the standard and not with our code. When the broker dies the cable
is taken `down`: nobody can connect and what was on its way is lost, acknowledgements too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

_PUBLISH, _PUBACK, _PUBREC = 3, 4, 5


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


@dataclass
class Ledger:
    """What passed, in order."""

    protocol: str = "5"
    sent: list[Sent] = field(default_factory=list)
    acked: list[Acked] = field(default_factory=list)
    ended: list[tuple[int, float]] = field(default_factory=list)
    """Connections that were lost, and when."""
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
            at += 1 + body[at]  # properties are short here: their length is one byte
        sent = Sent(connection, time.monotonic(), topic, body[at:], bool(first & 1), bool(first & 8))
        self.sent.append(sent)
        if number:
            if number in waiting:
                self.faults.append(f"packet identifier {number} was used while it was in use")
            waiting[number] = sent

    def back(self, waiting: dict[int, Sent], first: int, body: bytes) -> None:
        """A packet of the broker: PUBACK, or PUBREC, with which a message of QoS 2 is the broker's."""
        if first >> 4 in (_PUBACK, _PUBREC) and not (len(body) > 2 and body[2] >= 0x80):
            self.acked.append(Acked(waiting.pop(int.from_bytes(body[:2], "big")), time.monotonic()))


class Tap:
    """Listens on a port of its own and passes everything on to the broker's."""

    def __init__(self, target_port: int, ledger: Ledger) -> None:
        self.port = 0
        self.ledger = ledger
        self.connections = 0
        self.connected = asyncio.Event()
        """Somebody has connected since it was last cleared; a person at the door counts."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Let clients in (again), on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """End all connections; nobody gets in."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        connection = self.connections
        self.connected.set()
        waiting: dict[int, Sent] = {}
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
            pipes = {
                asyncio.create_task(
                    _pass_on(
                        reader, far, lambda first, body: self.ledger.out(connection, waiting, first, body)
                    )
                ),
                asyncio.create_task(
                    _pass_on(far_reader, writer, lambda first, body: self.ledger.back(waiting, first, body))
                ),
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
            writer.transport.abort()
            if far is not None:
                far.transport.abort()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[int, bytes], None]
) -> None:
    buffer = bytearray()
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
        buffer += data
        for first, body in packets(buffer):
            note(first, body)
