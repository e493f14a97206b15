"""Events as rows and samples as columns: cleaned, dated, split into what the tables hold. Pure.

Samples in their millions are packed by `copying`, by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from statemodel.machine import SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.records import Recorded
from statemodel.types import (
    AuditAnchor,
    CommandTold,
    Correction,
    DeviceEvent,
    Gap,
    Quality,
    Rejection,
    SourceLost,
    SourceRestored,
    TagSample,
    TagValue,
    Transition,
)

#: Quality as the database has it.
QUALITY_CODE = {Quality.GOOD: 0, Quality.UNCERTAIN: 1, Quality.BAD: 2}
EXACT_MAX = 2**53


def clean(text: str) -> str:
    """Text a database takes: no NUL, no half surrogate pairs."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8")


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
        case int() if -EXACT_MAX <= value <= EXACT_MAX:
            return float(value), None
    try:
        return float(value), str(value)
    except (OverflowError, ValueError):
        return None, hex(value)


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


class EventRows(msgspec.Struct):
    """Columns for each table of events, in the order of their insert statements."""

    transitions: list[list[Any]]
    rejections: list[list[Any]]
    source_events: list[list[Any]]
    device_events: list[list[Any]]
    corrections: list[list[Any]]
    commands: list[list[Any]]
    audit_anchors: list[list[Any]]


def event_rows(events: Iterable[Recorded]) -> EventRows:
    """Events as columns; a table without rows has no columns."""
    transitions, rejections, source_events, device_events, corrections = [], [], [], [], []
    commands, audit_anchors = [], []
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
            case Correction():
                corrections.append(_correction(recorded, event, body))
            case CommandTold():
                commands.append(_command(recorded, event, body))
            case AuditAnchor():
                audit_anchors.append(_audit_anchor(recorded, event, body))
    tables = (transitions, rejections, source_events, device_events, corrections, commands, audit_anchors)
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
        to_jsonb(event.cause),
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
        to_jsonb(event.cause),
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


def _correction(recorded: Recorded, event: Correction, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        clean(event.equipment),
        clean(event.path),
        clean(event.model),
        event.at,
        event.until,
        to_jsonb(event.intervals),
        clean(event.reason),
        clean(event.author),
        None if event.withdraws is None else clean(event.withdraws),
        recorded.recorded_at,
        None if event.cause is None else to_jsonb(event.cause),
        body,
    )


def _command(recorded: Recorded, event: CommandTold, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        clean(event.command_id),
        clean(event.equipment),
        clean(event.path),
        clean(event.tag),
        clean(event.command),
        _in_words(event.value),
        event.status.value,
        clean(event.code),
        clean(event.reason),
        _in_words(event.read),
        clean(event.requested_by),
        clean(event.approved_by),
        clean(event.via),
        event.dry_run,
        event.at,
        recorded.recorded_at,
        body,
    )


def _audit_anchor(recorded: Recorded, event: AuditAnchor, body: str) -> tuple[Any, ...]:
    return (
        recorded.seq,
        event.n,
        clean(event.hash),
        clean(event.signature),
        clean(event.key),
        event.at,
        recorded.recorded_at,
        body,
    )


def _in_words(value: TagValue) -> str | None:
    """A value as people read it: a command is looked at, not summed up."""
    return None if value is None else clean(value if isinstance(value, str) else str(value))


def to_jsonb(value: msgspec.Struct | tuple[msgspec.Struct, ...]) -> str:
    """JSON that `jsonb` takes: it refuses the escape of NUL."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")


def sample_in_words(sample: TagSample, source_time: bool) -> str:
    """A sample in words, for `set_aside`: all it takes to write it again."""
    words = msgspec.structs.asdict(sample) | {"value": repr(sample.value), "source_time": source_time}
    return clean(msgspec.json.encode(words).decode())
