"""A link that comes and goes a thousand times leaves nothing behind: no task, no socket, no memory."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from connectors.modbus.config import ModbusSettings
from connectors.protocol import Environment
from connectors.registry import default_registry
from gateway.supervisor import Supervised
from statemodel.types import DeviceEvent, Gap, SampleBatch, SourceLost, SourceRestored
from tests.support.small_plc import SmallPlc

#: Flaps that are counted; as many again come first, until everything has its final size.
FLAPS = 1_000 if os.environ.get("ANDON_TEST_PROFILE") == "long" else 100
WARM_UP = 50
#: Memory that may be left over, however many flaps there were: what Python keeps for itself.
LEFT_BYTES_MAX = 30_000


class Impatient:
    """A clock whose pauses between two sessions are over at once; those within a session last."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0 if seconds > 0.3 else seconds)


class Counter:
    """Takes the place of the pipeline: keeps counts, not events."""

    def __init__(self) -> None:
        self.lost = self.restored = self.batches = 0
        self.news = asyncio.Event()

    async def offer(self, event: SampleBatch | SourceLost | SourceRestored | Gap | DeviceEvent) -> None:
        self.lost += isinstance(event, SourceLost)
        self.restored += isinstance(event, SourceRestored)
        self.batches += isinstance(event, SampleBatch)
        self.news.set()

    def seen(self, _connection: str, _at: datetime) -> None:
        pass

    def read(self, _connection: str, _group: str, _at: datetime) -> None:
        pass


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def flap(plc: SmallPlc, counter: Counter, times: int) -> None:
    """Each time the device has been read, its connection is reset."""
    for _ in range(times):
        seen = counter.batches
        async with asyncio.timeout(45):
            while counter.batches == seen:
                counter.news.clear()
                await counter.news.wait()
        plc.cut()
        plc.asked_s.clear()


async def test_a_link_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    plc, counter, clock = SmallPlc(), Counter(), Impatient()
    await plc.start()
    group = {
        "name": "all",
        "interval": "20ms",
        "tags": [{"name": "x", "address": "holding:0", "type": "uint16"}],
    }
    settings = ModbusSettings.model_validate(
        {"name": "plc", "protocol": "modbus", "endpoint": f"tcp://127.0.0.1:{plc.port}", "groups": [group]}
    )
    connector = (
        default_registry().protocols["modbus"].build(settings, Environment(clock=clock, data_dir=tmp_path))
    )
    supervised = Supervised(settings, connector, counter, clock)  # type: ignore[arg-type]
    task = asyncio.create_task(supervised.run())
    tracemalloc.start()
    try:
        await flap(plc, counter, WARM_UP)
        gc.collect()
        tasks, files, memory = len(asyncio.all_tasks()), open_files(), tracemalloc.get_traced_memory()[0]

        await flap(plc, counter, FLAPS)

        async with asyncio.timeout(45):  # the last one is up again, as it was at the first count
            while len(asyncio.all_tasks()) > tasks or open_files() > files:
                await asyncio.sleep(0.01)
        gc.collect()
        left_bytes = tracemalloc.get_traced_memory()[0] - memory
    finally:
        tracemalloc.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await plc.stop()

    assert left_bytes < LEFT_BYTES_MAX
    assert plc.connections >= WARM_UP + FLAPS
    assert counter.lost >= WARM_UP + FLAPS - 1, "each loss is told"
    assert counter.restored >= WARM_UP + FLAPS
    assert supervised.surprises == 0
