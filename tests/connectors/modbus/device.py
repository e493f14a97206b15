"""A Modbus device for tests, written by hand from the standard, that can misbehave in every way.

It shares no code with the connector: bytes are put together here with `int.to_bytes` and nothing else. How it
is spoken to is said in `wires`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.connectors.modbus.wires import WIRES, Pty, Wire
from tests.support.no_writes import note_modbus
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

#: Function code -> table.
TABLES = {
    1: "coil",
    2: "discrete",
    3: "holding",
    4: "input",
    5: "coil",
    6: "holding",
    15: "coil",
    16: "holding",
    22: "holding",
}
WRITES = (5, 6, 15, 16, 22)


@dataclass(frozen=True)
class Request:
    """A request as it came in. Of a write of one value, `count` is the value."""

    transaction: int
    unit: int
    function: int
    start: int
    count: int
    pdu: bytes = b""

    @property
    def writes(self) -> bool:
        return self.function in WRITES

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
    speaks: str = "tcp"
    """One of `wires.WIRES`."""
    tls: ssl.SSLContext | None = None
    path: Path | None = None
    """Of the serial port, for "rtu" and "ascii"."""
    registers: dict[tuple[str, int], int] = field(default_factory=dict)
    bits: dict[tuple[str, int], bool] = field(default_factory=dict)
    of_unit: dict[int, dict[tuple[str, int], int]] = field(default_factory=dict)
    """Registers of units that have others."""
    silent_units: set[int] = field(default_factory=set)
    without: frozenset[int] = frozenset()
    """Functions it refuses with exception 1."""
    deaf_to: frozenset[int] = frozenset()
    """Functions it does not answer at all."""
    refused: dict[tuple[str, int], int] = field(default_factory=dict)
    """(table, address) -> exception code for every request that touches it."""
    count_max: int = 2000
    """More addresses than that in one request are refused with exception 3."""
    faults: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    connections_max: int = 1000
    port: int = field(default_factory=free_port)
    """Its own also while it is stopped."""
    errors: list[AssertionError] = field(default_factory=list)
    """What was wrong with requests."""
    _server: asyncio.Server | None = None
    _pty: Pty | None = None
    _writers: set[Any] = field(default_factory=set)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.wire: Wire = WIRES[self.speaks]()

    async def start(self) -> None:
        if self.path is not None:
            self._pty = Pty(self.path)
            self._pty.open(self._serve)
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None
        if self._pty is not None:
            await self._pty.close()
            self._pty = None

    def cut(self) -> None:
        """Reset every connection, and go on listening."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    @property
    def endpoint(self) -> str:
        if self.path is not None:
            return f"serial://{self.path}"
        return f"{self.speaks}://127.0.0.1:{self.port}"

    def hold(self, address: int, *words: int, table: str = "holding") -> None:
        """Put registers in place, as the words that go over the wire."""
        for place, word in enumerate(words, address):
            self.registers[table, place] = word

    async def asked(self, condition: Callable[[Sequence[Request]], bool]) -> None:
        """Wait until the requests so far fulfil a condition."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self.requests):
                self._asked.clear()
                await self._asked.wait()

    def answer(self, request: Request) -> bytes:
        """The right answer, as it travels."""
        return self.wire.frame(request.transaction, request.unit, self._pdu(request))

    def excepted(self, request: Request, code: int) -> bytes:
        """An exception, as it travels."""
        return self.wire.frame(request.transaction, request.unit, bytes([request.function | 0x80, code]))

    def _pdu(self, request: Request) -> bytes:
        if request.function in self.without or request.function not in (*TABLES, 8):
            return bytes([request.function | 0x80, 1])
        if request.function == 8:
            return request.pdu
        addresses = range(request.start, request.start + 1) if request.writes else request.addresses
        if request.function in (15, 16):
            addresses = request.addresses
        if len(addresses) > self.count_max:
            return bytes([request.function | 0x80, 3])
        for address in addresses:
            if (request.table, address) in self.refused:
                return bytes([request.function | 0x80, self.refused[request.table, address]])
        if request.writes:
            return self._written(request)
        if request.function in (1, 2):
            packed = bytearray((request.count + 7) // 8)
            for index, address in enumerate(addresses):
                if self.bits.get((request.table, address), False):
                    packed[index // 8] |= 1 << index % 8
            payload = bytes(packed)
        else:
            registers = self.of_unit.get(request.unit, self.registers)
            payload = b"".join(
                registers.get((request.table, address), 0).to_bytes(2, "big") for address in addresses
            )
        return bytes([request.function, len(payload)]) + payload

    def _written(self, request: Request) -> bytes:
        pdu, start = request.pdu, request.start
        if request.function == 5:
            self.bits["coil", start] = pdu[3] == 0xFF
        elif request.function == 6:
            self.hold(start, request.count)
        elif request.function == 15:
            for index in range(request.count):
                self.bits["coil", start + index] = bool(pdu[6 + index // 8] >> index % 8 & 1)
        elif request.function == 16:
            data = pdu[6:]
            self.hold(start, *(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)))
        else:
            and_mask, or_mask = int.from_bytes(pdu[3:5], "big"), int.from_bytes(pdu[5:7], "big")
            now = self.registers.get(("holding", start), 0)
            self.hold(start, now & and_mask | or_mask & ~and_mask & 0xFFFF)
        return pdu[:5] if request.function in (15, 16) else pdu

    async def _serve(self, reader: asyncio.StreamReader, writer: Any) -> None:
        self.connections += 1
        if len(self._writers) >= self.connections_max:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            while True:
                transaction, unit, pdu = await self.wire.read(reader)
                start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
                await self._one(Request(transaction, unit, pdu[0], start, count, pdu), writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        except AssertionError as error:
            self.errors.append(error)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, request: Request, writer: Any) -> None:
        self.requests.append(request)
        self._asked.set()
        note_modbus("ScriptedDevice", request.function, request.start)
        if request.unit in self.silent_units or request.function in self.deaf_to:
            return
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
