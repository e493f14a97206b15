"""The suite of all connectors, over every way to speak Modbus: our device for tests, and another stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from connectors.base import Connector
from connectors.errors import ConnectionLost
from connectors.modbus import PROTOCOL
from connectors.protocol import Environment
from statemodel.types import TagValue
from tests.connectors.contract import PATIENT, ConnectorContract, Harness, RecordingLink, SystemClock
from tests.connectors.modbus.certificates import Certificates, make_certificates
from tests.connectors.modbus.device import ScriptedDevice

#: Tags and the words (or bits) on the wire that mean these values; worked out by hand.
TAGS: Mapping[str, tuple[str, dict[str, str | float], TagValue, tuple[int, ...]]] = {
    "state": ("holding:0", {"type": "uint16"}, 6, (6,)),
    "speed": ("holding:10", {"type": "float32", "order": "CDAB"}, 123456.0, (0x2000, 0x47F1)),
    "count": ("holding:12", {"type": "int32"}, -2, (0xFFFF, 0xFFFE)),
    "temp": ("holding:60", {"type": "int16", "scale": 0.5, "offset": -10}, 40.0, (100,)),
    "alarm": ("holding:61.3", {}, True, (0x0008,)),
    "run": ("coil:3", {}, True, (1,)),
    "text": ("input:5", {"type": "string(5)"}, "Juice", (0x4A75, 0x6963, 0x6500)),
    "door": ("10013", {}, False, (0,)),
}
CHANGED = {"speed": (-0.5, (0x0000, 0xBF00))}
#: The last ones, so that the order here is that of the configuration.
SLOW = ("text", "door")
#: Written form -> table and address on the wire, by hand.
PLACES = {
    "holding:0": ("holding", 0),
    "holding:10": ("holding", 10),
    "holding:12": ("holding", 12),
    "holding:60": ("holding", 60),
    "holding:61.3": ("holding", 61),
    "input:5": ("input", 5),
    "coil:3": ("coil", 3),
    "10013": ("discrete", 12),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class ModbusHarness:
    """What all the devices have in common."""

    connection = "plc"
    values: Mapping[str, TagValue] = {name: value for name, (_, _, value, _) in TAGS.items()}
    changed: tuple[str, TagValue] = ("speed", -0.5)
    spoilt = "count"
    groups = frozenset(("fast", "slow"))

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.environment = Environment(clock=SystemClock(), data_dir=Path())

    @property
    def endpoint(self) -> str:
        raise NotImplementedError

    def build(self) -> Connector:
        def tags(slow: bool) -> list[dict[str, object]]:
            return [
                {"name": name, "address": address, **settings}
                for name, (address, settings, _, _) in TAGS.items()
                if (name in SLOW) is slow
            ]

        settings = PROTOCOL.settings.model_validate(
            {
                "name": self.connection,
                "protocol": "modbus",
                "endpoint": self.endpoint,
                "unit": 1,
                "timeout": PATIENT,
                "refused_retry": "50ms",
                "groups": [
                    {"name": "fast", "interval": "20ms", "tags": tags(False)},
                    {"name": "slow", "interval": "60ms", "tags": tags(True)},
                ],
                **self.settings,
            }
        )
        return PROTOCOL.build(settings, self.environment)


class ScriptedHarness(ModbusHarness):
    """The device in this folder."""

    def __init__(self, device: ScriptedDevice, **settings: Any) -> None:
        super().__init__(**settings)
        self.device = device

    @property
    def endpoint(self) -> str:
        return self.device.endpoint

    async def start(self) -> None:
        for address, _, _, words in TAGS.values():
            self._put(address, words)
        await self.device.start()

    async def stop(self) -> None:
        await self.device.stop()
        assert self.device.errors == []

    async def set(self, tag: str, value: TagValue) -> None:
        known, words = CHANGED[tag]
        assert known == value
        self._put(TAGS[tag][0], words)

    def _put(self, address: str, words: tuple[int, ...]) -> None:
        table, start = PLACES[address]
        if table in ("coil", "discrete"):
            self.device.bits[table, start] = bool(words[0])
        else:
            self.device.hold(start, *words, table=table)

    async def make_bad(self, tag: str) -> None:
        self.device.refused["holding", 13] = 2

    async def make_good(self, tag: str) -> None:
        self.device.refused.clear()


class WithNeighbour(ScriptedHarness):
    """Another connection, to another unit of the same link, runs all the time there is a link.

    Its registers hold what no tag of the connection under test may ever show.
    """

    neighbour: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await super().start()
        self.device.of_unit[2] = dict.fromkeys((("holding", address) for address in range(80)), 0x7777)
        settings = PROTOCOL.settings.model_validate(
            {
                "name": "neighbour",
                "endpoint": self.endpoint,
                "unit": 2,
                "timeout": PATIENT,
                "groups": [
                    {
                        "name": "all",
                        "interval": "10ms",
                        "tags": [
                            {"name": f"t{n}", "address": f"holding:{n}", "type": "uint16"}
                            for n in (0, 10, 60)
                        ],
                    }
                ],
            }
        )
        connector = PROTOCOL.build(settings, self.environment)
        self.link = RecordingLink()

        async def again_and_again() -> None:
            while True:
                try:
                    await connector.run(self.link)
                except ConnectionLost:
                    await asyncio.sleep(0.01)

        self.neighbour = asyncio.ensure_future(again_and_again())
        await self.link.until(lambda: len(self.link.latest) == 3, "the neighbour")

    async def stop(self) -> None:
        if self.neighbour is not None:
            self.neighbour.cancel()
            await asyncio.wait([self.neighbour])
            self.neighbour = None
            assert {sample.value for sample in self.link.samples} <= {0x7777, None}
        await super().stop()


class PymodbusHarness(ModbusHarness):
    """The servers of pymodbus: another reading of the same standards."""

    def __init__(self, scheme: str, make: Callable[..., ModbusTcpServer], **settings: Any) -> None:
        super().__init__(**settings)
        self.scheme = scheme
        self.make = make
        self.server: ModbusTcpServer | None = None
        self.bad = False
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        async def action(
            function: int, start: int, address: int, count: int, registers: list[int], values: object
        ) -> ExcCodes | None:
            touched = function == 3 and values is None and address <= 13 < address + count
            return ExcCodes.ILLEGAL_ADDRESS if self.bad and touched else None

        device = SimDevice(
            id=1,
            simdata=(
                [SimData(0, values=[False, False, False, True] + [False] * 12, datatype=DataType.BITS)],
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(0, values=[0] * 80, datatype=DataType.REGISTERS)],
                [SimData(0, values=[0] * 20, datatype=DataType.REGISTERS)],
            ),
            action=action,
        )
        server = self.make(device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        assert server.transport is not None
        self.server = server
        self.port = cast(asyncio.Server, server.transport).sockets[0].getsockname()[1]
        for address, _, _, words in TAGS.values():
            table, start = PLACES[address]
            if table in ("holding", "input"):
                await server.async_setValues(1, {"holding": 3, "input": 4}[table], start, list(words))

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.shutdown()  # type: ignore[no-untyped-call]
            self.server = None

    async def set(self, tag: str, value: TagValue) -> None:
        if self.server is not None:
            await self.server.async_setValues(1, 3, PLACES[TAGS[tag][0]][1], list(CHANGED[tag][1]))

    async def make_bad(self, tag: str) -> None:
        self.bad = True

    async def make_good(self, tag: str) -> None:
        self.bad = False


class TestTcp(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(ScriptedHarness(ScriptedDevice())):
            yield harness


class TestTcpPipelined(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(ScriptedHarness(ScriptedDevice(), pipeline=4)):
            yield harness


class TestTcpWithAnotherUnit(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(WithNeighbour(ScriptedDevice())):
            yield harness


class TestTls(ConnectorContract):
    @pytest.fixture
    async def device(self, certificates: Certificates) -> AsyncIterator[Harness]:
        device = ScriptedDevice(speaks="tls", tls=certificates.server(wants_client=True))
        async for harness in used(ScriptedHarness(device, tls=certificates.settings())):
            yield harness


class TestRtuOverTcp(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(ScriptedHarness(ScriptedDevice(speaks="rtu+tcp"))):
            yield harness


class TestRtuOverTcpWithAnotherUnit(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(WithNeighbour(ScriptedDevice(speaks="rtu+tcp"))):
            yield harness


class TestSerialRtu(ConnectorContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[Harness]:
        device = ScriptedDevice(speaks="rtu", path=tmp_path / "tty")
        async for harness in used(ScriptedHarness(device, serial=SERIAL)):
            yield harness


class TestSerialAscii(ConnectorContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[Harness]:
        device = ScriptedDevice(speaks="ascii", path=tmp_path / "tty")
        async for harness in used(ScriptedHarness(device, serial={**SERIAL, "framing": "ascii"})):
            yield harness


class TestPymodbusTcp(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(PymodbusHarness("tcp", ModbusTcpServer)):
            yield harness


class TestPymodbusTcpPipelined(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        # It answers one of several requests that come in one piece; what it forgets is asked again.
        forgetful = {"timeout": "500ms", "timeouts_max": 100}
        async for harness in used(PymodbusHarness("tcp", ModbusTcpServer, pipeline=8, **forgetful)):
            yield harness


class TestPymodbusTls(ConnectorContract):
    @pytest.fixture
    async def device(self, certificates: Certificates) -> AsyncIterator[Harness]:
        def make(device: SimDevice, **more: Any) -> ModbusTlsServer:
            # Its own TLS framing leaves the header out, which Modbus/TCP Security does not.
            return ModbusTlsServer(device, framer=FramerType.SOCKET, sslctx=certificates.server(), **more)

        async for harness in used(PymodbusHarness("tls", make, tls=certificates.settings())):
            yield harness


class TestPymodbusRtuOverTcp(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(PymodbusHarness("rtu+tcp", over_tcp(FramerType.RTU))):
            yield harness


class TestPymodbusAsciiOverTcp(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        async for harness in used(PymodbusHarness("ascii+tcp", over_tcp(FramerType.ASCII))):
            yield harness


SERIAL = {"baud": 115200}


def over_tcp(framer: FramerType) -> Callable[..., ModbusTcpServer]:
    """A server with another framing."""

    def make(device: SimDevice, **more: Any) -> ModbusTcpServer:
        return ModbusTcpServer(device, framer=framer, **more)

    return make


async def used(harness: ScriptedHarness | PymodbusHarness) -> AsyncIterator[Harness]:
    """Hand it out, and stop it afterwards."""
    yield harness
    await harness.stop()
    await asyncio.sleep(0)
