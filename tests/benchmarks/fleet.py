"""W3: many Modbus devices of fifty tags read once a second: does a tag cost the same in a fleet of any size?

One register in a hundred changes a second; each device has a state word that drives an equipment and moves
every half minute or so. Start-up is from the command to the last equipment's state at a subscriber.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import rig
from tests.benchmarks.figures import Figure
from tests.benchmarks.modbus import write_config

SIZES = (20, 200, 1000)
REGISTERS = 50
PERIOD_MS = 1000.0
WARM_UP_S, WINDOW_S = 4.0, 20.0


async def measure(
    directory: Path,
    *,
    sizes: Sequence[int] = SIZES,
    warm_up_s: float = WARM_UP_S,
    window_s: float = WINDOW_S,
) -> Sequence[Figure]:
    """All figures of W3."""
    figures: list[Figure] = []
    first_us: float | None = None
    with rig.aside():
        for size in sizes:
            scratch = directory / str(size)
            scratch.mkdir()
            found = await _fleet(scratch, size, warm_up_s, window_s, first_us)
            first_us = first_us or found[0].value
            figures += found
    return figures


async def _fleet(
    directory: Path, size: int, warm_up_s: float, window_s: float, first_us: float | None
) -> Sequence[Figure]:
    options = (
        *("--devices", size, "--registers", REGISTERS, "--changes", size * REGISTERS / 100),
        *("--dwell", 10, 60, "--codes", *rig.CODES),
    )
    async with (
        rig.plant(directory, "tests.benchmarks.plant_modbus", *options) as simulated,
        rig.broker(directory) as broker,
    ):
        config = write_config(directory, broker, simulated.first["ports"], REGISTERS, PERIOD_MS)
        with rig.States(broker) as states:
            began = time.monotonic()
            async with rig.gateway(config) as process:
                up_s = await states.known(size, process) - began
                await rig.window(process, simulated, warm_up_s)
                spent = await rig.window(process, simulated, window_s)
        told = rig.delays(await rig.walked(simulated, directory), states, spent)
    name = f"W3, {size} devices" + (f" ({broker.name})" if broker.url == "embedded" else "")
    waits = "the period's own wait"
    return [
        Figure(f"{name}: CPU per tag read", spent.us, "us", first_us, f"a tag of {SIZES[0]} devices"),
        Figure(f"{name}: share of a core", spent.core * 100, "%"),
        Figure(f"{name}: memory", spent.rss_mb, "MB"),
        Figure(f"{name}: tags read", spent.rate, "1/s", float(size * REGISTERS), "as asked"),
        Figure(f"{name}: command to all up", up_s, "s"),
        Figure(f"{name}: state word to MQTT, p50", told.ms(50), "ms", PERIOD_MS / 2, waits),
        Figure(f"{name}: state word to MQTT, p99", told.ms(99), "ms", PERIOD_MS, waits),
        Figure(f"{name}: state changes lost, of {told.due}", told.lost, "changes", goal=0),
    ]
