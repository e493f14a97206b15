"""Arrays to the bytes of `bytes_value`, and back: packed, little-endian (Sparkplug B 3.0, chapter 6).

Some of the standard's own examples are misprinted: Int8Array (-23 is E9), FloatArray and DoubleArray
(big-endian) and DateTimeArray (the high zero bytes are missing). What is written here follows its text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.sparkplug.datatypes import ELEMENT, DataType, shown
from gateway.sparkplug.scalars import WRITTEN, instant, wrong_type
from gateway.sparkplug.values import WrongValue

#: Letters of the `struct` module for elements of a fixed width.
_LETTER: dict[DataType, str] = {
    DataType.INT8: "b",
    DataType.INT16: "h",
    DataType.INT32: "i",
    DataType.INT64: "q",
    DataType.UINT8: "B",
    DataType.UINT16: "H",
    DataType.UINT32: "I",
    DataType.UINT64: "Q",
    DataType.FLOAT: "f",
    DataType.DOUBLE: "d",
    DataType.DATETIME: "Q",
}
_COUNT = struct.Struct("<I")
_MOST_BOOLEANS = (1 << 32) - 1


class _Packing(NamedTuple):
    pack: Callable[[Sequence[Any]], bytes]
    count: Callable[[bytes], int]
    """How many elements there are, before any is made. Raises WrongValue when they do not come out even."""
    unpack: Callable[[bytes, int], tuple[Any, ...]]


def pack(datatype: DataType, values: object) -> bytes:
    """The bytes of an array. Raises WrongValue, naming the element."""
    if not isinstance(values, tuple | list):
        raise wrong_type(values, datatype, "a tuple")
    if datatype is DataType.BOOLEAN_ARRAY and len(values) > _MOST_BOOLEANS:
        raise WrongValue(f"{len(values)} elements are more than {shown(datatype)} can count")
    return _PACKING[datatype].pack(values)


def unpack(datatype: DataType, data: bytes, *, count_max: int) -> tuple[Any, ...]:
    """The values of an array. Raises WrongValue when the bytes are none, or more than `count_max` of them."""
    packing = _PACKING[datatype]
    count = packing.count(data)
    if count > count_max:
        raise WrongValue(f"{count} elements are too many")
    return packing.unpack(data, count)


def _checked(element: DataType, values: Sequence[Any]) -> list[Any]:
    """What the fields would hold, one by one, so that a wrong one is named."""
    wire = WRITTEN[element].wire
    made = []
    for index, value in enumerate(values):
        try:
            made.append(wire(value))
        except WrongValue as wrong:
            raise WrongValue(wrong.reason, place=f"element {index}") from None
    return made


def _fixed(element: DataType) -> _Packing:
    letter = _LETTER[element]
    width = struct.calcsize(f"<{letter}")

    def packed(values: Sequence[Any]) -> bytes:
        made = _checked(element, values)
        # What the check makes of a negative number is meant for a field; here each has its own width.
        if element is not DataType.DATETIME:
            made = list(values)
        return struct.pack(f"<{len(made)}{letter}", *made)

    def count(data: bytes) -> int:
        if len(data) % width:
            raise WrongValue(f"{len(data)} bytes are no whole number of elements of {width} bytes")
        return len(data) // width

    def unpacked(data: bytes, count: int) -> tuple[Any, ...]:
        values = struct.unpack(f"<{count}{letter}", data)
        return tuple(map(instant, values)) if element is DataType.DATETIME else values

    return _Packing(packed, count, unpacked)


def _pack_booleans(values: Sequence[Any]) -> bytes:
    bits = "".join("1" if value else "0" for value in _checked(DataType.BOOLEAN, values))
    octets = (bits[start : start + 8].ljust(8, "0") for start in range(0, len(bits), 8))
    return _COUNT.pack(len(values)) + bytes(int(octet, 2) for octet in octets)


def _count_booleans(data: bytes) -> int:
    if len(data) < _COUNT.size:
        raise WrongValue(f"{len(data)} bytes hold no count of elements")
    count: int = _COUNT.unpack_from(data)[0]
    if len(data) != _COUNT.size + (count + 7) // 8:
        raise WrongValue(f"{len(data)} bytes are not those of {count} booleans")
    return count


def _unpack_booleans(data: bytes, count: int) -> tuple[bool, ...]:
    bits = "".join(f"{octet:08b}" for octet in data[_COUNT.size :])
    return tuple(bit == "1" for bit in bits[:count])


def _pack_strings(values: Sequence[Any]) -> bytes:
    parts = []
    for index, text in enumerate(_checked(DataType.STRING, values)):
        data = text.encode()
        if b"\0" in data:
            raise WrongValue("a NUL ends a text in an array, so none can have one", place=f"element {index}")
        parts.append(data + b"\0")
    return b"".join(parts)


def _count_strings(data: bytes) -> int:
    if data and data[-1]:
        raise WrongValue("the last text does not end in NUL")
    return data.count(0)


def _unpack_strings(data: bytes, count: int) -> tuple[str, ...]:
    try:
        return tuple(data.decode().split("\0")[:count])
    except UnicodeDecodeError as error:
        raise WrongValue(f"no UTF-8: {error.reason}") from None


_PACKING: dict[DataType, _Packing] = {
    array: _fixed(element) for array, element in ELEMENT.items() if element in _LETTER
}
_PACKING[DataType.BOOLEAN_ARRAY] = _Packing(_pack_booleans, _count_booleans, _unpack_booleans)
_PACKING[DataType.STRING_ARRAY] = _Packing(_pack_strings, _count_strings, _unpack_strings)

assert _PACKING.keys() == ELEMENT.keys()
