"""`andon read --orders` against a device: what people and programs are shown, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.modbus.device import ScriptedDevice
from tests.gateway.test_commands import later

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"

[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "{endpoint}"
unit = 3
limits = {{ forbidden = ["holding:102-110"] }}
[[connections.groups]]
name = "all"
interval = "1s"
tags = [
  {{ name = "temp", address = "holding:100", type = "float32", order = "CDAB" }},
  {{ name = "run", address = "coil:0" }},
]
"""


@pytest.fixture
async def device() -> AsyncIterator[ScriptedDevice]:
    """A temperature of 21.5 whose registers are swapped, then something that is refused."""
    device = ScriptedDevice(unit=3)
    device.hold(100, 0x0000, 0x41AC, 0, 0, 0, 0, 0, 0, 0)
    device.refused["holding", 106] = 2
    await device.start()
    try:
        yield device
    finally:
        await device.stop()


async def test_a_device_is_looked_at_without_a_configuration(device: ScriptedDevice) -> None:
    done = await later("read", "--orders", device.endpoint, "holding:101", "--unit", "3")
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["type", "order", "holding:100", "holding:101", "holding:102"] in words
    assert any(line[0] == "float32" and line[-2] == "21.5" for line in words if line)
    assert '{ name = "value", address = "holding:101", type = "float32" },  # 21.5' in done.stdout
    assert '{ name = "value", address = "holding:100", type = "float32", order = "CDAB" },' in done.stdout
    assert "holding:101 ABCD and holding:100 CDAB share a register" in done.stdout
    assert {request.unit for request in device.requests} == {3}


async def test_a_tag_of_a_configuration_is_looked_at_as_it_is_configured(
    device: ScriptedDevice, tmp_path: Path
) -> None:
    config = tmp_path / "andon.toml"
    config.write_text(CONFIG.format(endpoint=device.endpoint), encoding="utf-8")
    done = await later("read", "--orders", str(config), "plc/temp")
    assert done.returncode == 0, done.stderr
    assert "configured: holding:100 float32 CDAB, raw 21.5" in done.stdout
    assert '{ name = "temp", address = "holding:100", type = "float32", order = "CDAB" },' in done.stdout
    assert not {a for request in device.requests for a in request.addresses} & set(range(102, 111))
    again = await later("read", "--orders", str(config), "plc/holding:101", "--json")
    assert json.loads(again.stdout)["address"] == "holding:101"


async def test_programs_get_every_reading(device: ScriptedDevice) -> None:
    done = await later("read", "--orders", device.endpoint, "40101", "--set", "unit=3", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert (document["address"], document["unit"]) == ("holding:100", 3)
    assert document["registers"]["holding:101"] == 0x41AC
    assert "holding:106" not in document["registers"], "what the device refuses does not stop the rest"
    wanted = {"address": "holding:100", "type": "float32", "order": "CDAB", "value": 21.5}
    assert {**wanted, "plausible": True} in document["readings"]
    assert document["likely"][0] == wanted


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--orders", "ENDPOINT"], 2, "one place at a time"),
        (["--orders", "ENDPOINT", "coil:3"], 2, "is one bit, which has no order"),
        (["--orders", "ENDPOINT", "nowhere"], 2, "is not a Modbus address"),
        (["--orders", "ENDPOINT", "holding:1", "--unit", "300"], 2, "must be at most 255"),
        (["--orders", "ENDPOINT", "holding:1", "--set", "units=3"], 2, "unknown key"),
        (["--orders", "opc.tcp://127.0.0.1:1", "holding:1"], 2, "is no Modbus device"),
        (["--orders", "CONFIG", "plc/tmp"], 2, 'did you mean "temp"?'),
        (["--orders", "CONFIG", "plv/temp"], 2, 'did you mean "plc"?'),
        (["--orders", "CONFIG", "plc/holding:105"], 2, "never read"),
        (["--orders", "CONFIG", "plc/temp", "--unit", "4"], 2, "as it is configured"),
        (["--orders", "ENDPOINT", "holding:106", "--unit", "3"], 1, "illegal data address (exception 2)"),
        (["--orders", "127.0.0.1:502", "holding:1", "--unit", "3"], 2, "write tcp://127.0.0.1:502"),
        (["ENDPOINT"], 2, "is an endpoint"),
        (["CONFIG", "--unit", "4"], 2, "are for endpoints, with --orders"),
    ],
)
async def test_arguments_that_mean_nothing_are_refused_with_a_reason(
    device: ScriptedDevice, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    config = tmp_path / "andon.toml"
    config.write_text(CONFIG.format(endpoint=device.endpoint), encoding="utf-8")
    places = {"ENDPOINT": device.endpoint, "CONFIG": str(config)}
    done = await later("read", *(places.get(argument, argument) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


async def test_a_tag_the_device_refuses_is_read_with_the_reason(
    device: ScriptedDevice, tmp_path: Path
) -> None:
    config = tmp_path / "andon.toml"
    text = CONFIG.format(endpoint=device.endpoint).replace("holding:102-110", "holding:1-2")
    config.write_text(text.replace("coil:0", "holding:106.1"), encoding="utf-8")
    done = await later("read", str(config))
    assert done.returncode == 0, done.stderr
    assert "bad (configuration_error)" in done.stdout
    assert (
        done.stderr.strip() == "plc/run: the device refuses holding:106.1: illegal data address (exception 2)"
    )
    assert (await later("read", str(config), "plc/temp")).stderr == "", "only of what was asked for"
