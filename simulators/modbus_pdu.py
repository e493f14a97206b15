"""Modbus requests to answers, as the Modbus Application Protocol 1.1b3 has them. Bytes in, bytes out.

Knows nothing of sockets or plants. A `Unit` is what one unit id answers for: its four tables as blocks of
addresses, and which of these a client may write.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

COILS, DISCRETES, HOLDING, INPUT = "coil", "discrete", "holding", "input"

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
NO_RESPONSE_FROM_TARGET: Final = 0x0B

_READ_BITS: Final = {1: COILS, 2: DISCRETES}
_READ_REGISTERS: Final = {3: HOLDING, 4: INPUT}
_BITS_MAX, _REGISTERS_MAX = 2000, 125
_WRITE_BITS_MAX, _WRITE_REGISTERS_MAX = 1968, 123

Block = range


class Refused(Exception):
    """The request is answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Write:
    """A write that was accepted: `values` from `address` on, registers as 0-65535, coils as 0 or 1."""

    table: str
    address: int
    values: tuple[int, ...]
    before: tuple[int, ...] = ()
    """What stood there."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Two registers that are one float32 (ABCD), and what it may be: the unit refuses everything else."""

    table: str
    address: int
    low: float
    high: float

    def holds(self, words: Sequence[int]) -> bool:
        """Whether the registers stand for a value that is allowed."""
        (value,) = struct.unpack(">f", struct.pack(">2H", *words))
        return bool(self.low <= value <= self.high)


@dataclass(slots=True)
class Unit:
    """One unit's tables. Registers and bits that lie in a block but were never set read as zero."""

    blocks: Mapping[str, Sequence[Block]]
    writable: Mapping[str, Sequence[Block]] = field(default_factory=dict)
    hands_on: frozenset[tuple[str, int]] = frozenset()
    """Writable places that do not keep what is written: the write is handed on, the plant decides."""
    limits: Sequence[Limit] = ()
    values: dict[tuple[str, int], int] = field(default_factory=dict)

    def read(self, table: str, address: int, count: int) -> list[int]:
        """Raises `Refused` when a part lies outside the blocks."""
        self._judge(self.blocks, table, address, count)
        return [self.values.get((table, place), 0) for place in range(address, address + count)]

    def write(self, table: str, address: int, values: Sequence[int]) -> Write:
        """Raises `Refused` when a part is not writable; then nothing is written."""
        self._judge(self.blocks, table, address, len(values))
        self._judge(self.writable, table, address, len(values))
        for limit in self.limits:
            self._judge_limit(limit, table, address, values)
        before = tuple(self.values.get((table, place), 0) for place in range(address, address + len(values)))
        for place, value in enumerate(values, address):
            if (table, place) not in self.hands_on:
                self.values[table, place] = value
        return Write(table, address, tuple(values), before)

    def _judge_limit(self, limit: Limit, table: str, address: int, values: Sequence[int]) -> None:
        places = range(limit.address, limit.address + 2)
        if table != limit.table or not any(address <= place < address + len(values) for place in places):
            return
        after = [
            values[place - address]
            if address <= place < address + len(values)
            else self.values.get((table, place), 0)
            for place in places
        ]
        if not limit.holds(after):
            raise Refused(ILLEGAL_VALUE)

    @staticmethod
    def _judge(blocks: Mapping[str, Sequence[Block]], table: str, address: int, count: int) -> None:
        last = address + count - 1
        if not any(address in block and last in block for block in blocks.get(table, ())):
            raise Refused(ILLEGAL_ADDRESS)


def answer(unit: Unit, request: bytes) -> tuple[bytes, Write | None]:
    """Answer one request PDU (1 to 253 bytes). Returns the reply PDU and the write it made, if any.

    The order of the checks is the standard's: function, then quantity and length, then address.
    """
    function = request[0]
    try:
        return _answer(unit, function, request[1:])
    except Refused as refused:
        return exception(function, refused.code), None


def exception(function: int, code: int) -> bytes:
    """An exception reply."""
    return bytes((function | 0x80, code))


def _answer(unit: Unit, function: int, body: bytes) -> tuple[bytes, Write | None]:
    if function in _READ_BITS:
        address, count = _address_and_count(body, _BITS_MAX)
        data = pack_bits(unit.read(_READ_BITS[function], address, count))
        return bytes((function, len(data))) + data, None
    if function in _READ_REGISTERS:
        address, count = _address_and_count(body, _REGISTERS_MAX)
        registers = unit.read(_READ_REGISTERS[function], address, count)
        return struct.pack(f">BB{count}H", function, 2 * count, *registers), None
    if function in (5, 6):
        return _write_one(unit, function, body)
    if function in (15, 16):
        return _write_many(unit, function, body)
    raise Refused(ILLEGAL_FUNCTION)


def _write_one(unit: Unit, function: int, body: bytes) -> tuple[bytes, Write]:
    address, value = _two_words(body)
    if function == 6:
        written = unit.write(HOLDING, address, (value,))
    elif value in (0x0000, 0xFF00):
        written = unit.write(COILS, address, (1 if value else 0,))
    else:
        raise Refused(ILLEGAL_VALUE)
    return bytes((function,)) + body, written


def _write_many(unit: Unit, function: int, body: bytes) -> tuple[bytes, Write]:
    most = _WRITE_BITS_MAX if function == 15 else _WRITE_REGISTERS_MAX
    address, count = _address_and_count(body[:4], most)
    size = (count + 7) // 8 if function == 15 else 2 * count
    if len(body) != 5 + size or body[4] != size:
        raise Refused(ILLEGAL_VALUE)
    data = body[5:]
    if function == 15:
        written = unit.write(COILS, address, unpack_bits(data, count))
    else:
        written = unit.write(HOLDING, address, struct.unpack(f">{count}H", data))
    return bytes((function,)) + body[:4], written


def _two_words(body: bytes) -> tuple[int, int]:
    if len(body) != 4:
        raise Refused(ILLEGAL_VALUE)
    first, second = struct.unpack(">HH", body)
    return first, second


def _address_and_count(body: bytes, most: int) -> tuple[int, int]:
    address, count = _two_words(body)
    if not 1 <= count <= most:
        raise Refused(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise Refused(ILLEGAL_ADDRESS)
    return address, count


def pack_bits(bits: Sequence[int]) -> bytes:
    """Bits to bytes: the first bit is the lowest of the first byte, the last byte is padded with zeros."""
    packed = bytearray((len(bits) + 7) // 8)
    for place, bit in enumerate(bits):
        packed[place // 8] |= (bit & 1) << (place % 8)
    return bytes(packed)


def unpack_bits(data: bytes, count: int) -> list[int]:
    """The reverse of `pack_bits`."""
    return [data[place // 8] >> (place % 8) & 1 for place in range(count)]
