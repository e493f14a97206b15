"""`andon browse` at a SunSpec device: ours, and one served by pymodbus, from the wire to a configuration."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from connectors.browsing import Finding, Found, Query, Remark
from connectors.errors import ConnectionLost
from connectors.modbus import PROTOCOL
from connectors.protocol import Environment
from gateway.config.load import load
from statemodel.types import Quality
from tests.connectors.contract import PATIENT, SystemClock
from tests.connectors.modbus.device import ScriptedDevice, silent, with_exception
from tests.connectors.modbus.sunspec_device import AT_INVERTER, registers
from tests.gateway.test_commands import later


@pytest.fixture
async def device() -> AsyncIterator[ScriptedDevice]:
    """Refuses every address that is not SunSpec's."""
    device = ScriptedDevice()
    device.hold(40000, *registers())
    device.refused |= {("holding", address): 2 for address in (0, 50000)}
    await device.start()
    try:
        yield device
    finally:
        await device.stop()


@asynccontextmanager
async def pymodbus_at(base: int) -> AsyncIterator[str]:
    """The endpoint of the same layout, served by another stack."""
    words = [SimData(base, values=list(registers()), datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(SimDevice(id=1, simdata=words), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    transport = cast(asyncio.Server, server.transport)
    try:
        yield f"tcp://127.0.0.1:{transport.sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def findings(endpoint: str, query: Query | None = None, **settings: Any) -> list[Finding]:
    table = {"name": "pv", "endpoint": endpoint, "timeout": PATIENT, **settings}
    environment = Environment(SystemClock(), Path())
    assert PROTOCOL.browse is not None
    found = PROTOCOL.browse(PROTOCOL.settings.model_validate(table), query or Query(), environment)
    return [finding async for finding in found]


def tags(found: list[Finding]) -> Mapping[str, Found]:
    return {one.path[-1]: one for one in found if isinstance(one, Found) and one.is_tag}


async def test_models_and_points_are_found_in_order(device: ScriptedDevice) -> None:
    found = await findings(device.endpoint, Query(values=True))
    assert isinstance(found[0], Remark)
    assert "SunSpec from holding:40000 on" in found[0].text
    models = [one for one in found if isinstance(one, Found) and one.kind == "object"]
    assert [(one.path, one.address, one.description) for one in models] == [
        (("1",), "holding:40002", "common, 66 registers"),
        (("103",), "holding:40070", "inverter, three phase, 50 registers"),
        (("64001",), "holding:40122", "not known here, 4 registers, its points are not known here"),
    ]
    power = tags(found)["W"]
    assert (power.value, power.unit, power.address) == (-1000.0, "W", "holding:40084")
    assert dict(power.settings) == {"type": "int16", "scale": 10.0, "no_value": "sunspec"}
    absent = next(one for one in found if isinstance(one, Found) and one.path == ("103", "VA"))
    assert (absent.is_tag, absent.problem) == (False, "not implemented by this device")
    assert device.connections == 1, "one connection for all of it"


@pytest.mark.parametrize("base", [40000, 0])
async def test_another_stack_serves_the_same(base: int) -> None:
    async with pymodbus_at(base) as endpoint:
        found = tags(await findings(endpoint, Query(values=True)))
    assert found["Hz"].value == 49.98
    assert found["Hz"].address == f"holding:{base + AT_INVERTER + 16}"
    assert found["Md"].value == "SI-50"


async def test_a_query_chooses(device: ScriptedDevice) -> None:
    found = await findings(device.endpoint, Query(filter="103/*", search="temperature"))
    assert [one.path for one in found if isinstance(one, Found)] == [("103", "TmpCab"), ("103", "TmpSnk")]
    few = await findings(device.endpoint, Query(depth=1))
    assert [one.path for one in few if isinstance(one, Found)] == [("1",), ("103",), ("64001",)]
    three = await findings(device.endpoint, Query(limit=3))
    assert len([one for one in three if isinstance(one, Found)]) == 3
    assert isinstance(three[-1], Remark)


async def test_a_device_of_another_kind_says_where_to_look(device: ScriptedDevice) -> None:
    device.registers.clear()
    (remark,) = await findings(device.endpoint)
    assert isinstance(remark, Remark)
    assert "no SunSpec marker at holding:40000, holding:0, holding:50000" in remark.text


async def test_silence_about_an_address_is_not_silence(device: ScriptedDevice) -> None:
    device.registers.clear()
    device.refused.clear()
    device.hold(50000, *registers())
    device.faults += [silent, silent, silent, silent]  # of 40000 and of 0, twice each
    assert "W" in tags(await findings(device.endpoint, timeout="300ms"))


async def test_a_silent_device_is_lost_with_a_hint(device: ScriptedDevice) -> None:
    device.always = silent
    with pytest.raises(ConnectionLost, match="did not answer 2 requests in a row") as caught:
        await findings(device.endpoint, unit=5, timeout="200ms")
    assert "--set unit=3" in caught.value.hint


async def test_a_busy_device_is_asked_again_and_a_missing_path_is_said(device: ScriptedDevice) -> None:
    device.faults += [with_exception(6)]
    assert "W" in tags(await findings(device.endpoint))
    device.always = with_exception(11)
    with pytest.raises(ConnectionLost, match="gateway target did not respond"):
        await findings(device.endpoint)


async def test_what_is_forbidden_is_not_read_in_browsing_either(device: ScriptedDevice) -> None:
    await findings(device.endpoint, limits={"forbidden": ["holding:0-100", "holding:50000-50009"]})
    assert {request.start for request in device.requests}.isdisjoint({0, 50000})
    assert {request.count for request in device.requests} <= set(range(126))


async def test_what_is_found_is_ready_for_the_configuration(device: ScriptedDevice, tmp_path: Path) -> None:
    done = await later("browse", device.endpoint, "--toml")
    assert done.returncode == 0, done.stderr
    head = '[gateway]\nid = "g"\nenterprise = "acme"\nsite = "berlin"\n\n'
    path = tmp_path / "andon.toml"
    path.write_text(head + done.stdout, encoding="utf-8")
    (connection,) = load(path).configuration.connections
    environment = Environment(SystemClock(), tmp_path)
    samples = {s.tag.partition("/")[2]: s for s in await PROTOCOL.build(connection, environment).read_once()}
    assert (samples["W"].value, samples["SN"].value, samples["St"].value) == (-1000.0, "0815-4711", 4)
    assert {sample.quality for sample in samples.values()} == {Quality.GOOD}
    assert "VA" not in samples
    shown = {tag["name"]: tag for tag in tomllib.loads(done.stdout)["connections"][0]["groups"][0]["tags"]}
    assert shown["Hz"] == {
        "name": "Hz",
        "address": "holding:40086",
        "type": "uint16",
        "scale": 0.01,
        "no_value": "sunspec",
        "unit": "Hz",
    }

    listed = await later("browse", device.endpoint, "--csv", "--filter", "103/*")
    rows = list(csv.DictReader(line for line in io.StringIO(listed.stdout) if not line.startswith("#")))
    row = next(row for row in rows if row["name"] == "WH")
    assert (row["address"], row["type"], row["no_value"], row["unit"]) == (
        "holding:40094",
        "uint32",
        "0",
        "Wh",
    )

    lines = (await later("browse", device.endpoint, "--json", "--values")).stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert any(item.get("path") == ["103", "DCV"] and item["value"] == 650.0 for item in told)
