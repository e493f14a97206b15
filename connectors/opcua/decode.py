"""Publish, Republish and Read responses, from bytes to samples, without building the library's objects.

Decoding notifications is what an OPC UA gateway spends its time on. A notification message is a list of data
values that mostly share one layout (same type, same stamps), so runs of equal layout are read with one
precompiled struct; everything else is read field by field. The layouts are those of OPC 10000-6 section 5.2;
note that the picoseconds of a stamp follow that stamp at once.

Everything that carries values is read here and not by the library, which believes the length of an array of
nothing and then counts to it. Trusts no length: every read is checked against the end of the message. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.opcua.binary import (
    DEPTH_MAX,
    FIXED,
    IS_ARRAY,
    SERVER,
    SERVER_PICO,
    SOURCE,
    SOURCE_PICO,
    STATUS,
    STRING,
    VALUE,
    Malformed,
    Reader,
)
from connectors.opcua.event_fields import RawEvents, read_events
from connectors.opcua.picks import NO_PICKS, Picks, Tags, complaint
from connectors.opcua.quality import overflowed
from connectors.opcua.values import MISSING, UNCARRIED, Raw, Reading, judge, source_time
from statemodel.types import Quality, TagSample

_SERVICE_FAULT, _READ_RESPONSE, _PUBLISH_RESPONSE, _REPUBLISH_RESPONSE = 397, 634, 829, 835
_DATA_CHANGE, _STATUS_CHANGE, _EVENTS = 811, 820, 916

_FLOAT_MAX = 1.7976931348623157e308
_GOOD = Quality.GOOD
#: Handle, mask with type, length of the text.
_TEXT_HEAD = struct.Struct("<IHi")


@dataclass(frozen=True, slots=True)
class _For:
    """For whom a message is read, and when it came."""

    tags: Sequence[str]
    received_at: datetime
    picks: Picks
    picked: set[int] = field(default_factory=set)
    """Places of the samples of which a part has been taken, when there are picks."""


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
    events: RawEvents = field(default_factory=RawEvents)
    """Events of the server itself, not yet judged."""
    complaints: dict[str, str] = field(default_factory=dict)
    """Tags whose values are there but cannot be carried, and why in words."""


def decode_publish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """Read a PublishResponse (or a ServiceFault) that starts at `at`; `tags` are tag ids by client handle.

    Where some tags are about a part of a value they are `picks.Tags`.

    Raises:
        Malformed: it contradicts itself or the standard.
    """
    return _decode(data, at, tags, received_at, _PUBLISH_RESPONSE)


def decode_republish(data: bytes, at: int, tags: Sequence[str], received_at: datetime) -> Answer:
    """Read a RepublishResponse; the answer has no subscription of its own. Raises as `decode_publish`."""
    return _decode(data, at, tags, received_at, _REPUBLISH_RESPONSE)


def decode_read(data: bytes, at: int) -> list[Reading]:
    """Read the values in a ReadResponse. Raises `Malformed`; a service fault was told before."""
    reader = Reader(data, at)
    try:
        header(reader, _READ_RESPONSE)
        return [reader.data_value(DEPTH_MAX) for _ in range(reader.count())]
    except (struct.error, IndexError) as error:
        raise Malformed("a read response ends in the middle of a value") from error


def decode_texts(data: bytes, at: int) -> tuple[str, ...]:
    """Read a ReadResponse whose only value is an array of String. Raises as `decode_read`."""
    reader = Reader(data, at)
    try:
        header(reader, _READ_RESPONSE)
        if reader.count() != 1 or not reader.u8() & VALUE or reader.u8() != IS_ARRAY | STRING:
            raise Malformed("no array of texts where one was due")
        return tuple(reader.text() for _ in range(reader.count()))
    except (struct.error, IndexError) as error:
        raise Malformed("a read response ends in the middle of a value") from error


def header(reader: Reader, wanted: int) -> tuple[int, bool]:
    """Read the head of a response; its status, and whether it is a service fault and thus ends there."""
    kind = reader.type_number()
    if kind not in (wanted, _SERVICE_FAULT):
        raise Malformed(f"an answer of type {kind} came where {wanted} was due")
    return reader.response_header(), kind == _SERVICE_FAULT


def _decode(data: bytes, at: int, tags: Sequence[str], received_at: datetime, wanted: int) -> Answer:
    whom = _For(tags, received_at, tags.picks if isinstance(tags, Tags) else NO_PICKS)
    reader = Reader(data, at)
    answer = Answer()
    try:
        answer.status, ends = header(reader, wanted)
        if ends:
            return answer
        if wanted == _PUBLISH_RESPONSE:
            answer.subscription = reader.u32()
            answer.available = reader.u32_array()
            reader.skip(1)
        answer.number = reader.u32()
        reader.skip(8)
        for _ in range(reader.count()):
            answer.has_data = True
            _notification(reader, answer, whom)
    except (struct.error, IndexError) as error:
        raise Malformed("a publish response ends in the middle of a value") from error
    return answer


def _notification(reader: Reader, answer: Answer, whom: _For) -> None:
    kind = reader.type_number()
    encoding = reader.u8()
    if encoding != 1:
        raise Malformed(f"a notification in encoding {encoding}, which is not the binary one")
    length = reader.i32()
    start = reader.at
    if kind == _DATA_CHANGE:
        _data_changes(reader, answer, whom)
        for _ in range(reader.count()):
            reader.diagnostic_info(DEPTH_MAX)
    elif kind == _STATUS_CHANGE:
        answer.status_change = reader.u32()
    elif kind == _EVENTS:
        read_events(reader, answer.events)
    if reader.at - start > length:
        raise Malformed(f"a notification of {length} bytes that goes on for {reader.at - start}")
    reader.at = start
    reader.skip(length)


class _Layout:
    """How to read data values that share mask and type: as a row of handle, key, value and stamps."""

    def __init__(self, mask: int, number: int) -> None:
        stamps = "I" if mask & STATUS else ""
        stamps += "q" if mask & SOURCE else ""
        stamps += "H" if mask & SOURCE_PICO else ""
        stamps += "q" if mask & SERVER else ""
        stamps += "H" if mask & SERVER_PICO else ""
        self.stamps = struct.Struct("<" + stamps)
        self.stamps_size = self.stamps.size
        self.row = struct.Struct("<IH" + FIXED.get(number, "i") + stamps)
        self.size = self.row.size
        self.status_at = 3 if mask & STATUS else 0
        self.source_at = (3 + bool(self.status_at)) if mask & SOURCE else 0
        self.is_float = number in (10, 11)
        self.is_text = number == STRING


#: By mask and type number as they stand in the message: `mask | type << 8`.
_LAYOUTS = {
    mask | number << 8: _Layout(mask, number)
    for number in (*FIXED, STRING)
    for mask in range(0x40)
    if mask & VALUE
}


def _data_changes(reader: Reader, answer: Answer, whom: _For) -> None:
    left = reader.count()
    data, end = reader.data, reader.end
    view = memoryview(data)
    tags, received_at, limit = whom.tags, whom.received_at, len(whom.tags)
    append = answer.samples.append
    at = reader.at
    last_ticks, source_at = 0, None
    while left > 0:
        layout = _LAYOUTS.get(data[at + 4] | data[at + 5] << 8) if at + 6 <= end else None
        if layout is None:
            reader.at = at
            _one_change(reader, answer, whom)
            at, left = reader.at, left - 1
            continue
        if layout.is_text:
            row, after = _text_row(data, at, end, layout)
        else:
            after = at + layout.size
            if left > 1 and data[at + 4 : at + 6] == data[after + 4 : after + 6]:
                room = min(left, (end - at) // layout.size)
                rows = layout.row.iter_unpack(view[at : at + room * layout.size])
                done = _take(rows, layout, answer, whom)
                at, left = at + done * layout.size, left - done
                continue
            row = layout.row.unpack_from(data, at)
        at, left = after, left - 1
        # One that stands alone, as `_take` does it: calling that for each would take twice the time.
        handle, value = row[0], row[2]
        if not 0 < handle < limit:
            answer.strangers += 1
            continue
        if layout.source_at:
            if row[layout.source_at] != last_ticks:
                last_ticks = row[layout.source_at]
                source_at = source_time(last_ticks)
            stamp = source_at
        else:
            stamp = None
        code = row[3] if layout.status_at else 0
        if code or (layout.is_float and not -_FLOAT_MAX <= value <= _FLOAT_MAX):
            append(_judged(answer, tags[handle], value, code, stamp, received_at))
        else:
            append(TagSample(tags[handle], value, _GOOD, stamp, received_at))
    reader.at = at
    if whom.picks:
        _misfits(answer, whom)


def _text_row(data: bytes, at: int, end: int, layout: _Layout) -> tuple[tuple[Any, ...], int]:
    """A data value with a String as a row, and where the next one begins."""
    handle, key, length = _TEXT_HEAD.unpack_from(data, at)
    start = at + 10
    stop = start + length if length > 0 else start
    if stop > end:
        raise Malformed(f"a text of {length} bytes where {end - start} are left")
    text = data[start:stop].decode("utf-8", "replace")
    return (handle, key, text, *layout.stamps.unpack_from(data, stop)), stop + layout.stamps_size


def _take(rows: Iterable[tuple[Any, ...]], layout: _Layout, answer: Answer, whom: _For) -> int:
    """Turn rows of one layout into samples until a row of another comes; how many there were."""
    tags, received_at, limit = whom.tags, whom.received_at, len(whom.tags)
    append = answer.samples.append
    status_at, stamp_at, is_float = layout.status_at, layout.source_at, layout.is_float
    key = None
    last_ticks, source_at = 0, None
    done = 0
    for row in rows:
        if row[1] != key:
            if key is not None:
                break
            key = row[1]
        done += 1
        if not 0 < row[0] < limit:
            answer.strangers += 1
            continue
        if stamp_at and row[stamp_at] != last_ticks:
            last_ticks = row[stamp_at]
            source_at = source_time(last_ticks)
        value = row[2]
        if (status_at and row[status_at]) or (is_float and not -_FLOAT_MAX <= value <= _FLOAT_MAX):
            code = row[status_at] if status_at else 0
            append(_judged(answer, tags[row[0]], value, code, source_at, received_at))
        else:
            append(TagSample(tags[row[0]], value, _GOOD, source_at, received_at))
    return done


def _judged(
    answer: Answer, tag: str, value: Raw, code: int, source_at: datetime | None, received_at: datetime
) -> TagSample:
    if overflowed(code):
        answer.overflowed.append(tag)
    carried, quality, substatus = judge(value, code)
    return TagSample(tag, carried, quality, source_at, received_at, substatus)


def _misfits(answer: Answer, whom: _For) -> None:
    """Scalars for tags that are about a part of a value: nothing to take a part of."""
    for place, sample in enumerate(answer.samples):
        if sample.tag in whom.picks.tags and place not in whom.picked and sample.value is not None:
            value, quality, substatus = judge(MISSING, 0)
            answer.complaints[sample.tag] = complaint(None, MISSING, whom.picks.structures)
            answer.samples[place] = TagSample(
                sample.tag, value, quality, sample.source_at, sample.received_at, substatus
            )


def _one_change(reader: Reader, answer: Answer, whom: _For) -> None:
    handle = reader.u32()
    reading = reader.data_value(DEPTH_MAX)
    if not 0 < handle < len(whom.tags):
        answer.strangers += 1
        return
    tag, sent = whom.tags[handle], reading.value
    if whom.picks:
        whom.picked.add(len(answer.samples))
        reading = whom.picks.of(handle, reading)
    source_at = None if reading.ticks is None else source_time(reading.ticks)
    sample = _judged(answer, tag, reading.value, reading.code, source_at, whom.received_at)
    answer.samples.append(sample)
    if sample.substatus in UNCARRIED and sample.value is None:
        answer.complaints[tag] = complaint(sent, reading.value, whom.picks.structures)
