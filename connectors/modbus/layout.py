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
    """In which order the bytes of a value travel; A is the most significant byte.

    Four names of 32-bit values are two switches: byte order within a register, and order of the registers.
    A value of 64 bits follows the same two: with CDAB its four registers come least significant first, which
    is GHEFCDAB said in full. Its two 32-bit halves may be a switch of their own; with the bytes of a register
    in the standard's order, that gives the two names of eight letters, which no value of 32 bits can have.
    """

    ABCD = "ABCD"
    CDAB = "CDAB"
    BADC = "BADC"
    DCBA = "DCBA"
    EFGHABCD = "EFGHABCD"
    CDABGHEF = "CDABGHEF"

    @property
    def bytes_swapped(self) -> bool:
        """The low byte of each register comes first."""
        return self in (Order.BADC, Order.DCBA)

    @property
    def words_swapped(self) -> bool:
        """The least significant register comes first, within 32 bits."""
        return self in (Order.CDAB, Order.DCBA, Order.CDABGHEF)

    @property
    def of_64_bits(self) -> bool:
        """It treats the two halves of a 64-bit value otherwise than their registers."""
        return self in (Order.EFGHABCD, Order.CDABGHEF)

    @property
    def in_full(self) -> str:
        """The order of all eight bytes of a 64-bit value."""
        return next((name for name, order in EIGHT_LETTERS.items() if order is self), str(self))


#: The same orders by the places of all eight bytes of a 64-bit value.
EIGHT_LETTERS = {
    "ABCDEFGH": Order.ABCD,
    "GHEFCDAB": Order.CDAB,
    "BADCFEHG": Order.BADC,
    "HGFEDCBA": Order.DCBA,
}


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


#: As `no_value`: what SunSpec agreed on for "not implemented".
SUNSPEC = "sunspec"


class LayoutError(ValueError):
    """The text is no address, range or type. Reads as `reason; hint`."""


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
class Range:
    """Addresses of a table from `start` up to and without `end`."""

    table: Table
    start: int
    end: int

    def __str__(self) -> str:
        last = "" if self.end == self.start + 1 else f"-{self.end - 1}"
        return f"{self.table}:{self.start}{last}"


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
    integers. `clamp` are the lowest and highest value there can be, scaled. `no_value` is the raw value by
    which the device says that it has none; SUNSPEC is that of the type.
    """

    tag: str
    address: Address
    type: DataType
    order: Order = Order.ABCD
    scale: float = 1.0
    offset: float = 0.0
    clamp: tuple[float, float] | None = None
    no_value: int | float | str | None = None

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
_RANGE = re.compile(r"(?P<first>[a-z]*:?\d{1,9})\s*-\s*(?P<last>[a-z]*:?\d{1,9})", re.ASCII)
_STRING = re.compile(r"string\((\d{1,9})\)", re.ASCII)

ADDRESS_HINT = (
    'write "holding:100", "input:7", "coil:3", "discrete:12", "holding:100.4" or a number such as 40101'
)
RANGE_HINT = 'write "holding:200-299", "coil:7" or "40201-40300"; both ends belong to it'
ORDER_HINT = "orders: ABCD CDAB BADC DCBA, and for 64 bits also EFGHABCD CDABGHEF"
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


def parse_range(text: str) -> Range:
    """Read a range of addresses, both ends belonging to it: `holding:200-299`, `40201-40300`, `coil:7`.

    Raises:
        LayoutError: it is none.
    """
    text = text.strip().lower()
    if ends := _RANGE.fullmatch(text):
        first = parse_address(ends["first"])
        named = ":" in ends["first"] and ":" not in ends["last"]
        last = parse_address(f"{first.table}:{ends['last']}" if named else ends["last"])
        if last.table is not first.table:
            raise LayoutError(f'"{text}" begins in one table and ends in another; {RANGE_HINT}')
        if last.start < first.start:
            raise LayoutError(f'"{text}" ends before it begins; {RANGE_HINT}')
        return Range(first.table, first.start, last.start + 1)
    try:
        only = parse_address(text)
    except LayoutError as error:
        raise LayoutError(f'"{text}" is no range of addresses; {RANGE_HINT}') from error
    if only.bit is not None:
        raise LayoutError(f"a register is read whole, so bit {only.bit} cannot be left out; {RANGE_HINT}")
    return Range(only.table, only.start, only.start + 1)


def parse_order(text: str, type_: DataType | None = None) -> Order:
    """Read an order: four letters, or for a value of 64 bits all eight.

    Raises:
        LayoutError: it is none, or none of a value of this type.
    """
    text = text.strip().upper()
    order = EIGHT_LETTERS.get(text) or Order.__members__.get(text)
    if order is None:
        raise LayoutError(f'there is no order "{text}"; {ORDER_HINT}')
    eight_bytes = type_ is None or (type_.kind is not Kind.STRING and type_.registers * 2 == len(text))
    if len(text) > len("ABCD") and not eight_bytes:
        short = f"write {order}" if not order.of_64_bits else "ABCD CDAB BADC DCBA are those of 32 bits"
        raise LayoutError(f"{text} is an order of the eight bytes of a 64-bit value, not of {type_}; {short}")
    return order


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
