"""Where a value lies in a device and how its bits are to be read: the words of this folder.

Values and the parsers of their written forms, nothing else. Knows no settings model, no bytes, no socket.
Addresses are those on the wire: from 0 in each of the four tables (Modbus Application Protocol V1.1b3, 4.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

#: Addresses of a table run from 0 to this.
ADDRESS_MAX = 65535
BITS_PER_REGISTER = 16


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"

    @property
    def of_bits(self) -> bool:
        """Whether an address holds one bit rather than a register of 16."""
        return self in (Table.COIL, Table.DISCRETE)


#: First digit of a reference number -> table.
_REFERENCE = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}


class Order(StrEnum):
    """In which order the bytes of a value travel; A is the most significant byte of a 32-bit value.

    Two switches in one name: byte order within a register, and order of the registers. A value of 64 bits
    follows the same two switches: with CDAB its four registers come least significant first.
    """

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"

    @property
    def bytes_swapped(self) -> bool:
        """The low byte of each register comes first."""
        return self in (Order.BADC, Order.DCBA)

    @property
    def words_swapped(self) -> bool:
        """The least significant register comes first."""
        return self in (Order.CDAB, Order.DCBA)


class Kind(StrEnum):
    """What the bits mean."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"


_REGISTERS = {
    Kind.BOOL: 1,
    Kind.INT16: 1,
    Kind.UINT16: 1,
    Kind.INT32: 2,
    Kind.UINT32: 2,
    Kind.INT64: 4,
    Kind.UINT64: 4,
    Kind.FLOAT32: 2,
    Kind.FLOAT64: 4,
    Kind.BCD16: 1,
    Kind.BCD32: 2,
}

#: No PDU carries more (123 registers is the most that can be written at once, 125 that can be read).
STRING_CHARACTERS_MAX = 250


class LayoutError(ValueError):
    """The text is no address or type. Reads as `reason; hint`."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a table. `bit` is that of a register, 0 the least significant; None when it is not meant."""

    table: Table
    start: int
    bit: int | None = None

    def __str__(self) -> str:
        bit = "" if self.bit is None else f".{self.bit}"
        return f"{self.table}:{self.start}{bit}"


@dataclass(frozen=True, slots=True)
class DataType:
    """A kind, and for strings how many characters."""

    kind: Kind
    characters: int = 0

    @property
    def registers(self) -> int:
        """How many registers a value takes; a string takes one for every two characters, rounded up."""
        return (self.characters + 1) // 2 if self.kind is Kind.STRING else _REGISTERS[self.kind]

    def __str__(self) -> str:
        return f"string({self.characters})" if self.kind is Kind.STRING else str(self.kind)


@dataclass(frozen=True, slots=True)
class Signal:
    """One tag as this protocol sees it: its full id, where it lies, how to read it.

    The value for people is `raw * scale + offset`; with scale 1 and offset 0 the raw value, so integers stay
    integers.
    """

    tag: str
    address: Address
    type: DataType
    order: Order = Order.ABCD
    scale: float = 1.0
    offset: float = 0.0

    @property
    def start(self) -> int:
        """First address on the wire."""
        return self.address.start

    @property
    def width(self) -> int:
        """Addresses taken: registers, or one bit."""
        return 1 if self.address.table.of_bits else self.type.registers

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address.start + self.width

    @property
    def scaled(self) -> bool:
        """Whether scale or offset changes the value."""
        return self.scale != 1.0 or self.offset != 0.0


_TABLES = {str(table): table for table in Table}
_KINDS = {str(kind): kind for kind in Kind}
_NAMED = re.compile(r"(?P<table>[a-z]+):(?P<start>\d{1,9})(?:\.(?P<bit>\d{1,9}))?", re.ASCII)
_NUMBERED = re.compile(r"(?P<table>\d)(?P<number>\d{4,5})(?:\.(?P<bit>\d{1,9}))?", re.ASCII)
_STRING = re.compile(r"string\((\d{1,9})\)", re.ASCII)

ADDRESS_HINT = (
    'write "holding:100", "input:7", "coil:3", "discrete:12", "holding:100.4" or a number such as 40101'
)
TYPE_HINT = "types: " + " ".join(kind for kind in Kind if kind is not Kind.STRING) + " string(n)"


def parse_address(text: str) -> Address:
    """Read an address in any of its forms.

    `table:N` is the address on the wire, from 0. A number of five or six digits is a reference number: its
    first digit names the table, the rest counts from 1, so 40101 and 400101 are both `holding:100`.

    Raises:
        LayoutError: it is none.
    """
    text = text.strip().lower()
    if named := _NAMED.fullmatch(text):
        if named["table"] not in _TABLES:
            raise LayoutError(
                f'there is no table "{named["table"]}"; '
                "tables: coil, discrete (one bit each), input, holding (registers)"
            )
        table, start = _TABLES[named["table"]], int(named["start"])
        if start > ADDRESS_MAX:
            raise LayoutError(
                f"address {start} is beyond the end of the table; addresses are 0 to {ADDRESS_MAX}"
            )
        return _with_bit(Address(table, start), named["bit"])
    if numbered := _NUMBERED.fullmatch(text):
        digits = numbered["table"] + numbered["number"]
        if numbered["table"] not in _REFERENCE:
            raise LayoutError(
                f"{digits} is no reference number; "
                "they begin with 0 (coil), 1 (discrete), 3 (input) or 4 (holding)"
            )
        table, number = _REFERENCE[numbered["table"]], int(numbered["number"])
        if number == 0:
            raise LayoutError(
                f"reference numbers count from 1, so there is no {digits}; the first is {digits[:-1]}1, "
                f'and address {int(digits)} on the wire is written "{table}:{int(digits)}"'
            )
        if number > ADDRESS_MAX + 1:
            raise LayoutError(
                f"{digits} is beyond the end of the table; the last is {numbered['table']}{ADDRESS_MAX + 1}"
            )
        return _with_bit(Address(table, number - 1), numbered["bit"])
    raise LayoutError(f'"{text}" is not a Modbus address; {ADDRESS_HINT}')


def _with_bit(address: Address, bit: str | None) -> Address:
    if bit is None:
        return address
    if address.table.of_bits:
        raise LayoutError(f"a {address.table} is one bit already; leave out .{bit}")
    if int(bit) >= BITS_PER_REGISTER:
        raise LayoutError(f"a register has no bit {bit}; bits are 0 (least significant) to 15")
    return Address(address.table, address.start, int(bit))


def parse_type(text: str) -> DataType:
    """Read a type: one of `Kind`, or `string(n)` for n characters, two in a register.

    Raises:
        LayoutError: it is none.
    """
    text = text.strip().lower()
    if string := _STRING.fullmatch(text):
        characters = int(string[1])
        if not 1 <= characters <= STRING_CHARACTERS_MAX:
            raise LayoutError(
                f"a string of {characters} characters does not fit one request; "
                f"1 to {STRING_CHARACTERS_MAX} do"
            )
        return DataType(Kind.STRING, characters)
    if text == Kind.STRING:
        raise LayoutError('the length of the string is missing; write "string(16)" for 16 characters')
    if text not in _KINDS:
        raise LayoutError(f'there is no type "{text}"; {TYPE_HINT}')
    return DataType(_KINDS[text])
