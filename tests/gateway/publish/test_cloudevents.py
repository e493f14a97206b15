"""The properties of messages, read as CloudEvents 1.0 and its MQTT binding want them read.

The rules are written down here from the specification, and know nothing of how the properties are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.mqtt import MqttSettings
from gateway.config.schema import GatewaySettings
from gateway.publish.kinds import Kinds
from gateway.publish.marks import Marks
from statemodel.records import TYPE_OF, EquipmentState, Recorded, tell
from statemodel.types import (
    AuditAnchor,
    Cause,
    CommandStatus,
    CommandTold,
    Conformance,
    Correction,
    DeviceEvent,
    Gap,
    Quality,
    Recordable,
    Rejection,
    SourceLost,
    SourceRestored,
    TagSample,
    Transition,
)

AT = datetime(2026, 11, 21, 22, 7, 3, 250_000, tzinfo=UTC)
GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
CAUSE = Cause("code", ())
EVENTS: tuple[Recordable, ...] = (
    Transition("filler-1", "filling/filler-1", "packml", 1, "Idle", "Starting", 3, None, AT, 1.0,
               Conformance.LEGAL, (), CAUSE),
    Rejection("filler-1", "filling/filler-1", "packml", "Idle", "Held", AT, "no", CAUSE),
    SourceLost("filler-plc", AT, "gone"),
    SourceRestored("filler-plc", AT),
    Gap("filler-plc", AT, AT + timedelta(seconds=1), "full"),
    DeviceEvent("filler-plc", AT, "Alarm", "Filler", 700, "stop", "1", AT, AT),
    Correction("filler-1", "filling/filler-1", "packml", AT, AT + timedelta(hours=1), (), "why", "anna"),
    CommandTold(
        "c", "filler-1", "filling/filler-1", "p/sp", "", 9, "anna", "rest", CommandStatus.VERIFIED, AT
    ),
    AuditAnchor(7, "00ff", "ab", "k-1", AT),
)  # fmt: skip


def marks(**settings: Any) -> Marks:
    broker = MqttSettings.model_validate({"broker": "mqtt://h:1", "cloudevents": True, **settings})
    return Marks(broker, Kinds(broker), GATEWAY, "stream-1")


def recorded(event: Recordable, seq: int = 1042) -> Recorded:
    return tell(event, gateway="line-1", stream="stream-1", seq=seq, recorded_at=AT)


def state(seq: int, equipment: str = "filler-1", since: datetime = AT) -> EquipmentState:
    return EquipmentState(equipment, "a/b", "packml", "Idle", 4, None, since, seq, seq, None)


# --- an independent reading: bytes of MQTT 5 properties, then the rules of CloudEvents


def properties(packed: bytes) -> Iterator[tuple[int, Any]]:
    """MQTT 5.0 section 2.2.2, for the properties a PUBLISH of ours may have."""
    size, at, shift = 0, 0, 0
    while True:
        byte = packed[at]
        size, at, shift = size | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            break
    assert len(packed) == at + size

    def text() -> str:
        nonlocal at
        length = int.from_bytes(packed[at : at + 2], "big")
        at += 2 + length
        return packed[at - length : at].decode("utf-8", "strict")

    while at < len(packed):
        identifier = packed[at]
        at += 1
        match identifier:
            case 1:
                yield 1, packed[at]
                at += 1
            case 2:
                yield 2, int.from_bytes(packed[at : at + 4], "big")
                at += 4
            case 3:
                yield 3, text()
            case 38:
                yield 38, (text(), text())
            case _:
                raise AssertionError(f"a property {identifier}")


def cloud_event(packed: bytes | None) -> dict[str, str]:
    """The context attributes a consumer sees, after the rules of the specification have been held to them."""
    assert packed is not None
    found = list(properties(packed))
    assert [value for number, value in found if number == 3] == [
        "application/json"
    ]  # binary mode: the data's
    user = [pair for number, pair in found if number == 38]
    attributes = dict(user)
    assert len(attributes) == len(user), "each attribute once"
    for name, value in attributes.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name), "attribute names: lower case, digits, at most 20"
        assert not re.search("[\u0000-\u001f\u007f-\u009f]", value), "strings have no control characters"
    assert attributes["specversion"] == "1.0"
    for required in ("id", "source", "type"):
        assert attributes[required]
    assert re.fullmatch(r"andon\.[a-z_]+", attributes["type"])
    for uri in (attributes["source"], attributes["dataschema"]):
        assert urlsplit(uri).scheme, "absolute"
        assert re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", uri), "characters of RFC 3986"
    time = attributes["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", time), "RFC 3339"
    assert attributes["subject"]
    return attributes


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: TYPE_OF[type(event)])
@pytest.mark.parametrize("late", [False, True])
def test_every_event_is_a_cloud_event(event: Recordable, late: bool) -> None:
    told = recorded(event)
    attributes = cloud_event(marks().event(told, late=late))
    assert attributes["id"] == told.id
    assert attributes["type"] == f"andon.{told.type}"
    assert attributes["subject"] == told.equipment or attributes["subject"] in ("filler-plc", "audit")
    assert datetime.fromisoformat(attributes["time"]) == told.at
    assert attributes["source"] == "urn:andon:gateway:acme:berlin:line-1"
    assert attributes["dataschema"] == f"urn:andon:schema:{told.type}:1"
    assert attributes.get("late") == ("true" if late else None)
    assert marks().event(told, late=late) == marks().event(recorded(event), late=late), "also when told again"


def test_no_event_is_left_out() -> None:
    assert {type(event) for event in EVENTS} == set(TYPE_OF)


@given(st.lists(st.integers(1, 2**63 - 1), min_size=2, unique=True))
def test_sequences_order_as_texts(numbers: list[int]) -> None:
    of = marks()
    told = {cloud_event(of.event(recorded(EVENTS[0], seq)))["sequence"]: seq for seq in numbers}
    assert [told[text] for text in sorted(told)] == sorted(numbers)


def test_no_two_different_messages_have_one_id() -> None:
    of = marks()
    sample = TagSample("plc/speed", 1.0, Quality.GOOD, AT, AT)
    told = [
        of.event(recorded(EVENTS[0])),
        of.event(recorded(EVENTS[0], 1043)),
        of.state(state(1042)),
        of.state(state(1043)),
        of.state(state(0)),
        of.state(state(0, "oven-1")),
        of.state(state(0, since=AT + timedelta(hours=1))),
        of.tag(sample),
        of.tag(TagSample("plc/temp", 1.0, Quality.GOOD, AT, AT)),
        of.tag(TagSample("plc/speed", 2.0, Quality.GOOD, AT + timedelta(microseconds=1), AT)),
        of.tag(TagSample("plc/speed", 2.0, Quality.GOOD, None, AT)),
        of.tag(TagSample("plc/speed", 2.0, Quality.GOOD, AT, AT + timedelta(microseconds=1))),
    ]
    ids = [cloud_event(packed)["id"] for packed in told]
    assert len(set(ids)) == len(ids)
    assert of.tag(sample) == marks().tag(TagSample("plc/speed", 1.0, Quality.GOOD, AT, AT))
    assert of.state(state(1042)) == marks().state(state(1042))


def test_a_sample_is_of_the_time_of_its_source() -> None:
    by_source = cloud_event(marks().tag(TagSample("plc/speed", 1.0, Quality.GOOD, AT, AT + timedelta(1))))
    assert datetime.fromisoformat(by_source["time"]) == AT
    assert by_source["subject"] == "plc/speed"
    assert by_source["type"] == "andon.tag"
    received = cloud_event(marks().tag(TagSample("plc/speed", 1.0, Quality.GOOD, None, AT)))
    assert datetime.fromisoformat(received["time"]) == AT


def test_expiry_goes_with_what_expires() -> None:
    topics: Mapping[str, Any] = {"state": {"expiry": "1h"}, "event/gap": {"expiry": "90s"}}
    for cloudevents in (True, False):
        of = marks(cloudevents=cloudevents, topics=topics)
        assert dict(properties(of.state(state(1)) or b""))[2] == 3600
        for late in (True, False):
            assert dict(properties(of.event(recorded(EVENTS[4]), late=late) or b""))[2] == 90
        assert 2 not in dict(properties(of.event(recorded(EVENTS[0])) or b"\0"))


def test_without_cloud_events_only_what_is_late_is_marked() -> None:
    of = marks(cloudevents=False)
    for event in EVENTS:
        assert of.event(recorded(event)) is None
        assert list(properties(of.event(recorded(event), late=True) or b"")) == [(38, ("late", "true"))]
    assert of.state(state(1)) is None
    assert of.tag(TagSample("plc/speed", 1.0, Quality.GOOD, AT, AT)) is None
