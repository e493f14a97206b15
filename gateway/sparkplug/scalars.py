"""A scalar value to what a field of the payload holds, and back. The tables of types and fields are here.

Metrics, properties, parameters and elements of tables have their fields by the same names, so all four are
written and read by these tables. The first field of a type is the one written; the others are what senders in
the field are known to use, and are read where they mean the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from gateway.sparkplug.datatypes import INTEGER_RANGE, SIGNED_BITS, UNSIGNED_BITS, DataType, shown
from gateway.sparkplug.values import Scalar, WrongValue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_64_BITS = (1 << 64) - 1
_32_BITS = (1 << 32) - 1
#: From here on a number rounds to what 32 bits call infinite.
_FLOAT_OVERFLOW = float(2**128 - 2**103)
_INFINITE = float("inf")
#: Most characters of a value that an error shows.
_SHOWN_CHARS_MAX = 60

#: Bits of the fields that hold integers.
FIELD_BITS = {"int_value": 32, "long_value": 64}


class Written(NamedTuple):
    """How a type is written: into which field, and by what."""

    field: str
    wire: Callable[[Any], Any]


def said(value: object) -> str:
    """A value as errors show it: short, whatever it is."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "\u2026"


def milliseconds(at: datetime) -> int:
    """Whole ms since 1970 as an unsigned 64-bit number; times before are two's complement, as in Int64."""
    try:
        since = at - EPOCH
    except TypeError:
        raise WrongValue(f"{said(at)} is no datetime with a time zone") from None
    return (since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000) & _64_BITS


def instant(number: int) -> datetime:
    """The time of what `milliseconds` makes. Raises WrongValue outside the years 1 to 9999."""
    signed = number - (1 << 64) if number >> 63 else number
    try:
        return EPOCH + timedelta(milliseconds=signed)
    except OverflowError:
        raise WrongValue(f"{number} ms since 1970 is outside the years 1 to 9999") from None


def _to_integer(datatype: DataType) -> Callable[[Any], int]:
    low, high = INTEGER_RANGE[datatype]
    # Sign-extended to the whole field: what tahu, the reference, writes and all others read.
    mask = _64_BITS if high > _32_BITS else _32_BITS

    def wire(value: Any) -> int:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
            raise wrong_type(value, datatype, "an int")
        if not low <= value <= high:
            raise WrongValue(f"{said(value)} is outside the range of {shown(datatype)}, {low} to {high}")
        return value & mask

    return wire


def _to_float(value: Any) -> float:
    number = _number(value, DataType.FLOAT)
    if not -_FLOAT_OVERFLOW < number < _FLOAT_OVERFLOW and abs(number) < _INFINITE:
        raise WrongValue(f"{said(value)} is too large for Float, 32 bits")
    return number


def _to_double(value: Any) -> float:
    number = _number(value, DataType.DOUBLE)
    if number != value and number == number:
        raise WrongValue(f"Double cannot hold {said(value)} exactly")
    return number


def _number(value: Any, datatype: DataType) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, datatype, "a float")
    try:
        return float(value)
    except OverflowError:
        raise WrongValue(f"{said(value)} is too large for {shown(datatype)}") from None


def _to_boolean(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise wrong_type(value, DataType.BOOLEAN, "a bool")


def _to_text(datatype: DataType) -> Callable[[Any], str]:
    def wire(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type(value, datatype, "a str")
        return value if value.isascii() else _sound(value)

    return wire


def _sound(text: str) -> str:
    """Half surrogate pairs, which no UTF-8 holds, are question marks, as they are in the journal."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _to_datetime(value: Any) -> int:
    if not isinstance(value, datetime):
        raise wrong_type(value, DataType.DATETIME, "an aware datetime")
    return milliseconds(value)


def _to_uuid(value: Any) -> str:
    if not isinstance(value, UUID):
        raise wrong_type(value, DataType.UUID, "a uuid.UUID")
    return str(value)


def wrong_type(value: object, datatype: DataType, wanted: str) -> WrongValue:
    """The error for a value of another Python type than `DataType` promises."""
    return WrongValue(f"{shown(datatype)} takes {wanted}, not {said(value)} ({type(value).__name__})")


#: How each scalar type is written.
WRITTEN: dict[DataType, Written] = {
    **{
        datatype: Written("long_value" if bits == 64 else "int_value", _to_integer(datatype))
        for datatype, bits in (SIGNED_BITS | UNSIGNED_BITS).items()
    },
    DataType.FLOAT: Written("float_value", _to_float),
    DataType.DOUBLE: Written("double_value", _to_double),
    DataType.BOOLEAN: Written("boolean_value", _to_boolean),
    DataType.STRING: Written("string_value", _to_text(DataType.STRING)),
    DataType.TEXT: Written("string_value", _to_text(DataType.TEXT)),
    DataType.DATETIME: Written("long_value", _to_datetime),
    DataType.UUID: Written("string_value", _to_uuid),
}


def _from_integer(datatype: DataType, field: str) -> Callable[[Any], int]:
    low, high = INTEGER_RANGE[datatype]
    widths = (SIGNED_BITS[datatype], 32, FIELD_BITS[field]) if low else ()

    def value(number: Any) -> int:
        if number <= high:
            return int(number)
        # Negative: as two's complement of the type's own width, of 32 bits, or of the whole field.
        for bits in widths:
            if low <= number - (1 << bits) < 0:
                return int(number - (1 << bits))
        raise WrongValue(f"{number} is outside the range of {shown(datatype)}, {low} to {high}")

    return value


def _same(value: Any) -> Any:
    return value


def _from_uuid(text: Any) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise WrongValue(f"{said(text)} is no UUID") from None


#: From which fields each scalar type is read, and by what.
READ: dict[DataType, dict[str, Callable[[Any], Any]]] = {
    **{
        datatype: {field: _from_integer(datatype, field) for field in ("int_value", "long_value")}
        for datatype, bits in (SIGNED_BITS | UNSIGNED_BITS).items()
        if bits < 64
    },
    DataType.INT64: {"long_value": _from_integer(DataType.INT64, "long_value")},
    DataType.UINT64: {"long_value": _same, "int_value": _same},
    DataType.FLOAT: {"float_value": _same},
    DataType.DOUBLE: {"double_value": _same, "float_value": _same},
    DataType.BOOLEAN: {"boolean_value": _same},
    DataType.STRING: {"string_value": _same},
    DataType.TEXT: {"string_value": _same},
    DataType.DATETIME: {"long_value": instant},
    DataType.UUID: {"string_value": _from_uuid},
}


def value_of(datatype: DataType, field: str, raw: Any) -> Scalar:
    """The value of a scalar type that came in a field. Raises WrongValue."""
    reader = READ[datatype].get(field)
    if reader is None:
        raise wrong_field(datatype, field)
    value: Scalar = reader(raw)
    return value


def wrong_field(datatype: DataType, field: str) -> WrongValue:
    """The error for a value that came in a field its type is never sent in."""
    return WrongValue(f"{shown(datatype)} is not sent as {field}")
