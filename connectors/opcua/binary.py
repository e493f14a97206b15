"""The built-in types of OPC UA binary encoding (OPC 10000-6 section 5.2.2), read from a place in a message.

Values come out as tag values; what is no scalar is stepped over and comes out as `UNSUPPORTED`. Trusts no
length: every read is checked against the end of the message. Pure.
"""

from __future__ import annotations

import struct
import uuid

from connectors.opcua.nodes import full_node_text, identifier_text
from connectors.opcua.values import UNSUPPORTED, Raw, Reading, datetime_text

#: The mask of a DataValue (OPC 10000-6 table 26).
VALUE, STATUS, SOURCE, SERVER, SOURCE_PICO, SERVER_PICO = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
IS_ARRAY, _HAS_DIMENSIONS, _TYPE = 0x80, 0x40, 0x3F
#: Variants may hold variants; nobody means more levels than this, and each costs a stack frame.
DEPTH_MAX = 16

_U8, _U16, _U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_I32, _I64 = struct.Struct("<i"), struct.Struct("<q")
#: Type number to struct format, for values of fixed width (OPC 10000-6 section 5.1.2).
FIXED = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
_FIXED_STRUCTS = {number: struct.Struct("<" + code) for number, code in FIXED.items()}
_WIDTHS = {number: fixed.size for number, fixed in _FIXED_STRUCTS.items()} | {13: 8, 14: 16, 19: 4}
_NULL, STRING, _DATETIME, _GUID, _BYTESTRING, _XML = 0, 12, 13, 14, 15, 16
_NODEID, _EXPANDED, _STATUSCODE, _QUALIFIED, _LOCALIZED, _EXTENSION, _DATAVALUE, _VARIANT, _DIAGNOSTIC = (
    range(17, 26)
)


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
        return self._int(_U16)

    def u32(self) -> int:
        return self._int(_U32)

    def i32(self) -> int:
        return self._int(_I32)

    def i64(self) -> int:
        return self._int(_I64)

    def _int(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self.data, self.at)[0]
        self.at += form.size
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

    def extension_object(self) -> None:
        self.node_id()
        if self.u8():
            length = self.i32()
            self.skip(max(length, 0))

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
        rest = 2 * bool(mask & SOURCE_PICO) + 8 * bool(mask & SERVER) + 2 * bool(mask & SERVER_PICO)
        self.skip(rest)
        return Reading(value, code, ticks)

    def variant(self, depth: int) -> Raw:
        if depth == 0:
            raise Malformed("values nested too deeply")
        encoding = self.u8()
        number = encoding & _TYPE
        if encoding & IS_ARRAY:
            self._skip_elements(number, depth)
            if encoding & _HAS_DIMENSIONS:
                self.skip(4 * self.count())
            return UNSUPPORTED
        value = self.scalar(number, depth)
        return UNSUPPORTED if encoding & _HAS_DIMENSIONS else value

    def _skip_elements(self, number: int, depth: int) -> None:
        count = self.i32()
        width = _WIDTHS.get(number)
        if count <= 0:
            return
        if width is not None:
            self.skip(width * count)
            return
        if count > self.end - self.at:
            raise Malformed(f"an array of {count} elements in {self.end - self.at} bytes")
        for _ in range(count):
            self.scalar(number, depth)

    def scalar(self, number: int, depth: int) -> Raw:
        """A value of a built-in type (OPC 10000-6 section 5.1.2)."""
        fixed = _FIXED_STRUCTS.get(number)
        if fixed is not None:
            value: Raw = fixed.unpack_from(self.data, self.at)[0]
            self.at += fixed.size
            return value
        if number in (STRING, _XML):
            return self.text()
        if number == _NULL:
            return None
        if number == _DATETIME:
            return datetime_text(self.i64())
        if number == _GUID:
            return str(self.guid())
        if number == _BYTESTRING or 26 <= number <= 31:
            # Numbers 26 to 31 are reserved and read as ByteString.
            return (self.bytes() or b"").hex() if number == _BYTESTRING else self._reserved()
        if number in (_NODEID, _EXPANDED):
            return self.node_id()[0]
        if number == _STATUSCODE:
            return self.u32()
        if number == _QUALIFIED:
            namespace = self.u16()
            return f"{namespace}:{self.text()}"
        if number == _LOCALIZED:
            return self.localized_text()
        if number == _EXTENSION:
            self.extension_object()
            return UNSUPPORTED
        if number == _VARIANT:
            self.variant(depth - 1)
            return UNSUPPORTED
        if number == _DATAVALUE:
            self.data_value(depth - 1)
            return UNSUPPORTED
        if number == _DIAGNOSTIC:
            self.diagnostic_info(depth - 1)
            return UNSUPPORTED
        raise Malformed(f"a value of type {number}")

    def _reserved(self) -> Raw:
        self.bytes()
        return UNSUPPORTED
