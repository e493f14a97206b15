"""The suite of all connectors, against two Modbus devices: one of ours for tests, one of another stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from connectors.base import Connector
from connectors.modbus import PROTOCOL
from connectors.protocol import Environment
from statemodel.types import TagValue
from tests.connectors.contract import ConnectorContract, Harness, SystemClock
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


class ModbusHarness:
    """What the two devices have in common."""

    connection = "plc"
    values: Mapping[str, TagValue] = {name: value for name, (_, _, value, _) in TAGS.items()}
    changed: tuple[str, TagValue] = ("speed", -0.5)
    spoilt = "count"
    groups = frozenset(("fast", "slow"))
    port = 0

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
                "endpoint": f"tcp://127.0.0.1:{self.port}",
                "unit": 1,
                "timeout": "500ms",
                "refused_retry": "50ms",
                "groups": [
                    {"name": "fast", "interval": "20ms", "tags": tags(False)},
                    {"name": "slow", "interval": "60ms", "tags": tags(True)},
                ],
            }
        )
        return PROTOCOL.build(settings, Environment(clock=SystemClock(), data_dir=Path()))


class ScriptedHarness(ModbusHarness):
    """The device in this folder."""

    def __init__(self) -> None:
        self.device = ScriptedDevice()

    async def start(self) -> None:
        for address, _, _, words in TAGS.values():
            self._put(address, words)
        await self.device.start()
        self.port = self.device.port

    async def stop(self) -> None:
        await self.device.stop()

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


class PymodbusHarness(ModbusHarness):
    """The server of pymodbus: another reading of the same standard."""

    def __init__(self) -> None:
        self.server: ModbusTcpServer | None = None
        self.bad = False

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
        server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
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


class TestScriptedDevice(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        harness = ScriptedHarness()
        yield harness
        await harness.stop()
        await asyncio.sleep(0)


class TestPymodbusServer(ConnectorContract):
    @pytest.fixture
    async def device(self) -> AsyncIterator[Harness]:
        harness = PymodbusHarness()
        yield harness
        await harness.stop()
        await asyncio.sleep(0)
