"""A Modbus TCP device for tests, written by hand from the standard, that can misbehave in every way.

It shares no code with the connector: bytes are put together here with `int.to_bytes` and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

#: Function code -> table.
TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}


@dataclass(frozen=True)
class Request:
    """A read as it came in."""

    transaction: int
    unit: int
    function: int
    start: int
    count: int

    @property
    def table(self) -> str:
        return TABLES[self.function]

    @property
    def addresses(self) -> range:
        return range(self.start, self.start + self.count)


def frame(transaction: int, unit: int, pdu: bytes, *, protocol: int = 0, length: int | None = None) -> bytes:
    """MBAP header and PDU; `length` lies when it is given."""
    said = len(pdu) + 1 if length is None else length
    return (
        transaction.to_bytes(2, "big")
        + protocol.to_bytes(2, "big")
        + said.to_bytes(2, "big")
        + bytes([unit])
        + pdu
    )


def exception(request: Request, code: int) -> bytes:
    """The frame of an exception."""
    return frame(request.transaction, request.unit, bytes([request.function | 0x80, code]))


#: What a device does instead of answering: given the right answer and a way to send.
Send = Callable[[bytes], None]
Fault = Callable[[Request, bytes, Send], Awaitable[None]]


@dataclass
class ScriptedDevice:
    """Tables of registers and bits, and a script of faults.

    `faults` are used up one per request; None answers rightly. `always`, when set, applies to the rest.
    """

    unit: int = 1
    registers: dict[tuple[str, int], int] = field(default_factory=dict)
    bits: dict[tuple[str, int], bool] = field(default_factory=dict)
    refused: dict[tuple[str, int], int] = field(default_factory=dict)
    """(table, address) -> exception code for every request that touches it."""
    count_max: int = 2000
    """More addresses than that in one request are refused with exception 3."""
    faults: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    connections_max: int = 1000
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Reset every connection, and go on listening."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def hold(self, address: int, *words: int, table: str = "holding") -> None:
        """Put registers in place, as the words that go over the wire."""
        for place, word in enumerate(words, address):
            self.registers[table, place] = word

    async def asked(self, condition: Callable[[Sequence[Request]], bool]) -> None:
        """Wait until the requests so far fulfil a condition."""
        async with asyncio.timeout(10):
            while not condition(self.requests):
                self._asked.clear()
                await self._asked.wait()

    def answer(self, request: Request) -> bytes:
        """The right answer."""
        if request.count > self.count_max:
            return exception(request, 3)
        for address in request.addresses:
            if (request.table, address) in self.refused:
                return exception(request, self.refused[request.table, address])
        if request.function in (1, 2):
            packed = bytearray((request.count + 7) // 8)
            for index, address in enumerate(request.addresses):
                if self.bits.get((request.table, address), False):
                    packed[index // 8] |= 1 << index % 8
            payload = bytes(packed)
        else:
            payload = b"".join(
                self.registers.get((request.table, address), 0).to_bytes(2, "big")
                for address in request.addresses
            )
        return frame(request.transaction, request.unit, bytes([request.function, len(payload)]) + payload)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if len(self._writers) >= self.connections_max:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            while True:
                await self._one(await reader.readexactly(12), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        assert data[2:6] == b"\x00\x00\x00\x06", "protocol id 0, six bytes follow"
        request = Request(
            int.from_bytes(data[0:2], "big"),
            data[6],
            data[7],
            int.from_bytes(data[8:10], "big"),
            int.from_bytes(data[10:12], "big"),
        )
        self.requests.append(request)
        self._asked.set()
        fault = self.faults.pop(0) if self.faults else self.always
        right = self.answer(request)
        if fault is None:
            writer.write(right)
        else:
            await fault(request, right, writer.write)


async def silent(request: Request, right: bytes, send: Send) -> None:
    """No answer at all."""


def instead(make: Callable[[Request, bytes], bytes]) -> Fault:
    """Send something else."""

    async def fault(request: Request, right: bytes, send: Send) -> None:
        send(make(request, right))

    return fault


def with_exception(code: int) -> Fault:
    """Answer with an exception."""
    return instead(lambda request, _: exception(request, code))


async def in_slices(request: Request, right: bytes, send: Send) -> None:
    """The right answer, one byte at a time."""
    for index in range(len(right)):
        send(right[index : index + 1])
        await asyncio.sleep(0.001)  # so that each byte is a segment of its own


@dataclass
class Held:
    """Answers kept back until `release`."""

    answers: list[tuple[bytes, Send]] = field(default_factory=list)

    async def __call__(self, request: Request, right: bytes, send: Send) -> None:
        self.answers.append((right, send))

    def release(self) -> None:
        for answer, send in self.answers:
            send(answer)
        self.answers.clear()
