"""With writes off, not one write goes over any wire of the whole run; and the check of that cannot be fooled.

`tests/support/no_writes.py` fails every test during which a device was written to, unless it is marked. What
would let a write slip through is held here: a mark in a file that has no business to write, a device that
does not tell, and a check that does not bite when a gateway is made to write.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.scenario import parse
from simulators.simulation import Options, Simulation
from simulators.writes import ALSO_TO
from tests.connectors.modbus.device import ScriptedDevice
from tests.connectors.opcua.plant import Plant
from tests.support.small_plc import SmallPlc

ROOT = Path(__file__).parents[2]
#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0

#: Files with tests that write to devices, and why they must. A new one needs a reason.
WRITERS = {
    "tests/architecture/test_writes_off.py": "shows that every device tells when it is written to",
    "tests/connectors/modbus/test_writes.py": "writes of the Modbus connector, without a gateway",
    "tests/connectors/opcua/test_opcua_sessions.py": "calls in parts, of which one kind is a write",
    "tests/connectors/opcua/test_opcua_write.py": "writes of the OPC UA connector, without a gateway",
    "tests/durability/test_commands.py": "thousands of commands to a gateway with commands on",
    "tests/gateway/control/test_commands_process.py": "commands to a gateway with commands on",
    "tests/gateway/sparkplug/test_edge_process.py": "a host commands a gateway with commands on",
    "tests/simulators/test_sim_modbus.py": "a client that is not ours writes to the simulators",
    "tests/simulators/test_sim_wire.py": "a client that is not ours commands simulated machines",
    "tests/simulators/test_sim_writes.py": "clients that are not ours write to the simulators",
    "tests/conformance/sparkplug/": "a host commands a gateway with commands on",
}
_MARK = re.compile(r"pytest\.mark\.writes\b")


def test_only_tests_that_are_about_writing_may_write() -> None:
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if _MARK.search(path.read_text(encoding="utf-8"))
    }
    strangers = [name for name in marked if not any(name.startswith(known) for known in WRITERS)]
    assert strangers == []


# Every device tells -----------------------------------------------------------------------------------------


async def written_over_modbus(port: int) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, timeout=PATIENCE_S)
    assert await client.connect()
    try:
        await client.write_register(2, 7, device_id=1)
    finally:
        client.close()


async def written_over_opcua(endpoint: str, node: str) -> None:
    async with Client(endpoint, timeout=PATIENCE_S) as client:
        with pytest.raises(ua.UaError):
            await client.get_node(node).write_value(ua.Variant(7, ua.VariantType.Int32))


@asynccontextmanager
async def scripted() -> AsyncIterator[int]:
    device = ScriptedDevice()
    await device.start()
    yield device.port
    await device.stop()


@asynccontextmanager
async def small() -> AsyncIterator[int]:
    plc = SmallPlc()
    await plc.start()
    yield plc.port
    await plc.stop()


@asynccontextmanager
async def pymodbus() -> AsyncIterator[int]:
    words = [SimData(0, values=[0] * 10, datatype=DataType.REGISTERS)]
    server: Any = ModbusTcpServer(SimDevice(id=1, simdata=words), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    yield server.transport.sockets[0].getsockname()[1]
    await server.shutdown()


@asynccontextmanager
async def simulated() -> AsyncIterator[Simulation]:
    async with Simulation(Options(scenario=parse("", "none"), port_base=0), lambda event: None) as plant:
        yield plant


@pytest.fixture
def wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The writes that devices told of; the file of the run itself is left alone."""
    path = tmp_path / "writes.jsonl"
    path.touch()
    monkeypatch.setenv(ALSO_TO, str(path))
    return lambda: path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("device", [scripted, small, pymodbus])
async def test_a_modbus_device_of_the_tests_tells_when_it_is_written_to(device: Any, wrote: Any) -> None:
    async with device() as port, asyncio.timeout(PATIENCE_S):
        writing = asyncio.create_task(written_over_modbus(port))
        while not wrote() and not writing.done():  # not every one of them answers
            await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert any("FC6" in line for line in wrote())


async def test_an_opcua_server_of_the_tests_tells_when_it_is_written_to(wrote: Any) -> None:
    plant = Plant()
    await plant.start()
    assert wrote() == [], "what it writes itself is none"
    await written_over_opcua(plant.endpoint, "ns=2;s=state")
    await plant.stop()
    assert len(wrote()) == 1


async def test_the_simulated_plant_tells_when_it_is_written_to(wrote: Any) -> None:
    async with simulated() as plant:
        await written_over_modbus(int(plant.endpoints["modbus-b"].rsplit(":", 1)[1]))
        await written_over_opcua(plant.endpoints["opcua-b"], "ns=2;s=Line.Order")
    assert any("modbus-b" in line for line in wrote())
    assert any("Line.Order" in line for line in wrote())


def test_a_simulated_plant_in_a_process_of_its_own_tells_too(wrote: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulators", "--port-base", "0", "--follow-stdin"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as plant:
        assert plant.stdout is not None
        ready = plant.stdout.readline()
        found = re.search(r'"modbus-a":"tcp://127\.0\.0\.1:(\d+)"', ready)
        assert found is not None, ready
        asyncio.run(written_over_modbus(int(found[1])))
        plant.communicate()
    assert len(wrote()) == 1


# The check bites --------------------------------------------------------------------------------------------

_TEST = '''
import asyncio, os
from pathlib import Path
import pytest
from tests.support.processes import free_port, gateway, plant

CONFIG = """
[gateway]
id = "g"
enterprise = "acme"
site = "berlin"
data_dir = "{data}"
[api]
listen = "127.0.0.1:{port}"
[[connections]]
name = "plc"
protocol = "{protocol}"
endpoint = "{endpoint}"
{more}
[[connections.groups]]
name = "all"
interval = "100ms"
tags = [{{ name = "x", {place} }}]
"""
KINDS = {
    "modbus": ("modbus-a", "unit = 1", 'address = "holding:102", type = "uint16"'),
    "opcua": (
        "opcua-a",
        'security = { policy = "None", mode = "None" }',
        'node = "nsu=urn:andon:plant;s=Filler.Parameter1"',
    ),
}

async def test_a_gateway_that_only_reads(tmp_path):
    async with plant(tmp_path, "demo") as site:
        server, more, place = KINDS["PROTOCOL"]
        port, path = free_port(), tmp_path / "andon.toml"
        path.write_text(CONFIG.format(data=tmp_path / "data", port=port, protocol="PROTOCOL",
                                      endpoint=site.servers[server], more=more, place=place))
        async with gateway(path, port) as process:
            await process.until(lambda report: report["ready"])
            for _ in range(LOOKS):
                if Path(os.environ["ALSO_TO"]).stat().st_size:
                    break
                await asyncio.sleep(0.05)
'''

#: Run first by every Python that a test starts: a gateway with the bug that a session begins with a write.
_SABOTAGE = """
import asyncio, importlib.abc, sys

def spoil(cls):
    run = cls.run
    async def spoilt(self, link):
        async def write():
            from connectors.base import Write
            for number in range(2000):
                await asyncio.sleep(0.05)
                try:
                    await self.write([Write("plc/x", number % 99 + 1)])
                    return
                except Exception:
                    pass
        task = asyncio.create_task(write())
        try:
            await run(self, link)
        finally:
            task.cancel()
    cls.run = spoilt

class Finder(importlib.abc.MetaPathFinder):
    names = {"connectors.modbus.connector": "ModbusConnector", "connectors.opcua.connector": "OpcuaConnector"}
    def find_spec(self, name, path, target=None):
        if name not in self.names:
            return None
        sys.meta_path.remove(self)
        import importlib.util
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            spoil(getattr(module, self.names[name]))
        spec.loader.exec_module = exec_module
        return spec

if "gateway" in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
"""


def run_of(tmp_path: Path, protocol: str, *, sabotaged: bool) -> subprocess.CompletedProcess[str]:
    """A run of one test of a gateway with writes off, with the check of the real run."""
    looks = 20 * PATIENCE_S if sabotaged else 20  # one that does not write is watched for a second
    test = _TEST.replace("PROTOCOL", protocol).replace("LOOKS", f"{looks:.0f}").replace("ALSO_TO", ALSO_TO)
    (tmp_path / "test_one.py").write_text(test, encoding="utf-8")
    where = [str(ROOT)]
    if sabotaged:
        (tmp_path / "sitecustomize.py").write_text(_SABOTAGE, encoding="utf-8")
        where.insert(0, str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(where)}
    environment.pop(ALSO_TO, None)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "tests.support.no_writes", "-p", "no:cacheprovider"),
        *("-c", os.devnull, "--rootdir", str(tmp_path), "-o", "asyncio_mode=auto", "test_one.py"),
    ]
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["modbus", "opcua"])
def test_a_gateway_that_is_made_to_write_fails_the_run(tmp_path: Path, protocol: str) -> None:
    done = run_of(tmp_path, protocol, sabotaged=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "went over the wire, and this test is not about writing" in done.stdout


@pytest.mark.timeout(300)
def test_a_gateway_that_only_reads_does_not(tmp_path: Path) -> None:
    done = run_of(tmp_path, "modbus", sabotaged=False)
    assert done.returncode == 0, done.stdout + done.stderr
