"""Events on a terminal: one line each, whatever a device put into its texts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.commands.show import event_line
from statemodel.records import tell
from statemodel.types import DeviceEvent

AT = datetime(2026, 11, 21, 22, 7, 3, 250_000, UTC)
ALARM = DeviceEvent(
    connection="filler-plc",
    at=AT,
    kind="OffNormalAlarmType",
    source="Filler",
    severity=700,
    message="aborted",
    event_id="01",
    source_at=AT,
    received_at=AT,
    condition="FillerAborted",
    active=True,
    acknowledged=False,
)


def line(event: DeviceEvent) -> str:
    told: dict[str, Any] = json.loads(tell(event, gateway="g", stream="s", seq=42, recorded_at=AT).json)
    return event_line(told, {}).plain


def test_an_alarm_says_what_it_is_and_how_it_stands() -> None:
    said = line(ALARM)
    assert said.split() == [
        *("42", "22:07:03.250", "filler-plc", "FillerAborted", "active", "unacknowledged"),
        *("Filler:", "aborted", "severity", "700"),
    ]
    gone = line(msgspec.structs.replace(ALARM, active=False, acknowledged=True, refreshed=True))
    assert " inactive acknowledged " in gone
    assert gone.endswith("[told anew]")


def test_a_plain_event_says_its_type_and_nothing_it_does_not_know() -> None:
    said = line(DeviceEvent("filler-plc", AT, "SystemEventType", "", None, "started", "", None, AT))
    assert said.split() == ["42", "22:07:03.250", "filler-plc", "SystemEventType", "started"]


def test_a_device_cannot_give_orders_to_a_terminal() -> None:
    said = line(msgspec.structs.replace(ALARM, message="a\x1b[2Jb\nc", source="S\r", condition="C\x07"))
    assert said.isprintable()
    assert "a [2Jb c" in said
