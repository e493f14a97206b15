"""Values for variables of a server: in the variable's own type or not at all.

A server refuses a value of another type than the variable's, and a value that was cut to fit would be worse.
So the type is read once a session, from the server, and every value is checked against it here. Integers stay
exact to 64 bits. Whether a value was carried out is told as far as it is known. Pure.
"""

from __future__ import annotations

import math
import struct
import uuid
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from connectors.base import WriteOutcome, Written
from connectors.opcua.binary import DEPTH_MAX, IS_ARRAY, VALUE, Malformed, Reader
from connectors.opcua.quality import is_bad, name_of, quality_of
from statemodel.types import TagValue

_BOOLEAN, _FLOAT, _DOUBLE, _STRING, _DATE_TIME, _GUID, _BYTES, _TEXT = 1, 10, 11, 12, 13, 14, 15, 21
_INTEGERS = {
    2: ("SByte", -(2**7), 2**7 - 1),
    3: ("Byte", 0, 2**8 - 1),
    4: ("Int16", -(2**15), 2**15 - 1),
    5: ("UInt16", 0, 2**16 - 1),
    6: ("Int32", -(2**31), 2**31 - 1),
    7: ("UInt32", 0, 2**32 - 1),
    8: ("Int64", -(2**63), 2**63 - 1),
    9: ("UInt64", 0, 2**64 - 1),
}
_READ_RESPONSE = 634
#: Data types whose values are encoded as another one: Enumeration, Duration, UtcTime, LocaleId.
_ENCODED_AS = {29: 6, 290: _DOUBLE, 294: _DATE_TIME, 295: _STRING}

#: Results after which nobody knows: the server, or something behind it, gave up waiting or went wrong.
_UNCERTAIN_RESULTS = frozenset(
    {0x8001_0000, 0x8002_0000, 0x8005_0000, 0x800A_0000, 0x8084_0000, 0x8085_0000, 0x80B9_0000}
)
_WORDS = {
    0x803B_0000: "the variable cannot be written",
    0x801F_0000: "this user may not write the variable",
    0x8074_0000: "the server finds the value of the wrong type",
    0x803C_0000: "the value is outside the range the server allows",
    0x8034_0000: "the server does not know the node",
    0x8033_0000: "the server does not know the node",
    0x8073_0000: "the server takes no status or time with a value",
    0x801A_0000: "the server does not trust this gateway",
}
_MEANING = 0xFFFF_0000


class DoesNotFit(ValueError):
    """A value the variable cannot hold; the message says why."""


class NodeType:
    """What one variable holds: the number of its built-in type, 0 when the server does not tell."""

    __slots__ = ("is_array", "number", "refusal")

    def __init__(self, number: int, *, is_array: bool = False, refusal: str = "") -> None:
        self.number, self.is_array, self.refusal = number, is_array, refusal


def decode_types(data: bytes) -> list[NodeType]:
    """Read a ReadResponse that holds Value and DataType of each node in turn.

    Raises:
        Malformed: it contradicts itself or the standard.
    """
    reader = Reader(data, 0)
    try:
        if reader.type_number() != _READ_RESPONSE:
            raise Malformed("an answer of another type came where a read response was due")
        reader.response_header()
        count = reader.count()
        return [_node_type(reader) for _ in range(count // 2)]
    except (struct.error, IndexError) as error:
        raise Malformed("a read response ends in the middle of a value") from error


def _node_type(reader: Reader) -> NodeType:
    mask, kind = reader.data[reader.at], reader.data[reader.at + 1]
    value = reader.data_value(DEPTH_MAX)
    told = reader.data_value(DEPTH_MAX)
    if is_bad(told.code):
        return NodeType(0, refusal=_refusal(told.code)[0])
    number = kind & 0x3F if mask & VALUE else 0
    if not number and isinstance(told.value, str) and told.value.startswith("i="):
        named = int(told.value[2:])
        number = named if named < 26 else _ENCODED_AS.get(named, 0)
    if not number and is_bad(value.code):
        return NodeType(0, refusal=f"the type of the variable is not known ({name_of(value.code)})")
    return NodeType(number, is_array=bool(mask & VALUE and kind & IS_ARRAY))


def fitted(value: TagValue, of: NodeType) -> ua.Variant:
    """The value as the variable holds it.

    Raises:
        DoesNotFit: the variable cannot hold it, or not exactly.
    """
    if of.refusal:
        raise DoesNotFit(of.refusal)
    if of.is_array:
        raise DoesNotFit("the variable is an array; only single values can be written")
    loose: Any = ua.Variant
    variant: ua.Variant = loose(_converted(value, of.number), ua.VariantType(of.number))
    return variant


def _converted(value: TagValue, number: int) -> Any:
    if value is None:
        raise DoesNotFit("there is no value to write")
    if number == _BOOLEAN:
        if isinstance(value, bool):
            return value
        raise DoesNotFit(f"the variable is true or false, not {value!r}")
    if number in _INTEGERS:
        return _integer(value, *_INTEGERS[number])
    if number in (_FLOAT, _DOUBLE):
        return _fraction(value, number)
    if not isinstance(value, str):
        raise DoesNotFit(f"the variable holds {_name(number)}, not {value!r}")
    if number == _STRING:
        return value
    if number == _TEXT:
        return ua.LocalizedText(value)
    try:
        if number == _GUID:
            return uuid.UUID(value)
        if number == _BYTES:
            return bytes.fromhex(value)
        if number == _DATE_TIME:
            at = datetime.fromisoformat(value)
            if at.tzinfo is None:
                raise ValueError("it names no time zone")
            return at.astimezone(UTC)
    except ValueError as error:
        raise DoesNotFit(f'"{value}" is not {_name(number)}: {error}') from error
    raise DoesNotFit(f"a variable that holds {_name(number)} cannot be written")


def _integer(value: TagValue, name: str, least: int, most: int) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int):
        raise DoesNotFit(f"the variable is a whole number ({name}), not {value!r}")
    if not least <= whole <= most:
        raise DoesNotFit(f"{whole} does not fit {name}, which goes from {least} to {most}")
    return whole


def _fraction(value: TagValue, number: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DoesNotFit(f"the variable is a number ({_name(number)}), not {value!r}")
    try:
        found = float(value)
        held = struct.unpack("<f", struct.pack("<f", found))[0] if number == _FLOAT else found
    except OverflowError:
        raise DoesNotFit(f"{value} is too large for {_name(number)}") from None
    if not math.isfinite(found):
        raise DoesNotFit(f"{value} is no number a variable should hold")
    if isinstance(value, int) and held != value:
        raise DoesNotFit(f"{value} cannot be held exactly by {_name(number)}")
    return found


def _name(number: int) -> str:
    return ua.VariantType(number).name if 0 < number < 26 else "something the server does not tell"


def outcome(tag: str, code: int | None) -> Written:
    """What a status code says of one write; None: it was sent and not answered."""
    if code is None:
        return Written(tag, WriteOutcome.UNKNOWN, "sent, and the server did not answer")
    if not is_bad(code):
        return Written(tag, WriteOutcome.ACCEPTED)
    reason, uncertain = _refusal(code)
    return Written(tag, WriteOutcome.UNKNOWN if uncertain else WriteOutcome.REFUSED, reason)


def _refusal(code: int) -> tuple[str, bool]:
    meaning = code & _MEANING
    words = _WORDS.get(meaning) or f"the server says {quality_of(code)[1].replace('_', ' ') or 'no'}"
    return f"{words} ({name_of(code)})", meaning in _UNCERTAIN_RESULTS
