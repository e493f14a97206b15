"""Raw values to the values of tags and back, one at a time. Pure; knows no bytes and no blocks.

A raw value is what a struct format gives: an integer, a float, the bytes of a text. Where its bits are no
value, or none that can be trusted, a `Flaw` stands for it; a flaw is never a number somebody could
calculate with, except for the limit a value beyond its `clamp` is replaced by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from connectors.modbus.layout import SUNSPEC, DataType, Kind, LayoutError, Signal
from statemodel.types import Quality, TagValue


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is told instead of a good value: why, and what may be used in its place, if anything."""

    quality: Quality
    substatus: str
    value: TagValue = None


#: The bits are no value of their type: NaN, infinity, a digit above 9 in BCD.
NOT_A_NUMBER = Flaw(Quality.BAD, "not_a_number")
#: The device says that it has no value here.
NO_VALUE = Flaw(Quality.BAD, "no_value")
#: Substatus of a value beyond its clamp, the same word that OPC UA has for it (OPC 10000-8).
BEYOND = "engineering_units_exceeded"

Decoded = bool | int | float | str | Flaw
#: From what a struct unpacks to the value; None where they are the same.
Convert = Callable[[Any], Decoded] | None

INTEGERS = {
    Kind.INT16: (-(2**15), 2**15 - 1),
    Kind.UINT16: (0, 2**16 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT32: (0, 2**32 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.BCD16: (0, 9999),
    Kind.BCD32: (0, 99_999_999),
}
_DECIMAL = (Kind.BCD16, Kind.BCD32)
_FRACTIONS = (Kind.FLOAT32, Kind.FLOAT64)
#: SunSpec's "not implemented" by type (Device Information Model Specification). Floats have NaN, which is
#: equal to nothing and has a test of its own. Accumulators have 0, and say so with an explicit no_value.
_SUNSPEC: dict[Kind, int | str] = {
    Kind.BOOL: 0xFFFF,  # the register a bit is taken from: bitfield16
    Kind.INT16: -(2**15),
    Kind.UINT16: 0xFFFF,
    Kind.INT32: -(2**31),
    Kind.UINT32: 0xFFFF_FFFF,
    Kind.INT64: -(2**63),
    Kind.UINT64: 0xFFFF_FFFF_FFFF_FFFF,
    Kind.STRING: "",
}
_NO_VALUE_HINT = 'write "sunspec", or the raw value that means it: -32768, "0x8000"'
#: How far from a whole number the raw value of a scaled one may be, besides what floats lose on the way.
_STEP_TOLERANCE = 1e-6
_EPSILON = 2.0**-50


def parse_no_value(text: str, type_: DataType) -> int | float | str:
    """The raw value, in the numbers of its type, that means there is none; SUNSPEC as it stands.

    A whole number may be written as its bits, so 0x8000 is -32768 of an int16. Of BCD it is always the bits.

    Raises:
        LayoutError: it is none of this type.
    """
    text, kind = text.strip().lower(), type_.kind
    if text == SUNSPEC:
        if kind in _DECIMAL:
            raise LayoutError(f'SunSpec has no {type_}; write the bits that mean it, such as "0xFFFF"')
        return SUNSPEC
    if kind is Kind.STRING:
        raise LayoutError(f'a text is not there when it is empty; write "{SUNSPEC}"')
    try:
        if kind in _FRACTIONS:
            form = Struct("f" if kind is Kind.FLOAT32 else "d")
            (number,) = form.unpack(form.pack(float(text)))
        else:
            raw = int(text, 0)
    except (ValueError, OverflowError) as error:
        raise LayoutError(f'"{text}" is no raw value of type {type_}; {_NO_VALUE_HINT}') from error
    if kind in _FRACTIONS:
        if not math.isfinite(number):
            raise LayoutError(
                f'NaN and infinity are never values; to have NaN told as such write "{SUNSPEC}"'
            )
        return float(number)
    bits = 16 * type_.registers
    low, high = (0, 2**bits - 1) if kind in _DECIMAL else INTEGERS.get(kind, (0, 2**bits - 1))
    if low < 0 and high < raw < 2**bits:
        raw -= 2**bits
    if not low <= raw <= high:
        raise LayoutError(f'"{text}" does not fit the {bits} bits of {type_}; {_NO_VALUE_HINT}')
    return raw


def conversion(signal: Signal) -> Convert:
    """How the raw value of a signal becomes its value; None when it is the value already."""
    convert = _plain(signal)
    if signal.no_value is not None:
        convert = _but_absent(signal, convert)
    return convert if signal.clamp is None else _within(signal, convert)


def _plain(signal: Signal) -> Convert:
    kind, scale, offset = signal.type.kind, float(signal.scale), float(signal.offset)
    if kind is Kind.BOOL:
        bit = signal.address.bit
        return None if bit is None else lambda raw: bool(raw >> bit & 1)
    if kind is Kind.STRING:
        return lambda raw: _characters(raw, signal.type.characters)
    if kind in _DECIMAL:
        return (lambda raw: _scale(_decimal(raw), scale, offset)) if signal.scaled else _decimal
    if signal.scaled:
        divisor = round(1 / scale) if scale else 0
        if divisor and 1 / divisor == scale:
            # 1726 / 10 is 172.6, while 1726 * 0.1 is 172.60000000000002.
            return lambda raw: _finite(raw / divisor + offset)
        return lambda raw: _scale(raw, scale, offset)
    return _finite if kind in _FRACTIONS else None


def _but_absent(signal: Signal, convert: Convert) -> Convert:
    """The raw value that means "none" is told from all others before anything else is done with it."""
    absent: Any = _SUNSPEC.get(signal.type.kind) if signal.no_value == SUNSPEC else signal.no_value
    if signal.type.kind is Kind.STRING:
        return lambda raw: _characters(raw, signal.type.characters) or NO_VALUE
    if absent is None:  # a float, and only NaN is not equal to itself
        inner = convert or _finite
        return lambda raw: inner(raw) if raw == raw else NO_VALUE
    if convert is None:
        return lambda raw: NO_VALUE if raw == absent else raw
    return lambda raw: NO_VALUE if raw == absent else convert(raw)


def _within(signal: Signal, convert: Convert) -> Convert:
    """A value beyond its clamp is replaced by the limit it passed, and no longer good."""
    assert signal.clamp is not None, "only a signal that has one"
    low, high = limits_of(signal) or signal.clamp
    below, above = (Flaw(Quality.UNCERTAIN, BEYOND, limit) for limit in (low, high))

    def clamped(raw: Any) -> Decoded:
        value: Any = raw if convert is None else convert(raw)
        if value.__class__ is Flaw or low <= value <= high:
            return value  # type: ignore[no-any-return]
        return below if value < low else above

    return clamped


def limits_of(signal: Signal) -> tuple[float, float] | None:
    """The clamp in numbers of the tag's own kind: whole ones where the value is whole."""
    if signal.clamp is None:
        return None
    low, high = signal.clamp
    if signal.scaled or signal.type.kind in _FRACTIONS:
        return float(low), float(high)
    return math.ceil(low), math.floor(high)


def _finite(raw: float) -> float | Flaw:
    return raw if math.isfinite(raw) else NOT_A_NUMBER


def _scale(raw: float | Flaw, scale: float, offset: float) -> float | Flaw:
    return raw if isinstance(raw, Flaw) else _finite(raw * scale + offset)


def _decimal(raw: int) -> int | Flaw:
    digits = f"{raw:x}"
    return int(digits) if digits.isdecimal() else NOT_A_NUMBER


def _characters(raw: bytes, count: int) -> str:
    return raw[:count].split(b"\0", 1)[0].rstrip(b" ").decode("latin-1")


class CannotEncode(ValueError):
    """The value has no form in this tag's registers; the message says why, for people."""


def raw_of(signal: Signal, value: TagValue) -> int | float | bytes:
    """The raw value that reads back as `value`, which is no single bit.

    Raises:
        CannotEncode: there is none: wrong type, out of range, between two steps of the scale, or the raw
            value by which the device says that it has none.
    """
    if signal.type.kind is Kind.STRING:
        return _raw_characters(signal, value)
    raw = _raw_number(signal, value)
    absent = _SUNSPEC.get(signal.type.kind) if signal.no_value == SUNSPEC else signal.no_value
    if absent is not None and raw == absent:
        raise CannotEncode(f"{value!r} would read back as no value: {signal.type} {absent} means that")
    return raw


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
    if not data and signal.no_value is not None:
        raise CannotEncode("an empty text would read back as no value")
    return data


def _raw_number(signal: Signal, value: TagValue) -> float | int:
    kind = signal.type.kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CannotEncode(f"{value!r} is no number")
    if not math.isfinite(value):
        raise CannotEncode(f"{value!r} is no number a device could use")
    if signal.clamp is not None and not signal.clamp[0] <= value <= signal.clamp[1]:
        low, high = signal.clamp
        raise CannotEncode(f"{value!r} is beyond the clamp of {low:g} to {high:g}")
    raw = (value - signal.offset) / signal.scale if signal.scaled else value
    if kind not in INTEGERS:
        return raw
    whole = _whole(signal, value, raw)
    low_raw, high_raw = INTEGERS[kind]
    if not low_raw <= whole <= high_raw:
        raise CannotEncode(
            f"{value!r} does not fit {signal.type}: its raw value {whole} is not in {low_raw} to {high_raw}"
        )
    return int(str(whole), 16) if kind in _DECIMAL else whole


def _whole(signal: Signal, value: float, raw: float) -> int:
    """The whole raw number a value stands for; nothing is rounded away that a person could have meant."""
    if not math.isfinite(raw):
        raise CannotEncode(f"{value!r} does not fit {signal.type}")
    whole = round(raw)
    if not signal.scaled:
        if whole != raw:
            raise CannotEncode(f"{value!r} is not whole, and {signal.type} is")
        return whole
    lost = _EPSILON * (abs(value) + abs(signal.offset)) / abs(signal.scale)
    if abs(raw - whole) > _STEP_TOLERANCE + lost:
        near = sorted(round(step * signal.scale + signal.offset, 12) for step in {whole, _other(raw, whole)})
        raise CannotEncode(
            f"{value!r} is between two steps of {signal.scale:g}; it can be {near[0]:.15g} or {near[1]:.15g}"
        )
    return whole


def _other(raw: float, whole: int) -> int:
    """The whole number on the other side."""
    return whole + 1 if raw > whole else whole - 1
