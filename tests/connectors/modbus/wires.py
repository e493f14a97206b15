"""How the device for tests is spoken to: Modbus TCP, RTU, ASCII; on a socket or on a pseudo terminal.

Written by hand from the standards; the checks are computed bit by bit, and share nothing with the connector.
"""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


def crc(data: bytes) -> bytes:
    """CRC-16 as the standard describes it, bit by bit; low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value, out = value >> 1, value & 1
            if out:
                value ^= 0xA001
    return bytes([value & 0xFF, value >> 8])


def lrc(data: bytes) -> int:
    """Two's complement of the sum, in 8 bits."""
    return (0x100 - sum(data) % 0x100) % 0x100


class Reader(Protocol):
    """The part of a stream reader that is used."""

    async def readexactly(self, n: int) -> bytes: ...

    async def readuntil(self, separator: bytes) -> bytes: ...


class Wire(Protocol):
    """A framing, from the device's side."""

    async def read(self, reader: Reader) -> tuple[int, int, bytes]:
        """Transaction id (0 where there is none), unit, PDU of the next request."""
        ...

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """An answer as it travels."""
        ...


class TcpWire:
    """MBAP header."""

    async def read(self, reader: Reader) -> tuple[int, int, bytes]:
        header = await reader.readexactly(7)
        assert header[2:4] == b"\x00\x00", "protocol id 0"
        length = int.from_bytes(header[4:6], "big")
        return int.from_bytes(header[:2], "big"), header[6], await reader.readexactly(length - 1)

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        length = len(pdu) + 1
        return transaction.to_bytes(2, "big") + b"\0\0" + length.to_bytes(2, "big") + bytes([unit]) + pdu


class RtuWire:
    """Unit, PDU, CRC."""

    async def read(self, reader: Reader) -> tuple[int, int, bytes]:
        data = await reader.readexactly(8)
        if data[1] in (15, 16):
            data += await reader.readexactly(data[6] + 1)
        elif data[1] == 22:
            data += await reader.readexactly(2)
        assert crc(data[:-2]) == data[-2:], f"a request with a wrong CRC: {data.hex(' ')}"
        return 0, data[0], data[1:-2]

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        body = bytes([unit]) + pdu
        return body + crc(body)


class AsciiWire:
    """Colon, digits, LRC, CR LF."""

    async def read(self, reader: Reader) -> tuple[int, int, bytes]:
        line = await reader.readuntil(b"\r\n")
        assert line[:1] == b":", f"a request that begins with {line[:1]!r}"
        assert line == line.upper(), "digits are upper case"
        body = bytes.fromhex(line[1:-2].decode("ascii"))
        assert lrc(body[:-1]) == body[-1], "a request with a wrong LRC"
        return 0, body[0], body[1:-1]

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        body = bytes([unit]) + pdu
        return b":" + (body + bytes([lrc(body)])).hex().upper().encode() + b"\r\n"


WIRES: dict[str, Callable[[], Wire]] = {
    "tcp": TcpWire,
    "tls": TcpWire,
    "rtu+tcp": RtuWire,
    "ascii+tcp": AsciiWire,
    "rtu": RtuWire,
    "ascii": AsciiWire,
}


class _PtyWriter:
    """Writes to the device's end."""

    def __init__(self, fd: int, close: Callable[[], None]) -> None:
        self._fd = fd
        self.transport = self
        self.abort = close

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)


@dataclass
class Pty:
    """A pair of pseudo terminals; `path` leads to the end a client opens, the same each time."""

    path: Path

    def open(self, serve: Callable[[asyncio.StreamReader, _PtyWriter], Awaitable[None]]) -> None:
        """Serve whoever opens it, with one conversation for all."""
        self._device, self._client = os.openpty()
        tty.setraw(self._device)
        tty.setraw(self._client)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._client))
        os.set_blocking(self._device, False)
        self._reader = asyncio.StreamReader()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._device, self._read)
        self._task = asyncio.ensure_future(serve(self._reader, _PtyWriter(self._device, lambda: None)))

    def _read(self) -> None:
        try:
            data = os.read(self._device, 4096)
        except BlockingIOError:
            return
        if data:
            self._reader.feed_data(data)

    async def close(self) -> None:
        """The port vanishes, as when the adapter is pulled out."""
        self._loop.remove_reader(self._device)
        os.close(self._device)
        os.close(self._client)
        self.path.unlink(missing_ok=True)
        self._task.cancel()
        await asyncio.wait([self._task])
