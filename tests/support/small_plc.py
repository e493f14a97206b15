"""Many small Modbus devices in one process, and devices that are dead in the ways devices are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from tests.support.doors import shut
from tests.support.no_writes import note_modbus


class SmallPlc:
    """Answers reads of holding registers from one list; remembers when it was asked."""

    def __init__(self, registers: int = 10) -> None:
        self.registers = [0] * registers
        self.asked_s: list[float] = []
        #: Called with what an answer holds, just before it is sent.
        self.answering: Callable[[Sequence[int]], None] | None = None
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Conversation(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            await shut(self._server)
            for _ in range(4):  # what it had accepted already comes through within some turns of the loop
                self.cut()
                await asyncio.sleep(0)
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Reset every connection, and go on listening."""
        for transport in tuple(self._transports):
            transport.abort()


class _Conversation(asyncio.Protocol):
    def __init__(self, plc: SmallPlc) -> None:
        self._plc = plc
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._plc.connections += 1
        self._plc._transports.add(transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._plc._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 12:  # a read request: header, function, start, count
            request, self._buffer = self._buffer[:12], self._buffer[12:]
            start, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
            note_modbus("SmallPlc", request[7], start)
            words = self._plc.registers[start : start + count]
            payload = b"".join(word.to_bytes(2, "big") for word in words)
            pdu = bytes([request[7], len(payload)]) + payload
            self._plc.asked_s.append(asyncio.get_running_loop().time())
            if self._plc.answering is not None:
                self._plc.answering(words)
            self._transport.write(request[:4] + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu)


@asynccontextmanager
async def small_plcs(count: int) -> AsyncIterator[list[SmallPlc]]:
    """So many devices, each at a port of its own."""
    plcs = [SmallPlc() for _ in range(count)]
    try:
        for plc in plcs:
            await plc.start()
        yield plcs
    finally:
        for plc in plcs:
            await plc.stop()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which connections are refused: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: a connect is neither accepted nor refused."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = int(listening.getsockname()[1])
        fillers: list[socket.socket] = []
        try:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            yield port
        finally:
            for filler in fillers:
                filler.close()


class Acceptor:
    """Takes connections, at many ports, and then does what such devices do: nothing, or hang up at once."""

    def __init__(self, ports: int, *, hangs_up: bool) -> None:
        self.connections = 0
        self.ports: list[int] = []
        self._count = ports
        self._hangs_up = hangs_up
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Acceptor:
        for _ in range(self._count):
            server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_failure: object) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _accepted(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._hangs_up:
            writer.transport.abort()
        else:
            self._writers.append(writer)
