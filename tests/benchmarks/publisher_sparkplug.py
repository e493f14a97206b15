"""The measured process of the Sparkplug part: an edge node over a real journal, a device for each equipment.

Does one thing at each order and tells what it took: `births` (connect, say all births; with `drain` tell what
gathered), `storm` (watch what requests for births cost), `live` (moves that are recorded and told at once).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway.garbage import set_aside_what_stays
from gateway.sparkplug.edge_node import EdgeNode
from tests.benchmarks.publisher_mqtt import LOOK_S, peak_mb, rss_mb, say
from tests.gateway.sparkplug.site import Running, Site, site

SINK = "sparkplug"
#: How long it is watched what a storm of requests costs, in seconds: births are at least five apart.
STORM_S = 6.0
_AT_ONCE = 200


class Measured:
    """Time, CPU and memory from here to `done`."""

    def __init__(self) -> None:
        self.before_mb, self.began, self._cpu = rss_mb(), time.monotonic(), time.process_time()

    def done(self, count: int, **more: Any) -> dict[str, Any]:
        """What it took to do something so many times."""
        return {
            "events": count,
            "took_s": time.monotonic() - self.began,
            "cpu_s": time.process_time() - self._cpu,
            "before_mb": self.before_mb,
            "peak_mb": peak_mb(),
            **more,
        }


async def serve(folder: Path, port: int, devices: int, events: int) -> None:
    """Take orders until there are no more."""
    names = [f"machine-{n}" for n in range(devices)]
    async with site(folder, *names, keep="0s") as plant:
        plant.journal.require(SINK, events=True, batches=False)
        if events:
            await plant.happen(events)
        node = plant.node(port, store_tags=False)
        set_aside_what_stays()
        say(ready=plant.journal.position.last_seq)
        order = await _order()
        measured = Measured()
        async with Running(node):
            await _until(node, lambda: node.status().sent > devices)
            say(**measured.done(devices + 1, began=measured.began))
            if order == "births drain":
                await _until(node, lambda: not node.status().lag_events)
                say(**measured.done(events, sent=node.status().sent))
            while order := await _order():
                say(**await _carry_out(order, plant, node))


async def _carry_out(order: str, plant: Site, node: EdgeNode) -> dict[str, Any]:
    word, _, count = order.partition(" ")
    before, measured = node.status(), Measured()
    if word == "storm":
        await asyncio.sleep(STORM_S)
        return measured.done(int(count), births=node.status().births - before.births)
    for _ in range(0, int(count), _AT_ONCE):
        await plant.happen(_AT_ONCE)
    await _until(node, lambda: not node.status().lag_events)
    return measured.done(int(count), sent=node.status().sent - before.sent)


async def _until(node: EdgeNode, true: Any) -> None:
    while not true():
        assert node.status().last_error is None, node.status()
        await asyncio.sleep(LOOK_S)


async def _order() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--events", type=int, default=0, help="that gathered before it is born")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.journal, options.port, options.devices, options.events))


if __name__ == "__main__":
    main()
