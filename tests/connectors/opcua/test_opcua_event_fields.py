"""Events in bytes: against bytes written from the standard, against the library, and against nonsense."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.opcua.binary import Malformed
from connectors.opcua.decode import decode_publish
from connectors.opcua.event_fields import (
    EVENTS_MAX,
    FIELDS,
    FIELDS_MAX,
    RawEvents,
    event_of,
    kind_of,
    severity_of,
)
from connectors.opcua.event_filter import event_filter
from connectors.opcua.nodes import numbered
from connectors.opcua.values import UNSUPPORTED, Raw
from statemodel.records import read_told, tell
from statemodel.types import DeviceEvent
from tests.connectors.opcua import by_library

NOW = datetime(2026, 11, 21, 22, 7, 4, tzinfo=UTC)
HAPPENED = datetime(2026, 11, 21, 22, 7, 3, 250_000, tzinfo=UTC)
TICKS = 116_444_736_000_000_000 + round(HAPPENED.timestamp() * 1000) * 10_000
NAMESPACES = ("http://opcfoundation.org/UA/", "urn:plant:server", "urn:plant")


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<i", len(data)) + data


def numeric(number: int, namespace: int = 0) -> bytes:
    return b"\x01" + struct.pack("<BH", namespace, number)


def event(handle: int, *fields: bytes) -> bytes:
    """An EventFieldList (OPC 10000-4 section 7.25.3)."""
    return struct.pack("<Ii", handle, len(fields)) + b"".join(fields)


def message(*events: bytes, count: int | None = None, cut: int = 0) -> bytes:
    """A PublishResponse with an EventNotificationList, written field by field."""
    body = struct.pack("<i", len(events) if count is None else count) + b"".join(events)
    body = body[: len(body) - cut]
    header = b"\x01\x00" + struct.pack("<H", 829) + struct.pack("<qII", TICKS, 4, 0) + b"\x00"
    header += struct.pack("<i", -1) + b"\x00\x00\x00"
    notification = b"\x01\x00" + struct.pack("<H", 916) + b"\x01" + struct.pack("<i", len(body)) + body
    told = struct.pack("<Iq", 7, TICKS) + struct.pack("<i", 1) + notification
    return header + struct.pack("<Iib", 3, -1, 0) + told + struct.pack("<ii", -1, -1)


def decoded(data: bytes) -> RawEvents:
    answer = decode_publish(data, 0, ("", "plc/a"), NOW)
    assert answer.has_data
    assert (answer.number, answer.subscription, answer.samples) == (7, 3, [])
    return answer.events


ALARM = (
    b"\x0f" + struct.pack("<i", 2) + b"\x0a\xff",
    b"\x11" + numeric(10637),
    b"\x11" + b"\x03\x02\x00" + text("Filler"),
    b"\x0c" + text("Filler"),
    b"\x0d" + struct.pack("<q", TICKS),
    b"\x0d" + struct.pack("<q", TICKS + 10),
    b"\x15" + b"\x03" + text("de") + text("Füller: Not-Halt"),
    b"\x05" + struct.pack("<H", 700),
    b"\x11" + b"\x03\x02\x00" + text("Filler.EStop"),
    b"\x0c" + text("EStop"),
    b"\x11" + b"\x00\x00",
    b"\x01\x01",
    b"\x15" + b"\x02" + text("seen"),
    b"\x0c" + text("anna"),
    b"\x01\x00",
    b"\x00",
    b"\x01\x01",
    b"\x01\x00",
)


def told(fields: Sequence[Raw], *, source_time: bool = False, refreshed: bool = False) -> DeviceEvent:
    return event_of("plc", fields, NOW, NAMESPACES, source_time=source_time, refreshed=refreshed)


def test_an_alarm_comes_out_as_it_was_sent() -> None:
    (handle, fields), *rest = decoded(message(event(1, *ALARM), event(2, *ALARM))).rows
    assert handle == 1
    assert [one for one, _ in rest] == [2]
    assert told(fields, source_time=True) == DeviceEvent(
        connection="plc",
        at=HAPPENED,
        kind="OffNormalAlarmType",
        source="Filler",
        severity=700,
        message="Füller: Not-Halt",
        event_id="0aff",
        source_at=HAPPENED,
        received_at=NOW,
        source_node="nsu=urn:plant;s=Filler",
        condition="EStop",
        condition_node="nsu=urn:plant;s=Filler.EStop",
        branch="",
        active=True,
        acknowledged=False,
        confirmed=None,
        suppressed=False,
        retain=True,
        comment="seen",
        user="anna",
    )
    assert told(fields).at == NOW, "the connection did not ask for the device's time"
    assert told(fields, refreshed=True).refreshed


def test_a_plain_event_has_nothing_of_a_condition() -> None:
    ((_, fields),) = decoded(message(event(1, *ALARM[:8], *[b"\x00"] * 10))).rows
    plain = told(fields)
    assert (plain.condition, plain.condition_node, plain.branch, plain.active) == ("", "", "", None)


@pytest.mark.parametrize("count", range(len(FIELDS) + 3))
def test_any_number_of_fields_is_read(count: int) -> None:
    ((_, fields),) = decoded(message(event(1, *(*ALARM, b"\x00", b"\x00", b"\x00")[:count]))).rows
    said = told(fields)
    assert said.event_id == ("0aff" if count else "")
    assert said.severity == (700 if count > 7 else None)
    assert said.active is (True if count > 16 else None)


def test_of_time_only_what_can_be_meant_is_taken() -> None:
    def at(happened: Raw, reached: Raw = None) -> datetime | None:
        return told([None, None, None, None, happened, reached], source_time=True).source_at

    assert at("2026-11-21T22:07:03.250000Z") == HAPPENED
    assert at(None, "2026-11-21T22:07:03.250000Z") == HAPPENED
    for nonsense in ("1601-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-21", "", "Z", 5, True, None):
        assert at(nonsense) is None
    old = told([None, None, None, None, "2026-11-20T22:07:03Z"], source_time=True)
    assert (old.at, old.source_at) == (NOW, HAPPENED.replace(day=20, microsecond=0))
    ahead = told([None, None, None, None, "2026-11-21T22:08:03Z"], source_time=True)
    assert ahead.at == NOW


def test_types_and_nodes_outlive_the_session() -> None:
    assert told([None, "i=2041"]).kind == "BaseEventType"
    assert told([None, "ns=2;i=5001"]).kind == "nsu=urn:plant;i=5001"
    assert told([None, "ns=9;i=5001"]).kind == "ns=9;i=5001"
    assert told([None, "i=999999"]).kind == "i=999999"
    assert told([None, "i=" + "9" * 6000]).kind.startswith("i=999")
    assert told([None, "ns=" + "9" * 6000 + ";i=1"]).kind.startswith("ns=999")


_raw: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=400),
    st.sampled_from(["i=2787", "ns=2;s=x", "i=0", "2026-11-21T22:07:03Z", UNSUPPORTED]),
    st.lists(st.integers(), max_size=3),
)


@given(st.lists(_raw, max_size=25))
def test_whatever_a_device_sends_can_be_recorded_and_read_back(fields: list[Any]) -> None:
    said = told(fields, source_time=True)
    recorded = tell(said, gateway="g", stream="s", seq=1, recorded_at=NOW)
    assert read_told(recorded.json, recorded.type).event == said
    assert len(recorded.json) < 40_000
    kind_of(fields)
    assert severity_of(fields) is None or 0 <= (severity_of(fields) or 0) <= 65535
    assert abs(said.at - NOW) <= timedelta(hours=1)


# The library


_T = ua.VariantType
_variants = st.one_of(
    st.builds(lambda v: ua.Variant(v, _T.Boolean), st.booleans()),
    st.builds(lambda v: ua.Variant(v, _T.UInt16), st.integers(0, 65535)),
    st.builds(lambda v: ua.Variant(v, _T.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: ua.Variant(v, _T.Double), st.floats(allow_nan=False)),
    st.builds(lambda v: ua.Variant(v, _T.String), st.none() | st.text(max_size=40)),
    st.builds(lambda v: ua.Variant(v, _T.ByteString), st.none() | st.binary(max_size=40)),
    st.builds(
        lambda v: ua.Variant(v, _T.DateTime),
        st.timedeltas(timedelta(days=-100_000), timedelta(days=60_000)).map(lambda by: NOW + by),
    ),
    st.builds(
        lambda text, locale: ua.Variant(ua.LocalizedText(text, locale), _T.LocalizedText),
        st.none() | st.text(max_size=20),
        st.none() | st.just("de"),
    ),
    st.builds(
        lambda number, index: ua.Variant(ua.NodeId(number, index), _T.NodeId),
        st.integers(0, 2**32 - 1) | st.text(min_size=1, max_size=9) | st.uuids(),
        st.integers(0, 65535),
    ),
    st.just(ua.Variant(None, _T.Null)),
    st.builds(lambda v: ua.Variant(v, _T.Int32, is_array=True), st.lists(st.integers(0, 9), max_size=3)),
)
_events = st.lists(st.tuples(st.integers(0, 9), st.lists(_variants, max_size=20)), max_size=8)


def packed(events: Sequence[tuple[int, Sequence[ua.Variant]]]) -> bytes:
    response: Any = ua.PublishResponse()
    response.Parameters.SubscriptionId = 3
    told_: Any = response.Parameters.NotificationMessage
    told_.SequenceNumber = 7
    told_.PublishTime = NOW
    notification: Any = ua.EventNotificationList()
    notification.Events = [ua.EventFieldList(handle, list(fields)) for handle, fields in events]
    told_.NotificationData = [notification]
    return bytes(struct_to_binary(response))


@settings(max_examples=200)
@given(_events)
def test_events_are_read_as_the_library_reads_them(events: list[tuple[int, list[ua.Variant]]]) -> None:
    data = packed(events)
    response: Any = struct_from_binary(ua.PublishResponse, Buffer(data))
    (theirs,) = response.Parameters.NotificationMessage.NotificationData
    expected = [
        (one.ClientHandle, [by_library.raw_of(value) for value in one.EventFields or ()])
        for one in theirs.Events or ()
    ]
    ours = decoded(data)
    assert repr([(handle, list(fields)) for handle, fields in ours.rows]) == repr(expected)
    assert ours.left_out == 0


# Nonsense


@pytest.mark.parametrize(
    "data",
    [
        message(count=2**31 - 1),
        message(event(1, b"\x0c" + struct.pack("<i", 2**31 - 1))),
        message(struct.pack("<Ii", 1, 2**31 - 1)),
        message(event(1, *[b"\x00"] * (FIELDS_MAX + 1))),
        message(event(1, *[b"\x18"] * 40)),
    ],
    ids=["events", "text", "fields", "too many fields", "nested"],
)
def test_lengths_are_not_believed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decoded(data)


def test_more_events_than_are_taken_are_counted_and_what_follows_is_still_read() -> None:
    found = decoded(message(*[event(1, *ALARM[:2])] * (EVENTS_MAX + 5)))
    assert len(found.rows) == EVENTS_MAX
    assert found.left_out == 5


@settings(max_examples=300)
@given(st.data())
def test_damaged_messages_are_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    sound = bytearray(message(event(1, *ALARM), event(2, *ALARM)))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(sound)))
    try:
        answer = decode_publish(bytes(sound[: len(sound) - cut]), 0, ("",), NOW)
    except Malformed:
        return
    for _, fields in answer.events.rows:
        told(fields)


# What is asked for


def elements(filter_: ua.EventFilter) -> list[Any]:
    """The where clause as a server gets it."""
    read: Any = struct_from_binary(ua.EventFilter, Buffer(bytes(struct_to_binary(filter_))))
    return list(read.WhereClause.Elements or ())


def holds(
    clause: Sequence[Any], severity: int, types: set[int], at: int = 0, *, active: bool | None = None
) -> bool:
    """Judge an event by a where clause, as the standard says; `types` are its type and those above it."""
    element = clause[at]
    operands = element.FilterOperands

    def branch(operand: Any) -> bool:
        assert operand.Index > at, "operands point at later elements only"
        return holds(clause, severity, types, operand.Index, active=active)

    match element.FilterOperator:
        case ua.FilterOperator.GreaterThanOrEqual:
            assert [name.Name for name in operands[0].BrowsePath] == ["Severity"]
            return bool(severity >= operands[1].Value.Value)
        case ua.FilterOperator.Equals:
            assert [name.Name for name in operands[0].BrowsePath] == ["ActiveState", "Id"]
            return bool(active is operands[1].Value.Value)
        case ua.FilterOperator.OfType:
            return bool(operands[0].Value.Value.Identifier in types)
        case ua.FilterOperator.And:
            return all(branch(one) for one in operands)
        case ua.FilterOperator.Or:
            return any(branch(one) for one in operands)
    raise AssertionError(element.FilterOperator)


def test_fields_are_asked_for_in_the_order_they_are_read() -> None:
    asked = event_filter(1)
    assert [[name.Name for name in clause.BrowsePath] for clause in asked.SelectClauses] == [
        list(path) for _, _, path in FIELDS
    ]
    node = asked.SelectClauses[8]
    assert (node.TypeDefinitionId.Identifier, node.AttributeId) == (2782, ua.AttributeIds.NodeId)
    assert elements(asked) == []
    assert len(event_filter(1, basic=True).SelectClauses) == 8


@pytest.mark.parametrize("severity", [499, 500, 501])
def test_severity_and_types_are_for_the_server_to_judge(severity: int) -> None:
    by_severity = elements(event_filter(500))
    assert holds(by_severity, severity, {2041}) == (severity >= 500)
    both = elements(event_filter(500, [numbered(2915), numbered(77, 2)]))
    assert holds(both, severity, {2041, 2915}) == (severity >= 500)
    assert holds(both, severity, {2041, 77}) == (severity >= 500)
    assert not holds(both, severity, {2041, 2130})
    assert holds(by_severity, severity, {2041, 2915}, active=False), "the end of an alarm must not go unsaid"
    assert holds(by_severity, severity, {2041, 2915}, active=True) == (severity >= 500)
    assert not holds(both, 1, {2041, 2130}, active=False)
    only_types = elements(event_filter(1, [numbered(2915)]))
    assert holds(only_types, severity, {2041, 2915})
    for system in (2787, 2788, 2789, 3035):
        for clause in (by_severity, both, only_types):
            assert holds(clause, 1, {2041, 2130, system}), "a lost event must not go unsaid"
