"""The same registers read in every way there is: for finding type, order and address of a value. Pure.

Manuals leave open in which order the bytes of a value travel, and whether addresses count from 0 or 1. All
decodings side by side answer it at a glance: usually only one of them is a number a plant could have. `guess`
says which those are; it is a help to the eye and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from struct import Struct

from connectors.modbus.codec import BlockFormat, registers_bytes
from connectors.modbus.layout import ADDRESS_MAX, Address, DataType, Kind, LayoutError, Order, Signal, Table
from connectors.modbus.plan import Limits, request_of
from connectors.modbus.values import Decoded, Flaw
from statemodel.types import TagValue

#: Characters of the text tried; a text seldom means anything in fewer.
TEXT_CHARACTERS = 16
#: Registers of the longest reading.
_WIDEST = TEXT_CHARACTERS // 2
#: Against the address asked for: a manual that counts from 1 is one too high, its reader one too low.
SHIFTS = (-1, 0, 1)

_FOUR = (Order.ABCD, Order.CDAB, Order.BADC, Order.DCBA)
#: Order -> shift and order of the other reading that takes the same register for the upper one.
_TWINS = {
    Order.ABCD: (-1, Order.CDAB),
    Order.CDAB: (1, Order.ABCD),
    Order.BADC: (-1, Order.DCBA),
    Order.DCBA: (1, Order.BADC),
}
#: Types and orders in which registers are read, in the order they are shown.
FORMS: tuple[tuple[DataType, Order], ...] = (
    *((DataType(kind), Order.ABCD) for kind in (Kind.UINT16, Kind.INT16, Kind.BCD16)),
    *(
        (DataType(kind), order)
        for kind in (Kind.FLOAT32, Kind.INT32, Kind.UINT32, Kind.BCD32)
        for order in _FOUR
    ),
    *((DataType(kind), order) for kind in (Kind.FLOAT64, Kind.INT64, Kind.UINT64) for order in Order),
    *((DataType(Kind.STRING, TEXT_CHARACTERS), order) for order in (Order.ABCD, Order.BADC)),
)

#: Numbers of machines lie between these, apart from 0; what lies outside is mostly other bits read wrongly.
_FRACTION_MIN, _FRACTION_MAX = 1e-4, 1e9
_COUNT_MAX = {2: 100_000_000, 4: 10**12}
_PLAUSIBLE, _STRONG = 20, 80
#: Digits of a float that a person could have set or a converter could have measured.
_DIGITS_SHORT = 6
_TEXT_MIN = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the registers from `address` on. `value` is None when its bits are none.

    `guess` is 0 when it is implausible; the higher, the likelier it is meant.
    """

    address: Address
    type: DataType
    order: Order
    value: TagValue
    guess: int

    @property
    def plausible(self) -> bool:
        """Whether a plant could have such a value."""
        return self.guess >= _PLAUSIBLE

    @property
    def strong(self) -> bool:
        """Whether other bits would hardly look like that by chance."""
        return self.guess >= _STRONG

    @property
    def setting(self) -> str:
        """Type and order as they are written in the configuration."""
        order = "" if self.order is Order.ABCD else f', order = "{self.order}"'
        return f'type = "{self.type}"{order}'

    def tag_line(self, name: str) -> str:
        """The tag, ready for `tags = [...]`."""
        return f'{{ name = "{name}", address = "{self.address}", {self.setting} }},'


def window(address: Address, limits: Limits) -> range:
    """The registers to read for all readings of an address and its neighbours.

    Cut at the ends of the table and at what must not be read.

    Raises:
        LayoutError: the address holds single bits, or is itself never read.
    """
    if address.table.of_bits:
        raise LayoutError(f"{address} is one bit, which has no order; name a holding or an input register")
    if (barred := limits.forbids(address.table, address.start, address.start + 1)) is not None:
        raise LayoutError(f"{address} lies in {barred}, which limits.forbidden says is never read")
    first, last = address.start, address.start
    while first > max(0, address.start - 1) and _free(address, first - 1, limits):
        first -= 1
    while last < min(ADDRESS_MAX, address.start + _WIDEST) and _free(address, last + 1, limits):
        last += 1
    return range(first, last + 1)


def _free(address: Address, register: int, limits: Limits) -> bool:
    return limits.forbids(address.table, register, register + 1) is None


def readings(table: Table, start: int, registers: Mapping[int, int]) -> Iterator[Reading]:
    """Every reading of the registers from `start` on, as far as they are known, in the order of FORMS."""
    run = next(n for n in range(_WIDEST + 1) if n == _WIDEST or start + n not in registers)
    for type_, order in FORMS:
        if type_.kind is Kind.STRING and 1 < run < type_.registers:
            type_ = DataType(Kind.STRING, 2 * run)  # as much of a text as there is
        if type_.registers > run:
            continue
        needed = range(start, start + type_.registers)
        words = [registers[register] for register in needed]
        signal = Signal("", Address(table, start), type_, order)
        (decoded,) = BlockFormat(request_of((signal,))).decode(registers_bytes(words))
        value = None if isinstance(decoded, Flaw) else decoded
        yield Reading(signal.address, type_, order, value, guess(type_, decoded, words))


def guess(type_: DataType, value: Decoded, words: list[int]) -> int:
    """How likely a reading is meant, from 0, which is implausible."""
    if isinstance(value, Flaw):
        return 0
    if isinstance(value, str):
        return 90 if len(value) >= _TEXT_MIN and value.isascii() and value.isprintable() else 0
    if not any(words):
        return 1  # everything is 0, which tells nothing
    if isinstance(value, float):
        return _of_fraction(type_, value)
    if type_.registers == 1:
        # As a signed one only where it matters; digits of BCD are digits of many numbers.
        return {Kind.UINT16: 50, Kind.INT16: 45 if value < 0 else 40}.get(type_.kind, 10 if value > 9 else 0)
    if type_.kind is Kind.BCD32:
        return 8 if value > 9999 else 0
    if abs(value) > _COUNT_MAX[type_.registers] or value % 65536 == 0:
        return 0  # too large, or all its bits in the upper registers: the order is another
    return 35 if type_.registers == 2 else 25


def _of_fraction(type_: DataType, value: float) -> int:
    if value != 0 and not _FRACTION_MIN <= abs(value) <= _FRACTION_MAX:
        return 0
    if value == 0:
        return 1
    digits = len(shown(type_, value).replace("-", "").replace(".", "").strip("0"))
    likely = 80 if digits <= _DIGITS_SHORT else 60
    return likely if type_.kind is Kind.FLOAT64 else likely + 2


def shown(type_: DataType, value: TagValue) -> str:
    """A value as people read it: a float with as many digits as tell it from its neighbours, and no more."""
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    if type_.kind is Kind.FLOAT64:
        return f"{value:.17g}" if float(f"{value:.15g}") != value else f"{value:.15g}"
    exact = Struct("f").pack(value)
    return next(
        text for digits in range(1, 10) if Struct("f").pack(float(text := f"{value:.{digits}g}")) == exact
    )


def likeliest(found: Iterable[Reading], asked: Address, count_max: int = 5) -> list[Reading]:
    """The readings worth pasting, likeliest first.

    A neighbour is proposed only where it is a text or a short fraction and the address asked for has none.
    """
    here: list[Reading] = []
    beside: list[Reading] = []
    told: set[tuple[int, Order, TagValue]] = set()
    for reading in sorted(found, key=lambda reading: -reading.guess):
        same = reading.address.start, reading.order, reading.value
        if not reading.plausible or same in told:  # what int32 and uint32 agree on is one proposal
            continue
        told.add(same)
        (here if reading.address.start == asked.start else beside).append(reading)
    if here and here[0].strong:
        return here[:count_max]
    return here[:count_max] + [reading for reading in beside if reading.strong][:2]


def twin(of: Reading, found: Iterable[Reading]) -> Reading | None:
    """The float32 beside that has the same upper register, and so its sign, size and first two digits.

    With registers swapped and an address off by one both look right, and one of them ends in digits of
    another value: a difference of up to 1 %, which nobody notices.
    """
    if of.type.kind is not Kind.FLOAT32:
        return None
    shift, order = _TWINS[of.order]
    wanted = Address(of.address.table, of.address.start + shift), of.type, order
    return next(
        (one for one in found if one.plausible and (one.address, one.type, one.order) == wanted), None
    )
