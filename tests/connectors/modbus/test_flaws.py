"""What is told of a tag whose registers hold no good value, from the device's bytes to the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connectors.modbus import PROTOCOL
from connectors.modbus.config import ModbusSettings
from connectors.protocol import Environment
from statemodel.types import Quality, TagValue
from tests.connectors.contract import SystemClock
from tests.connectors.modbus.device import ScriptedDevice

TAGS: list[dict[str, Any]] = [
    {"name": "fine", "address": "holding:0", "type": "int16", "clamp": [0, 100], "no_value": "sunspec"},
    {"name": "high", "address": "holding:1", "type": "int16", "scale": 0.1, "clamp": [-20, 150]},
    {"name": "low", "address": "holding:2", "type": "int16", "clamp": [0, 100]},
    {"name": "absent", "address": "holding:3", "type": "uint16", "no_value": 0xFFFF},
    {"name": "nan", "address": "holding:4", "type": "float32"},
    {"name": "absent-nan", "address": "holding:4", "type": "float32", "no_value": "sunspec"},
    {"name": "halves", "address": "holding:6", "type": "uint64", "order": "EFGHABCD"},
]


async def test_each_flaw_has_its_own_word(tmp_path: Path) -> None:
    device = ScriptedDevice()
    device.hold(0, 50, 32767, 0xFFFF, 0xFFFF, 0x7FC0, 0, 0x0506, 0x0708, 0x0102, 0x0304)
    await device.start()
    try:
        settings = ModbusSettings.model_validate(
            {
                "name": "plc",
                "endpoint": device.endpoint,
                "groups": [{"name": "all", "interval": "1s", "tags": TAGS}],
            }
        )
        connector = PROTOCOL.build(settings, Environment(SystemClock(), tmp_path))
        samples = await connector.read_once()
    finally:
        await device.stop()
    told: dict[str, tuple[TagValue, Quality, str]] = {
        sample.tag.removeprefix("plc/"): (sample.value, sample.quality, sample.substatus)
        for sample in samples
    }
    assert told == {
        "fine": (50, Quality.GOOD, ""),
        "high": (150.0, Quality.UNCERTAIN, "engineering_units_exceeded"),
        "low": (0, Quality.UNCERTAIN, "engineering_units_exceeded"),
        "absent": (None, Quality.BAD, "no_value"),
        "nan": (None, Quality.BAD, "not_a_number"),
        "absent-nan": (None, Quality.BAD, "no_value"),
        "halves": (0x0102030405060708, Quality.GOOD, ""),
    }
