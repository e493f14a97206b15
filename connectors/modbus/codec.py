"""Bytes of a block to values, and a value to registers. Pure.

A block is decoded with a few struct formats worked out beforehand, not tag by tag. The four byte orders are
two views of the bytes (as they came, or with the bytes of each register swapped) times two endiannesses:

    ABCD as they came, big     BADC swapped, big     CDAB swapped, little     DCBA as they came, little

Bits become one byte each in a view of their own, and then take the same way. A value of None means that the
bits are there but are no value of their type: NaN, infinity, a digit above 9 in BCD.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812  an exception, whatever the standard library calls it
from typing import Any

from connectors.modbus.layout import Kind, Order, Signal
from connectors.modbus.plan import ReadRequest
from statemodel.types import TagValue

#: Substatus of a bad sample whose bits are no value.
NOT_A_NUMBER = "not_a_number"

Raw = bool | int | float | bytes
#: From what a struct unpacks to the value; None where they are the same.
Convert = Callable[[Any], TagValue] | None

_CODES = {
    Kind.BOOL: "H",
    Kind.INT16: "h",
    Kind.UINT16: "H",
    Kind.INT32: "i",
    Kind.UINT32: "I",
    Kind.INT64: "q",
    Kind.UINT64: "Q",
    Kind.FLOAT32: "f",
    Kind.FLOAT64: "d",
    Kind.BCD16: "H",
    Kind.BCD32: "I",
}
_INTEGERS = {
    Kind.INT16: (-(2**15), 2**15 - 1),
    Kind.UINT16: (0, 2**16 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT32: (0, 2**32 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.BCD16: (0, 9999),
    Kind.BCD32: (0, 99_999_999),
}
_BITS_OF_BYTE = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))


def as_they_came(data: bytes) -> bytes:
    """The bytes themselves."""
    return data


def bytes_swapped(data: bytes) -> bytes:
    """The bytes with high and low byte of each register changed places."""
    swapped = bytearray(len(data))
    swapped[::2], swapped[1::2] = data[1::2], data[::2]
    return bytes(swapped)


def one_byte_a_bit(data: bytes) -> bytes:
    """Packed bits, least significant first, as one byte each (Application Protocol V1.1b3, 6.1)."""
    return b"".join([_BITS_OF_BYTE[byte] for byte in data])


_VIEW_AND_ENDIANNESS = {
    Order.ABCD: (as_they_came, ">"),
    Order.BADC: (bytes_swapped, ">"),
    Order.CDAB: (bytes_swapped, "<"),
    Order.DCBA: (as_they_came, "<"),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """One unpacked value and the signals made of it: (place in the request's signals, conversion)."""

    uses: tuple[tuple[int, Convert], ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One struct over one view of a block; its values fill `slots` in order."""

    view: Callable[[bytes], bytes]
    unpack: Callable[[bytes], tuple[Raw, ...]]
    slots: tuple[Slot, ...]


class BlockFormat:
    """How the answer to one request is read. Worked out once, used at every poll."""

    def __init__(self, request: ReadRequest) -> None:
        self.signals = request.signals
        self.layers = _layers(request)
        self.slots = tuple(slot for layer in self.layers for slot in layer.slots)

    def unpack(self, data: bytes) -> tuple[Raw, ...]:
        """The raw values of a block, one for each of `slots`. Data has the length the request implies."""
        if len(self.layers) == 1:
            layer = self.layers[0]
            return layer.unpack(layer.view(data))
        return tuple([raw for layer in self.layers for raw in layer.unpack(layer.view(data))])

    def decode(self, data: bytes) -> list[TagValue]:
        """The values of a block, in the order of its signals."""
        values: list[TagValue] = [None] * len(self.signals)
        for slot, raw in zip(self.slots, self.unpack(data), strict=True):
            for place, convert in slot.uses:
                values[place] = raw if convert is None else convert(raw)  # type: ignore[assignment]
        return values


def _layers(request: ReadRequest) -> tuple[Layer, ...]:
    """Spread the signals over as few structs as views, endiannesses and overlaps need."""
    # (view, endianness) -> (offset in bytes, size, struct code) -> the signals there
    places: dict[tuple[Any, str], dict[tuple[int, int, str], list[tuple[int, Convert]]]] = {}
    for index, signal in enumerate(request.signals):
        if request.table.of_bits:
            key, place = (one_byte_a_bit, ">"), (signal.start - request.start, 1, "?")
        else:
            code = _struct_code(signal)
            offset, size = 2 * (signal.start - request.start), 2 * signal.type.registers
            key, place = _VIEW_AND_ENDIANNESS[signal.order], (offset, size, code)
        places.setdefault(key, {}).setdefault(place, []).append((index, _conversion(signal)))
    layers = []
    for (view, endianness), fields in places.items():
        size = (request.count + 7) // 8 * 8 if request.table.of_bits else request.count * 2
        waiting = sorted(fields)
        while waiting:
            text, reached, slots, overlapping = endianness, 0, [], []
            for offset, length, code in waiting:
                if offset < reached:
                    overlapping.append((offset, length, code))
                    continue
                text += f"{offset - reached}x{code}"
                reached = offset + length
                slots.append(Slot(tuple(fields[offset, length, code])))
            layers.append(Layer(view, Struct(f"{text}{size - reached}x").unpack, tuple(slots)))
            waiting = overlapping
    return tuple(layers)


def _struct_code(signal: Signal) -> str:
    if signal.type.kind is Kind.STRING:
        return f"{2 * signal.type.registers}s"
    return _CODES[signal.type.kind]


def _conversion(signal: Signal) -> Convert:
    kind, scale, offset = signal.type.kind, float(signal.scale), float(signal.offset)
    if kind is Kind.BOOL:
        bit = signal.address.bit
        return None if bit is None else lambda raw: bool(raw >> bit & 1)
    if kind is Kind.STRING:
        return lambda raw: _characters(raw, signal.type.characters)
    if kind in (Kind.BCD16, Kind.BCD32):
        return (lambda raw: _scale(_decimal(raw), scale, offset)) if signal.scaled else _decimal
    if signal.scaled:
        divisor = round(1 / scale) if scale else 0
        if divisor and 1 / divisor == scale:
            # 1726 / 10 is 172.6, while 1726 * 0.1 is 172.60000000000002.
            return lambda raw: _finite(raw / divisor + offset)
        return lambda raw: _scale(raw, scale, offset)
    return _finite if kind in (Kind.FLOAT32, Kind.FLOAT64) else None


def _finite(raw: float) -> float | None:
    return raw if math.isfinite(raw) else None


def _scale(raw: float | None, scale: float, offset: float) -> float | None:
    return None if raw is None else _finite(raw * scale + offset)


def _decimal(raw: int) -> int | None:
    digits = f"{raw:x}"
    return int(digits) if digits.isdecimal() else None


def _characters(raw: bytes, count: int) -> str:
    return raw[:count].split(b"\0", 1)[0].rstrip(b" ").decode("latin-1")


class CannotEncode(ValueError):
    """The value has no form in this tag's registers; the message says why, for people."""


def encode(signal: Signal, value: TagValue) -> tuple[int, ...]:
    """The registers (or the one coil, as 0 or 1) that read back as `value`.

    A bit within a register cannot be written alone: the other 15 are not known here.

    Raises:
        CannotEncode: the value is of the wrong type or out of range.
    """
    kind = signal.type.kind
    if signal.address.bit is not None:
        raise CannotEncode(f"{signal.address} is one bit of a register, and a register is written whole")
    if kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise CannotEncode(f"{value!r} is neither true nor false")
        return (int(value),)
    endianness = _VIEW_AND_ENDIANNESS[signal.order][1]
    raw = _raw_characters(signal, value) if kind is Kind.STRING else _raw_number(signal, value)
    try:
        data = Struct(endianness + _struct_code(signal)).pack(raw)
    except (StructError, OverflowError) as error:
        raise CannotEncode(f"{value!r} does not fit {signal.type}") from error
    if _VIEW_AND_ENDIANNESS[signal.order][0] is bytes_swapped:
        data = bytes_swapped(data)
    return Struct(f">{len(data) // 2}H").unpack(data)


def _raw_characters(signal: Signal, value: TagValue) -> bytes:
    if not isinstance(value, str):
        raise CannotEncode(f"{value!r} is no text")
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise CannotEncode(f"{value!r} has characters that do not fit one byte") from error
    if len(data) > signal.type.characters:
        raise CannotEncode(f"{len(data)} characters do not fit {signal.type}")
    if b"\0" in data or data.endswith(b" "):
        raise CannotEncode("a text that holds NUL or ends in a space does not read back as it was written")
    return data


def _raw_number(signal: Signal, value: TagValue) -> float | int:
    kind = signal.type.kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CannotEncode(f"{value!r} is no number")
    if not math.isfinite(value):
        raise CannotEncode(f"{value!r} is no number a device could use")
    raw = (value - signal.offset) / signal.scale if signal.scaled else value
    if kind not in _INTEGERS:
        return raw
    whole = round(raw)
    if not signal.scaled and whole != raw:
        raise CannotEncode(f"{value!r} is not whole, and {signal.type} is")
    low, high = _INTEGERS[kind]
    if not low <= whole <= high:
        raise CannotEncode(
            f"{value!r} does not fit {signal.type}: its raw value {whole} is not in {low} to {high}"
        )
    return int(str(whole), 16) if kind in (Kind.BCD16, Kind.BCD32) else whole


def registers_bytes(registers: Sequence[int]) -> bytes:
    """Registers as they travel: high byte first."""
    return Struct(f">{len(registers)}H").pack(*registers)
