"""Publish and Republish responses, from bytes to samples, without building the library's objects.

Decoding notifications is what an OPC UA gateway spends its time on. A notification message is a list of data
values that mostly share one layout (same type, same stamps), so runs of equal layout are read with one
precompiled struct; everything else is read field by field. What is not known here (events inside variants,
diagnostics) raises `NotKnown`, and the caller lets the library read the message instead. The layouts are
those of OPC 10000-6 section 5.2; note that the picoseconds of a stamp follow that stamp at once.

Trusts no length: every read is checked against the end of the message. Pure.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connectors.opcua.nodes import full_node_text, identifier_text
from connectors.opcua.quality import overflowed
from connectors.opcua.values import UNSUPPORTED, Raw, datetime_text, judge, source_time
from statemodel.types import Quality, TagSample

_SERVICE_FAULT, _PUBLISH_RESPONSE, _REPUBLISH_RESPONSE = 397, 829, 835
_DATA_CHANGE, _STATUS_CHANGE = 811, 820

_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICO, _SERVER_PICO = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_IS_ARRAY, _HAS_DIMENSIONS, _TYPE = 0x80, 0x40, 0x3F
#: Variants may hold variants; nobody means more levels than this, and each costs a stack frame.
_DEPTH_MAX = 16

_FLOAT_MAX = 1.7976931348623157e308
_GOOD = Quality.GOOD

_U8, _U16, _U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_I32, _I64 = struct.Struct("<i"), struct.Struct("<q")
#: Type number to struct format, for values of fixed width (OPC 10000-6 section 5.1.2).
_FIXED = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f", 11: "d"}
_FIXED_STRUCTS = {number: struct.Struct("<" + code) for number, code in _FIXED.items()}
_WIDTHS = {number: fixed.size for number, fixed in _FIXED_STRUCTS.items()} | {13: 8, 14: 16, 19: 4}
_NULL, _STRING, _DATETIME, _GUID, _BYTESTRING, _XML = 0, 12, 13, 14, 15, 16
_NODEID, _EXPANDED, _STATUSCODE, _QUALIFIED, _LOCALIZED, _EXTENSION, _DATAVALUE, _VARIANT = (
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    24,
)


class NotKnown(Exception):
    """The message holds something this decoder does not read."""


class Malformed(Exception):
    """The message contradicts itself: a length beyond its end, a type that does not exist."""


@dataclass
class Answer:
    """One response, decoded. Times and numbers are the server's; `samples` are in the order it sent them."""

    status: int = 0
    subscription: int = 0
    number: int = 0
    available: tuple[int, ...] | None = None
    has_data: bool = False
    status_change: int | None = None
    samples: list[TagSample] = field(default_factory=list)
    overflowed: list[str] = field(default_factory=list)
    """Tags of which the server dropped values."""
    strangers: int = 0
    """Notifications for handles nobody asked for."""


def decode_publish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """Read a PublishResponse (or a ServiceFault) that starts at `at`; `tags` are tag ids by client handle.

    Raises:
        NotKnown: let the library try.
        Malformed: nobody can read it.
    """
    return _decode(data, at, tags, received_at, _PUBLISH_RESPONSE)


def decode_republish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """Read a RepublishResponse; the answer has no subscription of its own. Raises as `decode_publish`."""
    return _decode(data, at, tags, received_at, _REPUBLISH_RESPONSE)


def _decode(data: bytes, at: int, tags: Sequence[str], received_at: datetime, wanted: int) -> Answer:
    reader = _Reader(data, at)
    answer = Answer()
    try:
        kind = reader.type_number()
        if kind not in (wanted, _SERVICE_FAULT):
            raise Malformed(f"an answer of type {kind} came where {wanted} was due")
        answer.status = reader.response_header()
        if kind == _SERVICE_FAULT:
            return answer
        if wanted == _PUBLISH_RESPONSE:
            answer.subscription = reader.u32()
            answer.available = reader.u32_array()
            reader.skip(1)
        answer.number = reader.u32()
        reader.skip(8)
        for _ in range(reader.count()):
            answer.has_data = True
            _notification(reader, answer, tags, received_at)
    except (struct.error, IndexError) as error:
        raise Malformed("a publish response ends in the middle of a value") from error
    return answer


def _notification(reader: _Reader, answer: Answer, tags: Sequence[str], received_at: datetime) -> None:
    kind = reader.type_number()
    encoding = reader.u8()
    if encoding != 1:
        raise NotKnown(f"notification body in encoding {encoding}")
    length = reader.i32()
    if length < 0:
        raise NotKnown("notification body without a length")
    start = reader.at
    if kind == _DATA_CHANGE:
        _data_changes(reader, answer, tags, received_at)
        for _ in range(reader.count()):
            if reader.u8() != 0:
                raise NotKnown("diagnostics")
    elif kind == _STATUS_CHANGE:
        answer.status_change = reader.u32()
    reader.at = start
    reader.skip(length)


class _Layout:
    """How to read a run of data values that share mask and type."""

    def __init__(self, mask: int, number: int) -> None:
        form = "<IH" + _FIXED[number]
        form += "I" if mask & _STATUS else ""
        form += "q" if mask & _SOURCE else ""
        form += "H" if mask & _SOURCE_PICO else ""
        form += "q" if mask & _SERVER else ""
        form += "H" if mask & _SERVER_PICO else ""
        self.struct = struct.Struct(form)
        self.size = self.struct.size
        self.status_at = 3 if mask & _STATUS else 0
        self.source_at = (3 + bool(self.status_at)) if mask & _SOURCE else 0
        self.is_float = number in (10, 11)


#: By mask and type number as they stand in the message: `mask | type << 8`.
_LAYOUTS = {
    mask | number << 8: _Layout(mask, number) for number in _FIXED for mask in range(0x40) if mask & _VALUE
}


def _data_changes(reader: _Reader, answer: Answer, tags: Sequence[str], received_at: datetime) -> None:
    left = reader.count()
    data, end = reader.data, reader.end
    view = memoryview(data)
    while left > 0:
        at = reader.at
        layout = _LAYOUTS.get(data[at + 4] | data[at + 5] << 8) if at + 6 <= end else None
        if layout is None:
            _one_change(reader, answer, tags, received_at)
            left -= 1
            continue
        room = min(left, (end - at) // layout.size)
        if room == 0:
            raise Malformed("a publish response ends in the middle of a value")
        done = _run(view[at : at + room * layout.size], layout, answer, tags, received_at)
        reader.at = at + done * layout.size
        left -= done


def _run(
    view: memoryview, layout: _Layout, answer: Answer, tags: Sequence[str], received_at: datetime
) -> int:
    """Read data values of one layout until another begins; how many there were."""
    append = answer.samples.append
    status_at, stamp_at, is_float = layout.status_at, layout.source_at, layout.is_float
    limit = len(tags)
    rows = layout.struct.iter_unpack(view)
    key = view[4] | view[5] << 8
    last_ticks, source_at = 0, None
    done = 0
    for row in rows:
        if row[1] != key:
            break
        done += 1
        if not 0 < row[0] < limit:
            answer.strangers += 1
            continue
        tag = tags[row[0]]
        if stamp_at and row[stamp_at] != last_ticks:
            last_ticks = row[stamp_at]
            source_at = source_time(last_ticks)
        value = row[2]
        if (status_at and row[status_at]) or (is_float and not -_FLOAT_MAX <= value <= _FLOAT_MAX):
            code = row[status_at] if status_at else 0
            value, quality, substatus = judge(value, code)
            append(TagSample(tag, value, quality, source_at, received_at, substatus))
            if overflowed(code):
                answer.overflowed.append(tag)
        else:
            append(TagSample(tag, value, _GOOD, source_at, received_at))
    return done


def _one_change(reader: _Reader, answer: Answer, tags: Sequence[str], received_at: datetime) -> None:
    handle = reader.u32()
    value, code, ticks = reader.data_value(_DEPTH_MAX)
    if not 0 < handle < len(tags):
        answer.strangers += 1
        return
    said, quality, substatus = judge(value, code)
    source_at = None if ticks is None else source_time(ticks)
    answer.samples.append(TagSample(tags[handle], said, quality, source_at, received_at, substatus))
    if overflowed(code):
        answer.overflowed.append(tags[handle])


class _Reader:
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
        if self.u8() != 0:
            raise NotKnown("service diagnostics")
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
            if length < 0:
                raise NotKnown("a structure without a length")
            self.skip(length)

    def data_value(self, depth: int) -> tuple[Raw, int, int | None]:
        """A DataValue: raw value, status code, source time in ticks."""
        mask = self.u8()
        value = self.variant(depth) if mask & _VALUE else None
        code = self.u32() if mask & _STATUS else 0
        ticks = self.i64() if mask & _SOURCE else None
        rest = 2 * bool(mask & _SOURCE_PICO) + 8 * bool(mask & _SERVER) + 2 * bool(mask & _SERVER_PICO)
        self.skip(rest)
        return value, code, ticks

    def variant(self, depth: int) -> Raw:
        if depth == 0:
            raise Malformed("values nested too deeply")
        encoding = self.u8()
        number = encoding & _TYPE
        if encoding & _IS_ARRAY:
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
        if number in (_STRING, _XML):
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
        raise NotKnown(f"a value of type {number}")

    def _reserved(self) -> Raw:
        self.bytes()
        return UNSUPPORTED
