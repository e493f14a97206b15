"""Bytes of a block to values, and a value to registers. Pure.

A block is decoded with a few struct formats worked out beforehand, not tag by tag. The four byte orders are
two views of the bytes (as they came, or with the bytes of each register swapped) times two endiannesses:

    ABCD as they came, big     BADC swapped, big     CDAB swapped, little     DCBA as they came, little

The two orders that 64 bits have besides are those of ABCD and CDAB with the halves changed places, value by
value. Bits become one byte each in a view of their own, and then take the same way. What the raw values mean
is said in `values`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812  an exception, whatever the standard library calls it
from typing import Any

from connectors.modbus.layout import Kind, Order, Signal, Table
from connectors.modbus.plan import ReadRequest
from connectors.modbus.values import NOT_A_NUMBER, Convert, Decoded, conversion, raw_of
from connectors.modbus.values import CannotEncode as CannotEncode  # what `encode` raises
from statemodel.types import TagValue

Raw = bool | int | float | bytes

#: Most registers one request can write (Application Protocol V1.1b3, 6.12).
WRITE_REGISTERS_MAX = 123
_READ_ONLY = {Table.INPUT: "input registers", Table.DISCRETE: "discrete inputs"}

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
    Order.EFGHABCD: (as_they_came, ">"),
    Order.CDABGHEF: (bytes_swapped, "<"),
}


def halves_swapped(data: bytes) -> bytes:
    """Eight bytes with their two halves changed places."""
    return data[4:] + data[:4]


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

    def decode(self, data: bytes) -> list[Decoded]:
        """The values of a block, or what is wrong with them, in the order of its signals."""
        values: list[Decoded] = [NOT_A_NUMBER] * len(self.signals)
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
    return "8s" if signal.order.of_64_bits else _CODES[signal.type.kind]


def _conversion(signal: Signal) -> Convert:
    convert = conversion(signal)
    if not signal.order.of_64_bits:
        return convert
    unpack = Struct(_VIEW_AND_ENDIANNESS[signal.order][1] + _CODES[signal.type.kind]).unpack
    if convert is None:
        return lambda raw: unpack(halves_swapped(raw))[0]
    return lambda raw: convert(unpack(halves_swapped(raw))[0])


def encode(signal: Signal, value: TagValue) -> tuple[int, ...]:
    """The registers (or the one coil, as 0 or 1) that read back as `value`: what `BlockFormat` does, undone.

    A bit within a register cannot be written alone: the other 15 are not known here.

    Raises:
        CannotEncode: nothing in this place reads back as the value, or the place cannot be written.
    """
    if (table := _READ_ONLY.get(signal.address.table)) is not None:
        raise CannotEncode(f"{signal.address} can only be read: nobody but the device writes its {table}")
    if signal.address.bit is not None:
        raise CannotEncode(f"{signal.address} is one bit of a register, and a register is written whole")
    if signal.type.kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise CannotEncode(f"{value!r} is neither true nor false")
        return (int(value),)
    if signal.type.registers > WRITE_REGISTERS_MAX:
        raise CannotEncode(
            f"{signal.type} takes {signal.type.registers} registers, "
            f"and one request can write {WRITE_REGISTERS_MAX}"
        )
    view, endianness = _VIEW_AND_ENDIANNESS[signal.order]
    code = _struct_code(signal) if signal.type.kind is Kind.STRING else _CODES[signal.type.kind]
    try:
        data = Struct(endianness + code).pack(raw_of(signal, value))
    except (StructError, OverflowError) as error:
        raise CannotEncode(f"{value!r} does not fit {signal.type}") from error
    if signal.order.of_64_bits:
        data = halves_swapped(data)
    if view is bytes_swapped:
        data = bytes_swapped(data)
    return Struct(f">{len(data) // 2}H").unpack(data)


def registers_bytes(registers: Sequence[int]) -> bytes:
    """Registers as they travel: high byte first."""
    return Struct(f">{len(registers)}H").pack(*registers)
