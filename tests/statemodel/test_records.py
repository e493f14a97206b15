"""The told form of events: one JSON for everyone, and back again without loss."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from statemodel.records import event_id, read_told, state_after, tell
from statemodel.types import (
    MESSAGE_CHARS_MAX,
    TEXT_CHARS_MAX,
    AuditAnchor,
    Cause,
    CauseInput,
    CommandStatus,
    CommandTold,
    Conformance,
    CorrectedState,
    Correction,
    DeviceEvent,
    Gap,
    Quality,
    Recordable,
    Rejection,
    SourceLost,
    SourceRestored,
    Transition,
)

AT = datetime(2026, 11, 21, 22, 7, 3, 250000, tzinfo=UTC)
CAUSE = Cause(
    "code", (CauseInput("filler-plc/state", 3, Quality.GOOD, AT, AT),), "filler-plc/state read 3 (Starting)"
)
TRANSITION = Transition(
    equipment="filler-1",
    path="filling/line-1/filler-1",
    model="packml",
    sequence=37,
    from_state="Idle",
    to_state="Starting",
    code=3,
    category="standby",
    at=AT,
    duration_s=41.25,
    conformance=Conformance.LEGAL,
    skipped=(),
    cause=CAUSE,
)
REJECTION = Rejection(
    "filler-1", "filling/line-1/filler-1", "packml", "Idle", "Execute", AT, "no such move", CAUSE
)
ALARM = DeviceEvent(
    connection="filler-plc",
    at=AT,
    kind="OffNormalAlarmType",
    source="Filler",
    severity=700,
    message="Füller 1: emergency stop",
    event_id="0aff",
    source_at=AT,
    received_at=AT + timedelta(milliseconds=12),
    source_node="nsu=urn:plant;s=Filler",
    condition="Aborted",
    condition_node="nsu=urn:plant;s=Filler.Aborted",
    active=True,
    acknowledged=False,
    retain=True,
    user="anna",
    refreshed=True,
)
EVENTS: list[Recordable] = [
    TRANSITION,
    REJECTION,
    SourceLost("filler-plc", AT, "connection refused"),
    SourceRestored("filler-plc", AT),
    Gap("filler-plc", AT, AT + timedelta(seconds=2), "the server's queue overflowed", "filler-plc/state"),
    Gap("filler-plc", AT, AT, "messages lost"),
    ALARM,
    DeviceEvent("filler-plc", AT, "BaseEventType", "", None, "", "", None, AT),
    Correction(
        "filler-1",
        "filling/line-1/filler-1",
        "packml",
        AT,
        AT + timedelta(minutes=5),
        (CorrectedState("Held", 11, "unscheduled-down", AT, AT + timedelta(minutes=5)),),
        "the sensor was unplugged",
        "anna",
        key="4711",
        cause=CAUSE,
    ),
    Correction("filler-1", "a", "packml", AT, AT, (), "a mistake", "anna", withdraws="s-7"),
    CommandTold(
        *("c-1", "filler-1", "filling/line-1/filler-1", "filler-plc/speed_sp", "", 90.5, "anna", "rest"),
        *(CommandStatus.MISMATCH, AT, "read_back", "read 80.0", 80.0, "berta", True, "4711"),
    ),
    CommandTold("c-2", "", "", "a/b", "", None, "bo", "mqtt", CommandStatus.REFUSED, AT, "not_allowed", "no"),
    AuditAnchor(7, "00ff", "ab", "k-1", AT),
]


def kind(event: Recordable) -> str:
    return type(event).__name__


@pytest.mark.parametrize("event", EVENTS, ids=kind)
def test_what_was_told_is_read_back_whole(event: Recordable) -> None:
    told = tell(event, gateway="line-1", stream="s", seq=1042, recorded_at=AT)

    assert read_told(told.json, told.type) == told
    assert told.event == event


@pytest.mark.parametrize("event", EVENTS, ids=kind)
def test_every_event_carries_the_same_envelope(event: Recordable) -> None:
    told = json.loads(tell(event, gateway="line-1", stream="s", seq=1042, recorded_at=AT).json)

    assert (told["stream"], told["seq"], told["id"]) == ("s", 1042, event_id("s", 1042))
    assert told["gateway"] == "line-1"
    assert told["at"] == "2026-11-21T22:07:03.250000Z"
    assert {"type", "equipment", "recorded_at"} <= told.keys()


def test_an_event_of_a_device_reads_as_its_contract_says() -> None:
    told = json.loads(tell(ALARM, gateway="line-1", stream="s", seq=7, recorded_at=AT).json)

    assert list(told)[:9] == [
        *("stream", "seq", "id", "type", "gateway", "equipment", "connection", "at", "recorded_at")
    ]
    assert (told["type"], told["equipment"], told["connection"]) == ("device_event", None, "filler-plc")
    assert (told["kind"], told["severity"], told["condition"]) == ("OffNormalAlarmType", 700, "Aborted")
    assert (told["active"], told["acknowledged"], told["confirmed"]) == (True, False, None)
    assert told["source_at"] == "2026-11-21T22:07:03.250000Z"
    recorded = read_told(tell(ALARM, gateway="g", stream="s", seq=7, recorded_at=AT).json, "device_event")
    assert (recorded.equipment, recorded.path) == ("", "")


def test_texts_of_a_device_are_bounded_and_can_be_written_down() -> None:
    huge = msgspec.structs.replace(ALARM, message="x" * 1_000_000, source="ü" * 5000, user="a\ud800b")

    assert huge.message == "x" * (MESSAGE_CHARS_MAX - 1) + "\u2026"
    assert huge.source == "ü" * (TEXT_CHARS_MAX - 1) + "\u2026"
    assert huge.user == "a?b"
    told = tell(huge, gateway="line-1", stream="s", seq=1, recorded_at=AT)
    assert read_told(told.json, told.type).event == huge


def test_a_transition_reads_as_its_contract_says() -> None:
    told = json.loads(tell(TRANSITION, gateway="line-1", stream="s", seq=1042, recorded_at=AT).json)

    assert told["type"] == "transition"
    assert (told["from_state"], told["to_state"], told["sequence"]) == ("Idle", "Starting", 37)
    assert (told["duration_s"], told["conformance"], told["skipped"]) == (41.25, "legal", [])
    [seen] = told["cause"]["inputs"]
    assert (seen["tag"], seen["value"], seen["quality"]) == ("filler-plc/state", 3, "good")


def test_only_a_gap_has_an_end() -> None:
    lost = json.loads(tell(EVENTS[2], gateway="g", stream="s", seq=1, recorded_at=AT).json)

    assert "until" not in lost
    assert "tag" not in lost


def test_the_state_after_a_transition_says_why_when_it_is_unknown() -> None:
    known = state_after(TRANSITION, 1042)
    assert (known.state, known.code, known.since, known.seq, known.reason) == ("Starting", 3, AT, 1042, None)

    lost = Cause("source_lost", (), "filler-plc lost: connection refused")
    unknown = state_after(
        Transition(
            **{f: getattr(TRANSITION, f) for f in TRANSITION.__struct_fields__}
            | {"to_state": "Unknown", "cause": lost}
        ),
        1043,
    )
    assert unknown.reason == "filler-plc lost: connection refused"
