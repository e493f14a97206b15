"""Events of a server: which fields are asked for, and how what comes back becomes a `DeviceEvent`.

An event arrives as a bare row of values, in the order of the select clauses (OPC 10000-4 sections 7.22.3 and
7.25.3); what an event does not have is null there. Devices leave out, mistype and overdo all of it, so every
field is taken only if it is what it should be, and is otherwise as if it were missing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from asyncua.ua.object_ids import ObjectIdNames

from connectors.opcua.binary import DEPTH_MAX, Malformed, Reader
from connectors.opcua.nodes import full_node_text
from connectors.opcua.values import Raw
from statemodel.machine import SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.types import DeviceEvent

#: Most events taken from one response, and most fields of one event that are believed.
EVENTS_MAX, FIELDS_MAX = 10_000, 64

_BASE, _CONDITION, _ACKNOWLEDGEABLE, _ALARM = 2041, 2782, 2881, 2915

#: What is asked for: our name, the event type that has it, and the path from there (empty: the node itself).
#: The first `BASIC` exist in every server that has events; a server without conditions may know no others.
FIELDS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    ("event_id", _BASE, ("EventId",)),
    ("kind", _BASE, ("EventType",)),
    ("source_node", _BASE, ("SourceNode",)),
    ("source", _BASE, ("SourceName",)),
    ("happened", _BASE, ("Time",)),
    ("reached", _BASE, ("ReceiveTime",)),
    ("message", _BASE, ("Message",)),
    ("severity", _BASE, ("Severity",)),
    ("condition_node", _CONDITION, ()),
    ("condition", _CONDITION, ("ConditionName",)),
    ("branch", _CONDITION, ("BranchId",)),
    ("retain", _CONDITION, ("Retain",)),
    ("comment", _CONDITION, ("Comment",)),
    ("user", _CONDITION, ("ClientUserId",)),
    ("acknowledged", _ACKNOWLEDGEABLE, ("AckedState", "Id")),
    ("confirmed", _ACKNOWLEDGEABLE, ("ConfirmedState", "Id")),
    ("active", _ALARM, ("ActiveState", "Id")),
    ("suppressed", _ALARM, ("SuppressedOrShelved",)),
)
BASIC = 8
_PLACE = {name: place for place, (name, _, _) in enumerate(FIELDS)}

#: Events by which a server speaks of the subscription itself (OPC 10000-9 section 5.11, 10000-5 section 6.4).
REFRESH_START, REFRESH_END, REFRESH_REQUIRED, OVERFLOW = "i=2787", "i=2788", "i=2789", "i=3035"
SYSTEM = frozenset({REFRESH_START, REFRESH_END, REFRESH_REQUIRED, OVERFLOW})

_NULL_NODE = "i=0"
_INDEXED = re.compile(r"ns=([0-9]{1,5});(.*)", re.DOTALL)
_STANDARD = re.compile(r"i=([0-9]{1,6})")
_PLAUSIBLE = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@dataclass
class RawEvents:
    """The events of one response: client handle and fields as they were sent."""

    rows: list[tuple[int, Sequence[Raw]]] = field(default_factory=list)
    left_out: int = 0
    """Events beyond the bound, which were not read."""


def read_events(reader: Reader, found: RawEvents) -> None:
    """Read the body of an EventNotificationList. The reader may stop before its end.

    Raises:
        Malformed: it contradicts itself; also struct.error and IndexError where it ends too early.
    """
    count = reader.count()
    room = min(count, EVENTS_MAX - len(found.rows))
    found.left_out += count - room
    for _ in range(room):
        handle = reader.u32()
        fields = reader.count()
        if fields > FIELDS_MAX:
            raise Malformed(f"an event of {fields} fields, where {len(FIELDS)} were asked for")
        found.rows.append((handle, [reader.variant(DEPTH_MAX) for _ in range(fields)]))


def kind_of(fields: Sequence[Raw]) -> str:
    """The type of an event as a node id, empty when it has none."""
    return _text(fields, "kind")


def severity_of(fields: Sequence[Raw]) -> int | None:
    """How severe an event is, from 1 to 1000; None when it does not say."""
    value = _raw(fields, "severity")
    return value if type(value) is int and 0 <= value <= 0xFFFF else None


def alarm_of(fields: Sequence[Raw]) -> tuple[str, bool] | None:
    """Which alarm an event is about, and whether it is active; None for an event that is about none."""
    active = _raw(fields, "active")
    which = _text(fields, "condition_node") or f"{_text(fields, 'source_node')} {_text(fields, 'condition')}"
    return (which, active) if isinstance(active, bool) else None


def event_of(
    connection: str,
    fields: Sequence[Raw],
    received_at: datetime,
    namespaces: Sequence[str],
    *,
    source_time: bool,
    refreshed: bool,
) -> DeviceEvent:
    """An event in the gateway's words, dated by the device with `source_time` and where that is plausible."""
    source_at = _instant(fields, "happened") or _instant(fields, "reached")
    at = received_at
    if (
        source_time
        and source_at is not None
        and received_at - SOURCE_BEHIND_MAX <= source_at <= received_at + SOURCE_AHEAD_MAX
    ):
        at = source_at
    return DeviceEvent(
        connection=connection,
        at=at,
        kind=_type_name(kind_of(fields), namespaces),
        source=_text(fields, "source"),
        severity=severity_of(fields),
        message=_text(fields, "message"),
        event_id=_text(fields, "event_id"),
        source_at=source_at,
        received_at=received_at,
        source_node=_node(fields, "source_node", namespaces),
        condition=_text(fields, "condition"),
        condition_node=_node(fields, "condition_node", namespaces),
        branch=_node(fields, "branch", namespaces),
        active=_flag(fields, "active"),
        acknowledged=_flag(fields, "acknowledged"),
        confirmed=_flag(fields, "confirmed"),
        suppressed=_flag(fields, "suppressed"),
        retain=_flag(fields, "retain"),
        comment=_text(fields, "comment"),
        user=_text(fields, "user"),
        refreshed=refreshed,
    )


def _raw(fields: Sequence[Raw], name: str) -> Raw:
    place = _PLACE[name]
    return fields[place] if place < len(fields) else None


def _text(fields: Sequence[Raw], name: str) -> str:
    value = _raw(fields, name)
    return value if isinstance(value, str) else ""


def _flag(fields: Sequence[Raw], name: str) -> bool | None:
    value = _raw(fields, name)
    return value if isinstance(value, bool) else None


def _instant(fields: Sequence[Raw], name: str) -> datetime | None:
    """A time that can be meant: of a clock that was ever set."""
    text = _text(fields, name)
    try:
        at = datetime.fromisoformat(text) if text.endswith("Z") else None
    except ValueError:
        return None
    if at is None or at.tzinfo is None:
        return None
    return at if _PLAUSIBLE[0] <= at < _PLAUSIBLE[1] else None


def _node(fields: Sequence[Raw], name: str, namespaces: Sequence[str]) -> str:
    """A node id that outlives the session: with the URI of its namespace, not its index."""
    return _lasting(_text(fields, name), namespaces)


def _lasting(text: str, namespaces: Sequence[str]) -> str:
    if text == _NULL_NODE:
        return ""
    match = _INDEXED.fullmatch(text)
    if match is None or int(match[1]) >= len(namespaces):
        return text
    return full_node_text(match[2], 0, namespaces[int(match[1])])


def _type_name(text: str, namespaces: Sequence[str]) -> str:
    """The standard's name of a type of event; a node id for those of other namespaces."""
    standard = _STANDARD.fullmatch(text)
    if standard is not None and (name := ObjectIdNames.get(int(standard[1]))):
        return str(name)
    return _lasting(text, namespaces)
