"""Events and samples as rows: cleaned, and in the shapes PostgreSQL takes fastest. Pure.

Samples become the binary COPY format directly (PostgreSQL manual, COPY, "Binary Format"): most of a row is
the same for every sample of a tag or of a batch, so it is packed once and joined. Events become columns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from statemodel.machine import SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.records import Recorded
from statemodel.types import (
    DeviceEvent,
    Gap,
    Quality,
    Rejection,
    SourceLost,
    SourceRestored,
    TagSample,
    Transition,
)

SAMPLE_COLUMNS = ("tag_id", "quality", "at", "received_at", "source_at", "value", "text", "substatus")

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
#: Quality as the database has it.
QUALITY_CODE = {Quality.GOOD: 0, Quality.UNCERTAIN: 1, Quality.BAD: 2}
_EXACT_MAX = 2**53

_pack_prefix = struct.Struct(">hiiih").pack
_pack_time = struct.Struct(">iq").pack
_pack_number = struct.Struct(">idii").pack  # a value, then neither text nor substatus
_pack_value = struct.Struct(">id").pack
_pack_length = struct.Struct(">i").pack


class UnknownTag(Exception):
    """A sample's tag has no number yet."""


def clean(text: str) -> str:
    """Text a database takes: no NUL, no half surrogate pairs."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8")


class SampleEncoder:
    """Packs samples for COPY. Remembers what is the same for all samples of a tag.

    `ids` maps tags to their numbers; `kinds` collects tags whose values are of another kind than was known.
    """

    def __init__(self, ids: Mapping[str, int], kinds: Mapping[str, str]) -> None:
        self._ids = dict(ids)
        self._kinds = dict(kinds)
        self.changed_kinds: dict[str, str] = {}
        self._plain: dict[type, dict[str, bytes]] = {float: {}, int: {}, bool: {}}

    def learn(self, ids: Mapping[str, int], kinds: Mapping[str, str]) -> None:
        """More tags have numbers."""
        self._ids.update(ids)
        self._kinds.update(kinds)

    def tag_id(self, tag: str) -> int | None:
        """Number of a tag, if it has one."""
        return self._ids.get(tag)

    def encode(self, groups: Iterable[tuple[bool, Sequence[TagSample]]]) -> bytes:
        """Rows of samples, to go between `HEADER` and `TRAILER`.

        Each group says whether its connection asks for source time.

        Raises:
            UnknownTag: one has no number yet; nothing is lost by asking again once it has.
        """
        parts: list[bytes] = []
        add = parts.append
        plain, good = self._plain, Quality.GOOD
        last_at: datetime | None = None
        times = b""
        for source_time, samples in groups:
            for sample in samples:
                value, received_at = sample.value, sample.received_at
                if (
                    sample.source_at is None
                    and sample.quality is good
                    and (known := plain.get(type(value))) is not None
                    and (prefix := known.get(sample.tag)) is not None
                    and not sample.substatus
                    and -_EXACT_MAX <= value <= _EXACT_MAX  # type: ignore[operator]  # it is a number
                ):
                    if received_at is not last_at:
                        last_at = received_at
                        packed = _pack_time(8, (received_at - _EPOCH) // _MICROSECOND)
                        times = packed + packed + _NULL
                    add(prefix)
                    add(times)
                    add(_pack_number(8, value, -1, -1))
                else:
                    add(self._row(sample, source_time))
        return b"".join(parts)

    def _row(self, sample: TagSample, source_time: bool) -> bytes:
        """Any sample, slowly."""
        tag, value = sample.tag, sample.value
        tag_id = self._ids.get(tag)
        if tag_id is None:
            raise UnknownTag(tag)
        prefix = _pack_prefix(len(SAMPLE_COLUMNS), 4, tag_id, 2, QUALITY_CODE[sample.quality])
        if value is not None:
            self._note_kind(tag, type(value))
            if sample.quality is Quality.GOOD and type(value) in self._plain:
                self._plain[type(value)][tag] = prefix
        at, received_at, source_at = dated(sample, source_time), sample.received_at, sample.source_at
        number, text = split_value(value)
        return b"".join(
            (
                prefix,
                _pack_time(8, (at - _EPOCH) // _MICROSECOND),
                _pack_time(8, (received_at - _EPOCH) // _MICROSECOND),
                _NULL
                if source_at is None or source_at == at
                else _pack_time(8, (source_at - _EPOCH) // _MICROSECOND),
                _NULL if number is None else _pack_value(8, number),
                _packed_text(text),
                _packed_text(sample.substatus or None),
            )
        )

    def _note_kind(self, tag: str, kind: type) -> None:
        name = _KINDS.get(kind, "")
        if self._kinds.get(tag) != name:
            self._kinds[tag] = self.changed_kinds[tag] = name


_KINDS = {bool: "bool", int: "int", float: "float", str: "text"}


def dated(sample: TagSample, source_time: bool) -> datetime:
    """When a sample's news happened: its source time where asked for and plausible, else its receipt."""
    source_at, received_at = sample.source_at, sample.received_at
    if (
        source_time
        and source_at is not None
        and received_at - SOURCE_BEHIND_MAX <= source_at <= received_at + SOURCE_AHEAD_MAX
    ):
        return source_at
    return received_at


def split_value(value: bool | float | str | None) -> tuple[float | None, str | None]:
    """A value as number and text. What no aggregate should meet (NaN, infinities) is text only."""
    match value:
        case None:
            return None, None
        case str():
            return None, clean(value)
        case float():
            return (value, None) if math.isfinite(value) else (None, _NOT_FINITE.get(value, "NaN"))
        case int() if -_EXACT_MAX <= value <= _EXACT_MAX:
            return float(value), None
    try:
        return float(value), str(value)
    except (OverflowError, ValueError):
        return None, hex(value)


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _packed_text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    data = clean(text).encode()
    return _pack_length(len(data)) + data


class EventRows(msgspec.Struct):
    """Columns for each table of events, in the order of their insert statements."""

    transitions: list[list[Any]]
    rejections: list[list[Any]]
    source_events: list[list[Any]]
    device_events: list[list[Any]]


def event_rows(events: Iterable[Recorded]) -> EventRows:
    """Events as columns; a table without rows has no columns."""
    transitions, rejections, source_events, device_events = [], [], [], []
    for recorded in events:
        event, body = recorded.event, recorded.json.decode()
        match event:
            case Transition():
                transitions.append(_transition(recorded, event, body))
            case Rejection():
                rejections.append(_rejection(recorded, event, body))
            case SourceLost() | SourceRestored() | Gap():
                source_events.append(_source_event(recorded, event, body))
            case DeviceEvent():
                device_events.append(_device_event(recorded, event, body))
    tables = (transitions, rejections, source_events, device_events)
    return EventRows(*([list(c) for c in zip(*rows, strict=True)] for rows in tables))


def _transition(recorded: Recorded, event: Transition, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        clean(event.equipment),
        clean(event.path),
        clean(event.model),
        event.sequence,
        clean(event.from_state),
        clean(event.to_state),
        event.code,
        None if event.category is None else clean(event.category),
        event.at,
        recorded.recorded_at,
        event.duration_s,
        event.conformance.value,
        _jsonb(event.cause),
        body,
    )


def _rejection(recorded: Recorded, event: Rejection, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        clean(event.equipment),
        clean(event.path),
        clean(event.model),
        clean(event.state),
        clean(event.attempted),
        event.at,
        recorded.recorded_at,
        clean(event.reason),
        _jsonb(event.cause),
        body,
    )


def _source_event(recorded: Recorded, event: SourceLost | SourceRestored | Gap, body: str) -> tuple[Any, ...]:
    tag, until = (event.tag, event.until) if isinstance(event, Gap) else ("", None)
    return (
        recorded.seq,
        recorded.type,
        clean(event.connection),
        clean(tag),
        event.at,
        until,
        recorded.recorded_at,
        clean(event.reason),
        body,
    )


def _device_event(recorded: Recorded, event: DeviceEvent, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        clean(event.connection),
        clean(event.kind),
        clean(event.source),
        event.severity,
        clean(event.message),
        clean(event.event_id),
        clean(event.condition),
        clean(event.condition_node),
        event.active,
        event.acknowledged,
        event.confirmed,
        event.refreshed,
        event.at,
        event.source_at,
        event.received_at,
        recorded.recorded_at,
        body,
    )


def _jsonb(value: msgspec.Struct) -> str:
    """JSON that `jsonb` takes: it refuses the escape of NUL."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")


def sample_in_words(sample: TagSample) -> str:
    """A sample in words, for `set_aside`."""
    return clean(msgspec.json.encode(msgspec.structs.asdict(sample) | {"value": repr(sample.value)}).decode())
