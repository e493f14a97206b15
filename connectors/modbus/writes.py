"""Questions that change something in a device: functions 5, 6, 15, 16 and 22. Pure.

After the Application Protocol V1.1b3, 6.5, 6.6, 6.11, 6.12 and 6.16, whose limits are kept here: a device
asked for more may do a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from connectors.modbus.codec import CannotEncode, encode, registers_bytes
from connectors.modbus.frame import Question, ask
from connectors.modbus.layout import Signal, Table
from statemodel.types import TagValue

COILS_MAX = 1968
REGISTERS_MAX = 123
_ONE = Struct(">BHH")
_MASK = Struct(">BHHH")
_MANY = Struct(">BHHB")
_COIL_ON = 0xFF00
_ALL_BITS = 0xFFFF


@dataclass(frozen=True, slots=True)
class WriteForms:
    """How this device wants to be written to."""

    multiple: bool = False
    """With functions 15 and 16 even where one coil or register is written."""
    mask: bool = False
    """Single bits of registers with function 22."""


def write_question(signal: Signal, value: TagValue, unit: int, forms: WriteForms) -> Question:
    """How a value is written to its place.

    Raises:
        CannotEncode: it is not: the place cannot be written, or the value does not fit it.
    """
    address = signal.address
    if address.table in (Table.INPUT, Table.DISCRETE):
        raise CannotEncode(f"{address} can only be read; holding registers and coils can be written")
    if address.bit is not None:
        if not isinstance(value, bool):
            raise CannotEncode(f"{value!r} is neither true nor false")
        if not forms.mask:
            raise CannotEncode(
                f"{address} is one bit of a register, and reading the register to write it back could undo "
                "what the device does meanwhile; set `mask_write` if the device knows function 22"
            )
        return write_bit(unit, address.start, address.bit, value)
    words = encode(signal, value)
    if address.table is Table.COIL:
        return write_coils(unit, address.start, [bool(word) for word in words], multiple=forms.multiple)
    return write_registers(unit, address.start, words, multiple=forms.multiple)


def write_coils(unit: int, start: int, bits: Sequence[bool], *, multiple: bool = False) -> Question:
    """Function 5 for one coil, else 15."""
    _no_more_than(len(bits), COILS_MAX, "coils")
    if len(bits) == 1 and not multiple:
        pdu = _ONE.pack(5, start, _COIL_ON if bits[0] else 0)
        return ask(unit, pdu, pdu, len(pdu))
    packed = bytearray((len(bits) + 7) // 8)
    for index, bit in enumerate(bits):
        packed[index // 8] |= bit << index % 8
    return _many(unit, 15, start, len(bits), bytes(packed))


def write_registers(unit: int, start: int, words: Sequence[int], *, multiple: bool = False) -> Question:
    """Function 6 for one register, else 16."""
    _no_more_than(len(words), REGISTERS_MAX, "registers")
    if len(words) == 1 and not multiple:
        pdu = _ONE.pack(6, start, words[0])
        return ask(unit, pdu, pdu, len(pdu))
    return _many(unit, 16, start, len(words), registers_bytes(words))


def write_bit(unit: int, register: int, bit: int, value: bool) -> Question:
    """Function 22: the device itself changes this bit and no other."""
    and_mask = _ALL_BITS ^ 1 << bit
    pdu = _MASK.pack(22, register, and_mask, int(value) << bit)
    return ask(unit, pdu, pdu, len(pdu))


def _many(unit: int, function: int, start: int, count: int, data: bytes) -> Question:
    pdu = _MANY.pack(function, start, count, len(data)) + data
    return ask(unit, pdu, pdu[:5], 5)


def _no_more_than(count: int, count_max: int, what: str) -> None:
    if not 1 <= count <= count_max:
        raise CannotEncode(f"{count} {what} at once; one request writes 1 to {count_max}")
