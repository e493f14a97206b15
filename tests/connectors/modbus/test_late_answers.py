"""Finding 3: on a line without transaction ids no late answer becomes the value of another register.

A unit answers in the order it was asked, each answer as late as it likes, or never; the line is driven in
virtual time. Every register holds a number that says unit and address, so a wrong assignment shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Write, WriteOutcome, Written
from connectors.errors import ConnectionLost
from connectors.modbus import line as line_module
from connectors.modbus.client import Client
from connectors.modbus.config import ModbusSettings, Place
from connectors.modbus.connector import ModbusConnector
from connectors.modbus.opening import Make
from connectors.protocol import Shared
from statemodel.types import Quality
from tests.connectors.contract import RecordingLink
from tests.connectors.modbus.virtual import VirtualClock, run_virtually
from tests.connectors.modbus.wires import WIRES

TIMEOUT_S = 1.0
#: Later than this an answer does not come (`debts.OWED_S` is 60 s, after the time-out).
DELAY_S_MAX = 50.0


def value_of(unit: int, address: int) -> int:
    return unit * 1000 + address


class SlowDevice(asyncio.Transport):
    """Answers each request in order, after a delay of its own; None loses the answer.

    It stays the same over all links, as a device on a bus does.
    """

    def __init__(self, speaks: str, delays: Sequence[float | None]) -> None:
        super().__init__()
        self.wire = WIRES[speaks]()
        self.delays = list(delays)
        self.busy_until: dict[int, float] = {}
        self.client: Client | None = None
        self.asked: list[tuple[int, bytes]] = []
        self.deaf_to: frozenset[int] = frozenset()
        self.refuses: frozenset[int] = frozenset()

    async def opened(self, place: Place, timeout_s: float, make: Make) -> Client:
        self.client = make()
        self.client.connection_made(self)
        return self.client

    def abort(self) -> None:
        if self.client is not None:
            asyncio.get_running_loop().call_soon(self.client.connection_lost, None)
            self.client = None

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().create_task(self._take(bytes(data)))

    async def _take(self, data: bytes) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        _, unit, pdu = await self.wire.read(reader)
        self.asked.append((unit, pdu))
        loop = asyncio.get_running_loop()
        delay = self.delays.pop(0) if self.delays else 0.0
        if delay is None or pdu[0] in self.deaf_to:
            return
        # One after the other: a unit never overtakes itself.
        at = max(loop.time() + delay, self.busy_until.get(unit, 0.0)) + 1e-5
        self.busy_until[unit] = at
        loop.call_at(at, self._answer, self.wire.frame(0, unit, self._pdu(unit, pdu)))

    def _pdu(self, unit: int, pdu: bytes) -> bytes:
        start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if pdu[0] in self.refuses:
            return bytes([pdu[0] | 0x80, 1])
        if pdu[0] in (3, 4):
            words = b"".join(value_of(unit, a).to_bytes(2, "big") for a in range(start, start + count))
            return bytes([pdu[0], len(words)]) + words
        return pdu if pdu[0] in (6, 8) else bytes([pdu[0] | 0x80, 1])

    def _answer(self, frame: bytes) -> None:
        if self.client is not None:
            self.client.data_received(frame)


def connectors(speaks: str, units: Sequence[int], addresses: Sequence[int]) -> list[ModbusConnector]:
    """One a unit, on one line. One register a request, so that all answers look the same."""
    shared = Shared()
    return [
        ModbusConnector(
            ModbusSettings.model_validate(
                {
                    "name": f"u{unit}",
                    "endpoint": f"{speaks}://plc.test:4001",
                    "unit": unit,
                    "timeout": f"{TIMEOUT_S:g}s",
                    "limits": {"registers_per_request": 1, "gap_max": 0},
                    "groups": [
                        {
                            "name": "all",
                            "interval": "3s",
                            "tags": [
                                {"name": f"t{a}", "address": f"holding:{a}", "type": "uint16"}
                                for a in addresses
                            ],
                        }
                    ],
                }
            ),
            VirtualClock(),
            shared,
        )
        for unit in units
    ]


async def again_and_again(connector: ModbusConnector, link: RecordingLink) -> None:
    """What the supervisor does."""
    while True:
        with suppress(ConnectionLost):
            await connector.run(link)
        await asyncio.sleep(0.7)


def run(device: SlowDevice, plcs: Sequence[ModbusConnector], seconds: float) -> list[RecordingLink]:
    """Let them poll for a while of virtual time."""
    links = [RecordingLink() for _ in plcs]

    async def main() -> None:
        tasks = [asyncio.ensure_future(again_and_again(p, to)) for p, to in zip(plcs, links, strict=True)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    with patch.object(line_module, "open_link", device.opened):
        run_virtually(main())
    return links


def right(links: Sequence[RecordingLink], units: Sequence[int]) -> None:
    """No sample ever showed another register's value."""
    for unit, link in zip(units, links, strict=True):
        for sample in link.samples:
            if sample.quality is Quality.GOOD:
                assert sample.value == value_of(unit, int(sample.tag.partition("/t")[2])), sample


DELAYS = st.lists(
    st.one_of(st.none(), st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, DELAY_S_MAX)), max_size=25
)


@settings(max_examples=150)
@given(speaks=st.sampled_from(["rtu+tcp", "ascii+tcp"]), delays=DELAYS, units=st.sampled_from([(1,), (1, 2)]))
def test_no_value_is_ever_assigned_to_another_register(
    speaks: str, delays: list[float | None], units: tuple[int, ...]
) -> None:
    device = SlowDevice(speaks, delays)
    links = run(device, connectors(speaks, units, (0, 100, 200)), 150.0)
    right(links, units)


@settings(max_examples=100)
@given(
    delays=DELAYS,
    deaf_to=st.frozensets(st.sampled_from([1, 2, 4, 8])),
    refuses=st.frozensets(st.sampled_from([4, 8])),
)
def test_nor_by_a_device_that_knows_few_functions(
    delays: list[float | None], deaf_to: frozenset[int], refuses: frozenset[int]
) -> None:
    device = SlowDevice("rtu+tcp", delays)
    device.deaf_to, device.refuses = deaf_to, refuses
    right(run(device, connectors("rtu+tcp", (1,), (0, 100)), 150.0), (1,))


@pytest.mark.parametrize("deaf_to", [(), (8,), (4, 2, 1), (1, 2, 4, 8)])
def test_after_one_late_answer_the_unit_is_soon_read_again(deaf_to: tuple[int, ...]) -> None:
    device = SlowDevice("rtu+tcp", [0.0, 0.0, 2.5])
    device.deaf_to = frozenset(deaf_to)
    plcs = connectors("rtu+tcp", (1,), (0, 100))
    (link,) = run(device, plcs, 100.0)
    right([link], (1,))
    assert plcs[0].counts.timeouts >= 1
    # The last resort, a device that knows nothing but what it is asked, is the end of what is owed.
    assert len(link.cycles) >= (8 if len(deaf_to) == 4 else 25)
    assert {sample.tag for sample in link.samples} == {"u1/t0", "u1/t100"}


def test_a_line_so_slow_that_an_answer_takes_ten_seconds_is_waited_for() -> None:
    """125 registers at 300 baud; the timeout counts from when the bytes can be there."""
    device = SlowDevice("rtu", [9.0] * 20)
    plc = ModbusConnector(
        ModbusSettings.model_validate(
            {
                "name": "u1",
                "endpoint": "serial:///dev/ttyS0",
                "serial": {"baud": 300},
                "groups": [
                    {
                        "name": "all",
                        "interval": "15s",
                        "tags": [
                            {"name": f"t{a}", "address": f"holding:{a}", "type": "uint16"} for a in (0, 124)
                        ],
                    }
                ],
                "limits": {"gap_max": 123},
            }
        ),
        VirtualClock(),
    )
    (link,) = run(device, [plc], 100.0)
    right([link], (1,))
    assert link.ups == 1, "and nobody thinks that nobody looked"
    assert len(link.cycles) >= 5
    assert plc.counts.timeouts == 0


def test_a_late_answer_costs_one_more_request() -> None:
    device = SlowDevice("rtu+tcp", [0.0, 0.0, 1.5])
    plcs = connectors("rtu+tcp", (1,), (0, 100))
    (link,) = run(device, plcs, 20.0)
    assert plcs[0].counts.late + plcs[0].counts.garbage_bytes > 0
    assert [unit for unit, pdu in device.asked if pdu[0] != 3] == [1], "one probe"
    assert link.ups == 1, "and the connection stays"


def test_a_write_is_not_taken_for_confirmed_by_the_echo_of_an_earlier_one() -> None:
    device = SlowDevice("rtu+tcp", [0.0, 0.0])
    plc = connectors("rtu+tcp", (1,), (0, 100))[0]
    link = RecordingLink()
    outcomes: list[Written] = []

    async def main() -> None:
        task = asyncio.ensure_future(plc.run(link))
        await link.until(lambda: len(link.samples) == 2)
        device.delays = [1.2]
        outcomes.extend(await plc.write([Write("u1/t0", 7)]))
        device.delays = [0.0, None]  # the probe is answered, the second write is lost
        outcomes.extend(await plc.write([Write("u1/t0", 7)]))
        task.cancel()
        await asyncio.wait([task])

    with patch.object(line_module, "open_link", device.opened):
        run_virtually(main())
    assert [written.outcome for written in outcomes] == [WriteOutcome.UNKNOWN, WriteOutcome.UNKNOWN]
    assert len([pdu for _, pdu in device.asked if pdu[0] == 6]) == 2
