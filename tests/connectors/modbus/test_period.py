"""A hundred devices, ten of them dead: the living keep their period. In virtual time, so that it is exact."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from unittest.mock import patch

import pytest

from connectors.modbus import line as line_module
from connectors.modbus.client import Client
from connectors.modbus.config import ModbusSettings, Place
from connectors.modbus.connector import ModbusConnector
from connectors.modbus.opening import Make
from connectors.protocol import Shared
from tests.connectors.contract import RecordingLink
from tests.connectors.modbus.test_late_answers import again_and_again
from tests.connectors.modbus.virtual import VirtualClock, run_virtually
from tests.connectors.modbus.wires import TcpWire

UNITS = range(1, 101)
DEAD = frozenset(range(10, 101, 10))
#: As long as an answer takes, in seconds.
ANSWER_S = 0.001


class Bus(asyncio.Transport):
    """A connection to devices that answer at once, or never."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.wire = TcpWire()
        self.client: Client | None = make()
        self.client.connection_made(self)

    def abort(self) -> None:
        if self.client is not None:
            asyncio.get_running_loop().call_soon(self.client.connection_lost, None)
            self.client = None

    def write(self, data: object) -> None:
        assert isinstance(data, bytes | bytearray | memoryview)
        asyncio.get_running_loop().create_task(self._take(bytes(data)))

    async def _take(self, data: bytes) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        transaction, unit, pdu = await self.wire.read(reader)
        if unit not in DEAD:
            count = int.from_bytes(pdu[3:5], "big")
            answer = self.wire.frame(transaction, unit, bytes([pdu[0], 2 * count]) + bytes(2 * count))
            asyncio.get_running_loop().call_later(ANSWER_S, self._answer, answer)

    def _answer(self, frame: bytes) -> None:
        if self.client is not None:
            self.client.data_received(frame)


def plc(unit: int, host: str, shared: Shared | None) -> ModbusConnector:
    return ModbusConnector(
        ModbusSettings.model_validate(
            {
                "name": f"u{unit}",
                "endpoint": f"tcp://{host}",
                "unit": unit,
                "timeout": "1s",
                "groups": [
                    {
                        "name": "all",
                        "interval": "500ms",
                        "tags": [
                            {"name": "one", "address": "holding:0", "type": "uint16"},
                            {"name": "two", "address": "holding:100", "type": "uint16"},
                        ],
                    }
                ],
            }
        ),
        VirtualClock(),
        shared,
    )


def cycles_within(plcs: Sequence[ModbusConnector], seconds: float) -> tuple[Mapping[int, int], list[Bus]]:
    """How many cycles each unit had, not counting the first ten seconds; the connections there were."""
    links = {plc.settings.unit: RecordingLink() for plc in plcs}
    opened: list[Bus] = []
    counts: dict[int, int] = {}

    async def open_link(place: Place, timeout_s: float, make: Make) -> Client:
        opened.append(Bus(make))
        assert opened[-1].client is not None
        return opened[-1].client

    async def main() -> None:
        tasks = [asyncio.ensure_future(again_and_again(plc, links[plc.settings.unit])) for plc in plcs]
        await asyncio.sleep(10.0)
        before = {unit: len(link.cycles) for unit, link in links.items()}
        await asyncio.sleep(seconds)
        counts.update((unit, len(link.cycles) - before[unit]) for unit, link in links.items())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    with patch.object(line_module, "open_link", open_link):
        run_virtually(main())
    return counts, opened


@pytest.mark.parametrize("on_one_link", [True, False])
def test_fault_39_a_hundred_devices_ten_of_them_dead_and_the_others_keep_their_period(
    on_one_link: bool,
) -> None:
    """On one link to a gateway, or each at a place of its own: 500 ms are 500 ms for the living."""
    shared = Shared() if on_one_link else None
    host = "gateway.test" if on_one_link else "plc{}.test"
    counts, opened = cycles_within([plc(unit, host.format(unit), shared) for unit in UNITS], 60.0)
    assert {count for unit, count in counts.items() if unit not in DEAD} <= {119, 120, 121}
    assert {counts[unit] for unit in DEAD} == {0}
    assert (len(opened) == 1) is on_one_link
