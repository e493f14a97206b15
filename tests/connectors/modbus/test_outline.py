"""What polling will cost. Times on a serial line are worked out by hand from the standard."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.modbus.config import ModbusSettings, SerialSettings
from connectors.modbus.layout import Table
from connectors.modbus.outline import Timing, outline, silence_s
from connectors.modbus.plan import ReadRequest


def settings(tags: list[dict[str, Any]], interval: str = "1s", **more: Any) -> ModbusSettings:
    return ModbusSettings.model_validate(
        {
            "name": "plc",
            "endpoint": "tcp://10.0.0.6:502",
            "groups": [{"name": "g", "interval": interval, "tags": tags}],
            **more,
        }
    )


def words(*addresses: int) -> list[dict[str, Any]]:
    return [{"name": f"t{at}", "address": f"holding:{at}", "type": "uint16"} for at in addresses]


def test_a_cycle_is_latency_and_pause_for_each_request() -> None:
    planned = outline(settings(words(0, 3, 200), limits={"pause": "10ms"}), 0.005)
    (group,) = planned.groups
    assert [(r.text, r.count, r.unit, r.needless, r.tags) for r in group.requests] == [
        ("holding:0-3", 4, "registers", 2, 2),
        ("holding:200", 1, "registers", 0, 1),
    ]
    assert group.cycle_s == pytest.approx(0.030)
    assert planned.use == pytest.approx(0.03)
    assert (planned.tags, group.needless) == (3, 2)
    assert planned.notes == ("10ms of rest after each answer",)


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        ({}, "set limits.gap_max = 64 (4 requests become 2, 20ms become 10ms)"),
        (
            {"registers_per_request": 10, "gap_max": 123},
            "set limits.registers_per_request = 125, if the device takes it "
            "(4 requests become 2, 20ms become 10ms)",
        ),
        (
            {"one_request_per_tag": True},
            "set limits.one_request_per_tag = false (4 requests become 4, 20ms become 20ms)",
        ),
    ],
)
def test_a_remedy_is_one_that_was_tried(limits: dict[str, Any], remedy: str) -> None:
    (group,) = outline(settings(words(0, 60, 120, 300), limits=limits), 0.005).groups
    if "become 4" in remedy:
        assert group.remedies == (), "what does not help is not proposed"
    else:
        assert group.remedies == (remedy,)


def test_one_request_per_tag_is_proposed_to_be_given_up() -> None:
    (group,) = outline(settings(words(0, 1, 2), limits={"one_request_per_tag": True}), 0.005).groups
    assert group.remedies == (
        "set limits.one_request_per_tag = false (3 requests become 1, 15ms become 5ms)",
    )


@pytest.mark.parametrize(
    ("baud", "seconds"), [(9600, 0.004010), (19200, 0.002005), (38400, 0.00175), (115200, 0.00175)]
)
def test_silence_between_frames_is_that_of_the_standard(baud: int, seconds: float) -> None:
    assert silence_s(SerialSettings(baud=baud)) == pytest.approx(seconds, abs=5e-7)


def line(**serial: Any) -> ModbusSettings:
    return settings([], endpoint="serial:///dev/ttyS0", serial=serial)


def test_bytes_on_a_serial_line_take_their_time() -> None:
    ten = ReadRequest(Table.HOLDING, 0, 10, ())
    # 8 bytes out, 25 back (address, function, count, 20 of values, CRC of 2), 11 bits each; two silences.
    seconds = 33 * 11 / 9600 + 2 * 3.5 * 11 / 9600
    assert Timing(line(baud=9600), 0.005).wire_s(ten) == pytest.approx(seconds)
    assert seconds == pytest.approx(0.0458, abs=1e-4)
    # 20 coils are 3 bytes of values.
    coils = ReadRequest(Table.COIL, 0, 20, ())
    assert Timing(line(baud=9600), 0).wire_s(coils) == pytest.approx((16 + 7) * 11 / 9600)
    # Without parity and with one stop bit, a character has 10 bits.
    assert Timing(line(baud=9600, parity="none"), 0).wire_s(coils) == pytest.approx((16 + 7) * 10 / 9600)
    # ASCII: colon, two characters a byte with one LRC, CR and LF: 17 out, 51 back; 7E1 has 10 bits.
    ascii_line = line(baud=9600, framing="ascii", data_bits=7)
    assert Timing(ascii_line, 0.005).wire_s(ten) == pytest.approx((17 + 51) * 10 / 9600)
    assert Timing(settings([]), 0.005).wire_s(ten) == 0.0
    assert Timing(settings([], endpoint="rtu+tcp://h:4001"), 0.005).wire_s(ten) == 0.0


def test_requests_that_are_open_at_once_wait_together() -> None:
    apart = words(*range(0, 5 * 60, 60))
    (group,) = outline(settings(apart, pipeline=2), 0.010).groups
    assert len(group.requests) == 5
    assert group.cycle_s == pytest.approx(0.030)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tcp://Gate:502", "tcp://gate:502/", True),
        ("tcp://gate", "tcp://gate:502", True),
        ("tcp://gate:502", "tcp://gate:503", False),
        ("tcp://gate:502", "tcp://gate2:502", False),
    ],
)
def test_a_link_is_known_by_its_endpoint_however_it_is_written(one: str, other: str, same: bool) -> None:
    names = {outline(settings([], endpoint=endpoint), 0.005).link for endpoint in (one, other)}
    assert (len(names) == 1) == same
