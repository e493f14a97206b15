"""`andon run` as an edge node: a simulated PLC behind it, a real broker before it, and kill -9 in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Metric
from simulators.maps import MODBUS
from simulators.modbus_server import ModbusServer
from tests.gateway.publish.conftest import mosquitto
from tests.gateway.publish.support import Mosquitto, free_port
from tests.support.processes import GatewayProcess, gateway
from tests.support.sparkplug_host import WAIT_S, SparkplugHost

__all__ = ["mosquitto"]
pytestmark = pytest.mark.timeout(400)

IDLE, STARTING, EXECUTE, HELD = 4, 3, 6, 11
PLC, SETPOINT, SPEED = "palletiser-1", "Tags/plc/setpoint", "Tags/plc/speed"
CONFIG = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
[api]
listen = "127.0.0.1:{api}"
[sparkplug]
{broker}
group = "acme"
commands = true
[commands]
enabled = true
[[commands.allow]]
equipment = "palletiser-1"
tag = "plc/setpoint"
via = ["sparkplug"]
max = 100.0
[[commands.allow]]
equipment = "palletiser-1"
tag = "plc/speed"
via = ["sparkplug"]
[[connections]]
name = "plc"
protocol = "modbus"
endpoint = "{plc}"
unit = 1
timeout = "30s"
[[connections.groups]]
name = "all"
interval = "20ms"
tags = [
  {{ name = "state", address = "holding:0", type = "uint16" }},
  {{ name = "speed", address = "holding:8", type = "float32", unit = "1/min", publish = true }},
  {{ name = "setpoint", address = "holding:110", type = "uint16", publish = true }},
]
[[equipment]]
name = "palletiser-1"
path = "packing/palletiser-1"
model = "models/palletiser.toml"
bind = {{ state = "plc/state", speed = "plc/speed", setpoint = "plc/setpoint" }}
"""
MODEL = """
name = "palletiser"
initial = "Idle"
states = [
  { name = "Idle", category = "standby" },
  { name = "Execute", category = "productive" },
  { name = "Held", category = "unscheduled-down" },
]
transitions = [{ from = "*", to = ["Idle", "Execute", "Held"] }]
rules = [
  { state = "Execute", when = "state == 6 and speed >= 0" },
  { state = "Held", when = "state == 11 and setpoint >= 0" },
  { state = "Idle", when = "True" },
]
"""


class Machine:
    """A palletiser: its PLC, and a gateway that is started and killed."""

    def __init__(self, folder: Path, plc: ModbusServer, broker: str) -> None:
        self.plc, self.api = plc, free_port()
        (folder / "models").mkdir()
        (folder / "models" / "palletiser.toml").write_text(MODEL)
        self.config = folder / "andon.toml"
        self.config.write_text(CONFIG.format(api=self.api, broker=broker, plc=plc.endpoint))

    def show(self, state: int, speed: float = 1.0) -> None:
        self.plc.put([(PLC, "state", state), (PLC, "mach_speed", speed)])

    def running(self) -> Any:
        return gateway(self.config, self.api)

    async def ask(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.api}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=WAIT_S) as http:
            return await http.get(path)

    async def get(self, path: str) -> Any:
        return (await self.ask(path)).json()

    async def metrics(self) -> str:
        return (await self.ask("/metrics")).text

    async def transitions(self) -> list[int]:
        """Numbers of all transitions in the journal."""
        page = await self.get(f"/api/v1/equipment/{PLC}/transitions?limit=1000")
        return [item["seq"] for item in page["items"]]


@asynccontextmanager
async def machine(folder: Path, broker: str) -> AsyncIterator[Machine]:
    plc = ModbusServer("modbus-a", "127.0.0.1", 0, MODBUS["modbus-a"], 1, lambda *_: None)
    await plc.gate.open()
    try:
        found = Machine(folder, plc, broker)
        found.show(IDLE)
        yield found
    finally:
        await plc.gate.close()


async def told(process: GatewayProcess) -> None:
    await process.until(
        lambda report: report["parts"]["sparkplug"]["ok"] and not report["parts"]["sparkplug"]["lag_events"]
    )


async def shown(host: SparkplugHost, state: str) -> None:
    await host.wait(lambda: host.value(PLC, "State") == state, state)


@pytest.mark.real
async def test_nothing_is_lost_when_the_process_is_killed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with (
        machine(tmp_path, f'broker = "mqtt://127.0.0.1:{mosquitto.port}"') as it,
        SparkplugHost(mosquitto.port, "acme", "line-1") as host,
    ):
        for number in range(3):
            async with it.running() as process:
                it.show(EXECUTE, 10.0 + number)
                await shown(host, "Execute")
                await host.wait(lambda n=number: host.value(PLC, SPEED) == 10.0 + n, "the speed")  # type: ignore[misc]
                assert host.bdseq == number
                it.show(HELD, 20.0)
                await shown(host, "Held")
                await process.kill()
                await host.wait(lambda: not any(host.alive.values()), "the will")
            it.show(IDLE, 30.0)
        async with it.running() as process:
            await shown(host, "Idle")
            await told(process)
            seqs = await it.transitions()
            await host.wait(lambda: set(seqs) <= set(host.values(PLC, "Seq")), "every transition")
            assert host.value(PLC, "Seq") == seqs[-1]
            assert host.bdseq == 3
            assert host.problems == []
            await process.stop()
            await host.wait(lambda: not any(host.alive.values()), "the death")


@pytest.mark.real
@pytest.mark.writes
async def test_a_host_writes_to_a_register_and_sees_it_change(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    async with (
        machine(tmp_path, f'broker = "mqtt://127.0.0.1:{mosquitto.port}"') as it,
        SparkplugHost(mosquitto.port, "acme", "line-1") as host,
        it.running(),
    ):
        await shown(host, "Idle")
        await host.command(PLC, Metric(SETPOINT, None, DataType.UINT16, 42, datetime.now(UTC)))
        await host.wait(lambda: host.value(PLC, SETPOINT) == 42, "what was written")
        # What no rule allows, and a register that can only be read: both say no, and nobody dies of it.
        await host.command(PLC, Metric(SETPOINT, None, DataType.UINT16, 101, datetime.now(UTC)))
        await host.command(PLC, Metric(SPEED, None, DataType.FLOAT, 1.5, datetime.now(UTC)))
        async with asyncio.timeout(WAIT_S):
            while 'what="not_written"} 2.0' not in (figures := await it.metrics()):
                await asyncio.sleep(0.05)
        assert 'andon_sparkplug_commands_total{sink="sparkplug",what="written"} 1.0' in figures
        assert 'andon_sink_up{sink="sparkplug"} 1.0' in figures
        assert 'andon_sparkplug_heard{sink="sparkplug"} 1.0' in figures
        assert 'andon_sparkplug_foreign_total{sink="sparkplug"} 0.0' in figures
        it.show(EXECUTE)
        await shown(host, "Execute")


@pytest.mark.real
async def test_a_device_whose_plc_is_away_is_dead_until_it_is_back(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    async with (
        machine(tmp_path, f'broker = "mqtt://127.0.0.1:{mosquitto.port}"') as it,
        SparkplugHost(mosquitto.port, "acme", "line-1") as host,
        it.running(),
    ):
        await shown(host, "Idle")
        await it.plc.gate.refuse()
        await host.wait(lambda: host.alive.get(PLC) is False, "its death")
        assert host.value(PLC, "State") == "Unknown"
        it.show(EXECUTE)
        await it.plc.gate.accept()
        await host.wait(lambda: host.alive[PLC], "its birth")
        await shown(host, "Execute")
        seqs = await it.transitions()
        await host.wait(lambda: set(seqs) <= set(host.values(PLC, "Seq")), "every transition")
        assert host.problems == []


async def test_the_embedded_broker_serves_an_edge_node(tmp_path: Path) -> None:
    port = free_port()
    async with (
        machine(tmp_path, f'broker = "embedded"\nembedded_port = {port}') as it,
        it.running(),
        SparkplugHost(port, "acme", "line-1", late=True) as host,
    ):
        await host.rebirth()
        await shown(host, "Idle")
        it.show(EXECUTE)
        await shown(host, "Execute")
        assert host.problems == []
