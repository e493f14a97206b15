"""The built-in types of OPC UA binary encoding (OPC 10000-6 section 5.2.2), read from a place in a message.

Scalars come out as tag values, arrays as lists, structures as their bytes (`Body`); what this gateway has no
use for is stepped over and comes out as `UNSUPPORTED`. Trusts no length: every read is checked against the
end of the message. Pure.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from math import prod
from typing import Any

from connectors.opcua.nodes import full_node_text, identifier_text
from connectors.opcua.values import UNSUPPORTED, Body, Raw, Reading, datetime_text

#: The mask of a DataValue (OPC 10000-6 table 26).
VALUE, STATUS, SOURCE, SERVER, SOURCE_PICO, SERVER_PICO = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
#: What follows the source time in a DataValue and is not used: its fraction, and the server's own stamp.
_LATER_STAMPS = SOURCE_PICO | SERVER | SERVER_PICO
_LATER_WIDTHS = {
    mask: 2 * bool(mask & SOURCE_PICO) + 8 * bool(mask & SERVER) + 2 * bool(mask & SERVER_PICO)
    for mask in range(_LATER_STAMPS + 1)
}
IS_ARRAY, _HAS_DIMENSIONS, _TYPE = 0x80, 0x40, 0x3F
#: Variants may hold variants; nobody means more levels than this, and each costs a stack frame.
DEPTH_MAX = 16
#: Longer arrays are stepped over: they are no signal of a machine, and each element is an object here.
ELEMENTS_MAX = 65_536
_DIMENSIONS_MAX = 16

_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")
_I32, _I64 = struct.Struct("<i"), struct.Struct("<q")
#: Type number to struct format, for values of fixed width (OPC 10000-6 section 5.1.2).
FIXED = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
_FIXED_STRUCTS = {number: struct.Struct("<" + code) for number, code in FIXED.items()}
_WIDTHS = {number: fixed.size for number, fixed in _FIXED_STRUCTS.items()} | {13: 8, 14: 16, 19: 4}
#: Those of which a whole array is read at once.
_ROWS = FIXED | {19: "I"}
_NULL, STRING, _DATETIME, _GUID, _BYTESTRING, _XML = 0, 12, 13, 14, 15, 16
_NODEID, _EXPANDED, _STATUSCODE, _QUALIFIED, _LOCALIZED, _EXTENSION, _DATAVALUE, _VARIANT, _DIAGNOSTIC = (
    range(17, 26)
)
_RESERVED_MAX = 31


class Malformed(Exception):
    """The message contradicts itself: a length beyond its end, a type that does not exist."""


class Reader:
    """A place in a message, and the built-in types of OPC 10000-6 section 5.2.2 from there on."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.end = len(data)

    def skip(self, count: int) -> None:
        if count < 0 or count > self.end - self.at:
            raise Malformed(f"a length of {count} bytes where {self.end - self.at} are left")
        self.at += count

    def u8(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def u16(self) -> int:
        value: int = _U16.unpack_from(self.data, self.at)[0]
        self.at += 2
        return value

    def u32(self) -> int:
        value: int = _U32.unpack_from(self.data, self.at)[0]
        self.at += 4
        return value

    def i32(self) -> int:
        value: int = _I32.unpack_from(self.data, self.at)[0]
        self.at += 4
        return value

    def i64(self) -> int:
        value: int = _I64.unpack_from(self.data, self.at)[0]
        self.at += 8
        return value

    def count(self) -> int:
        """Length of an array; a null array has none. Each element takes at least one byte."""
        count = self.i32()
        if count > self.end - self.at:
            raise Malformed(f"an array of {count} elements in {self.end - self.at} bytes")
        return max(count, 0)

    def u32_array(self) -> tuple[int, ...] | None:
        count = self.i32()
        if count < 0:
            return None
        start = self.at
        self.skip(4 * count)
        return struct.unpack_from(f"<{count}I", self.data, start)

    def bytes(self) -> bytes | None:
        length = self.i32()
        if length < 0:
            return None
        start = self.at
        self.skip(length)
        return self.data[start : self.at]

    def text(self) -> str:
        """A String; null and empty are the same to us."""
        return (self.bytes() or b"").decode("utf-8", "replace")

    def type_number(self) -> int:
        """The numeric NodeId of namespace 0 that names an encoding; -1 for any other NodeId."""
        form = self.data[self.at]
        if form == 1:
            namespace = self.data[self.at + 1]
            self.at += 2
            number = self.u16()
            return number if namespace == 0 else -1
        return self.node_id()[1]

    def response_header(self) -> int:
        """Read a ResponseHeader; the service result."""
        self.skip(12)
        result = self.u32()
        self.diagnostic_info(DEPTH_MAX)
        for _ in range(self.count()):
            self.bytes()
        self.extension_object()
        return result

    def node_id(self) -> tuple[str, int]:
        """A NodeId or ExpandedNodeId as text, and its number if it is numeric in namespace 0, else -1."""
        form = self.u8()
        kind = form & 0x3F
        number = -1
        if kind == 0:
            namespace, number = 0, self.u8()
            text = f"i={number}"
        elif kind in (1, 2):
            namespace = self.u8() if kind == 1 else self.u16()
            number = self.u16() if kind == 1 else self.u32()
            text = f"i={number}"
        elif kind in (3, 4, 5):
            namespace = self.u16()
            text = self._identifier(kind)
        else:
            raise Malformed(f"a node id of kind {kind}")
        uri = self.text() if form & 0x80 else None
        server = self.u32() if form & 0x40 else None
        return full_node_text(text, namespace, uri, server), number if namespace == 0 else -1

    def _identifier(self, kind: int) -> str:
        if kind == 3:
            return identifier_text(self.text())
        return identifier_text(self.guid() if kind == 4 else self.bytes() or b"")

    def guid(self) -> uuid.UUID:
        start = self.at
        self.skip(16)
        return uuid.UUID(bytes_le=self.data[start : self.at])

    def localized_text(self) -> str:
        mask = self.u8()
        if mask & 1:
            self.bytes()
        return self.text() if mask & 2 else ""

    def extension_object(self) -> Body:
        """An ExtensionObject; without a body of bytes (none at all, or XML) it has no data."""
        type_id = self.node_id()[0]
        encoding = self.u8()
        data = self.bytes() if encoding else None
        return Body(type_id, data if encoding == 1 else None)

    def diagnostic_info(self, depth: int) -> None:
        """Step over a DiagnosticInfo: indexes, a text, a status and what caused it."""
        if depth == 0:
            raise Malformed("diagnostics nested too deeply")
        mask = self.u8()
        self.skip(4 * (mask & 0x0F).bit_count())
        if mask & 0x10:
            self.bytes()
        if mask & 0x20:
            self.skip(4)
        if mask & 0x40:
            self.diagnostic_info(depth - 1)

    def data_value(self, depth: int) -> Reading:
        """A DataValue."""
        mask = self.u8()
        value = self.variant(depth) if mask & VALUE else None
        code = self.u32() if mask & STATUS else 0
        ticks = self.i64() if mask & SOURCE else None
        if mask & _LATER_STAMPS:
            self.skip(_LATER_WIDTHS[mask & _LATER_STAMPS])
        return Reading(value, code, ticks)

    def variant(self, depth: int) -> Raw:
        """A Variant: a scalar, a list, lists of lists for several dimensions."""
        if depth == 0:
            raise Malformed("values nested too deeply")
        encoding = self.u8()
        number = encoding & _TYPE
        if encoding & IS_ARRAY:
            found = self.elements(number, depth)
            return self._shaped(found) if encoding & _HAS_DIMENSIONS else found
        value = self.scalar(number, depth)
        return UNSUPPORTED if encoding & _HAS_DIMENSIONS else value

    def elements(self, number: int, depth: int) -> Raw:
        """An array: its length and then its elements. None for a null array."""
        count = self.i32()
        return None if count < 0 else self.row(count, number, depth)

    def row(self, count: int, number: int, depth: int) -> Raw:
        """So many values of a built-in type."""
        width = _WIDTHS.get(number)
        start = self.at
        if width is not None:
            self.skip(width * count)
            if count > ELEMENTS_MAX:
                return UNSUPPORTED
            if number in _ROWS:
                return list(struct.unpack_from(f"<{count}{_ROWS[number]}", self.data, start))
            self.at = start
        elif count > self.end - start:
            raise Malformed(f"an array of {count} elements in {self.end - start} bytes")
        if number == _NULL:
            return UNSUPPORTED if count else []
        if count > ELEMENTS_MAX:
            for _ in range(count):
                self.scalar(number, depth)
            return UNSUPPORTED
        if number == _VARIANT:
            return [self.variant(depth - 1) for _ in range(count)]
        return [self.scalar(number, depth) for _ in range(count)]

    def _shaped(self, found: Raw) -> Raw:
        """The elements of an array in the dimensions that follow them; unsupported where they disagree."""
        start = self.at
        self.skip(4 * self.count())
        count = min((self.at - start) // 4 - 1, _DIMENSIONS_MAX + 1)
        return shaped(found, struct.unpack_from(f"<{count}i", self.data, start + 4))

    def scalar(self, number: int, depth: int) -> Raw:
        """A value of a built-in type (OPC 10000-6 section 5.1.2)."""
        fixed = _FIXED_STRUCTS.get(number)
        if fixed is not None:
            value: Raw = fixed.unpack_from(self.data, self.at)[0]
            self.at += fixed.size
            return value
        read = _SCALARS.get(number)
        if read is not None:
            return read(self)
        if number == _VARIANT:
            self.variant(depth - 1)
        elif number == _DATAVALUE:
            self.data_value(depth - 1)
        elif number == _DIAGNOSTIC:
            self.diagnostic_info(depth - 1)
        elif number > _DIAGNOSTIC:
            # Numbers 26 to 31 are reserved and read as ByteString.
            if number > _RESERVED_MAX:
                raise Malformed(f"a value of type {number}")
            self.bytes()
        return UNSUPPORTED

    def _qualified_name(self) -> str:
        namespace = self.u16()
        return f"{namespace}:{self.text()}"


#: How each type that is no number is read.
_SCALARS: dict[int, Callable[[Reader], Raw]] = {
    _NULL: lambda reader: None,
    STRING: Reader.text,
    _DATETIME: lambda reader: datetime_text(reader.i64()),
    _GUID: lambda reader: str(reader.guid()),
    _BYTESTRING: lambda reader: (reader.bytes() or b"").hex(),
    _XML: Reader.text,
    _NODEID: lambda reader: reader.node_id()[0],
    _EXPANDED: lambda reader: reader.node_id()[0],
    _STATUSCODE: Reader.u32,
    _QUALIFIED: Reader._qualified_name,
    _LOCALIZED: Reader.localized_text,
    _EXTENSION: Reader.extension_object,
}


def shaped(found: Raw, sizes: tuple[int, ...]) -> Raw:
    """Elements in row-major order as lists within lists; unsupported when there are not so many."""
    if not isinstance(found, list) or len(sizes) < 2 or not found:
        return found
    if len(sizes) > _DIMENSIONS_MAX or min(sizes) < 1 or prod(sizes) != len(found):
        return UNSUPPORTED
    nested: list[Any] = found
    for size in reversed(sizes[1:]):
        nested = [nested[at : at + size] for at in range(0, len(nested), size)]
    return nested
