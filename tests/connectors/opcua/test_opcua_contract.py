"""The suite of all connectors, run on OPC UA against the server of the library, without and with security."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
from asyncua import ua

from connectors.base import Connector
from statemodel.types import TagValue
from tests.connectors.contract import ConnectorContract
from tests.connectors.opcua.plant import VARIABLES, Plant, build


class OpcuaHarness:
    connection = "plc"
    values: ClassVar[dict[str, TagValue]] = {name: value for name, value, _ in VARIABLES}
    changed = ("state", 17)
    spoilt = "speed"
    groups = frozenset({"fast", "slow"})

    def __init__(self, data_dir: Path) -> None:
        self.plant = Plant()
        self.data_dir = data_dir

    async def start(self) -> None:
        await self.plant.start()

    async def stop(self) -> None:
        await self.plant.stop()

    async def set(self, tag: str, value: TagValue) -> None:
        await self.plant.set(tag, value)

    async def make_bad(self, tag: str) -> None:
        await self.plant.set(tag, None, code=ua.StatusCodes.BadDeviceFailure)

    async def make_good(self, tag: str) -> None:
        await self.plant.set(tag, self.values[tag])

    def build(self) -> Connector:
        return build(self.plant, self.data_dir)


class TestOpcua(ConnectorContract):
    @pytest.fixture
    async def device(self, tmp_path: Path) -> AsyncIterator[OpcuaHarness]:
        harness = OpcuaHarness(tmp_path)
        yield harness
        await harness.stop()
