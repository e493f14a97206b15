"""The REST face: requests a second, streams told to many clients, and what a thousand of them cost a gateway.

Requests go to a whole gateway whose plant stands still, beside a route of the same framework that returns
ready bytes. Then its plant runs, and changes of state are timed from the PLC to a client of the event stream
without and with a thousand other streams and 200 requests a second. Load comes from processes of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.demo.site import write_site
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.latency import SCENARIO, delays_of
from tests.support.processes import READY_S_MAX, GatewayProcess, Plant, Process, free_port, gateway, plant

STATE = "/api/v1/equipment/filler-1/state"
ROUTES = {
    "state": STATE,
    "transitions": "/api/v1/equipment/filler-1/transitions?limit=20",
    "timeline": "/api/v1/equipment/filler-1/timeline?limit=20",
}
GOAL_OF_STATE = 0.8
FANOUT_CLIENTS, FANOUT_EVENTS = 100, 3000
IDLE_STREAMS, BESIDE_PER_S = 1000, 200.0
FOR_S = 4.0
MACHINES = ("filler-1", "capper-1", "labeller-1", "palletiser-1")
_FLOOR_IS = "a FastAPI route of ready bytes"


async def measure(directory: Path) -> Sequence[Figure]:
    """All figures of the REST face."""
    figures = [*await fanout(directory)]
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(plant(directory, str(SCENARIO), seed=7))
        port = free_port()
        values = {**simulated.servers, "listen": f"127.0.0.1:{port}", "mqtt_port": str(free_port())}
        values |= {"historian": "embedded", "broker": "embedded"}
        config = write_site(directory, values)
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("[api]\n", "[api]\nrate = 0\n"), encoding="utf-8")
        running = await stack.enter_async_context(gateway(config, port))
        await running.until(lambda report: all(part["ok"] for part in report["parts"].values()))
        figures += await _requests(directory, running, port)
        figures += await _beside(directory, simulated, port)
        await running.stop()
    return figures


@asynccontextmanager
async def child(directory: Path, *command: str) -> AsyncIterator[Process]:
    """A module as a process of its own, gone at the end."""
    process = await Process.start([sys.executable, "-m", *command], directory / "load.log")
    try:
        yield process
    finally:
        await process.kill()


async def _line(process: Process) -> dict[str, Any]:
    """The next thing it says."""
    assert process.child.stdout is not None
    async with asyncio.timeout(120):
        line = await process.child.stdout.readline()
    assert line, process.words()
    return dict(json.loads(line))


async def load(
    directory: Path, port: int, path: str, *options: str, pid: int | None = None
) -> dict[str, Any]:
    """What `load_rest` says of one path; with `cpu_us` a request of the process that served it."""
    command = ("tests.benchmarks.load_rest", str(port), path, "--for", str(FOR_S), *options)
    before_us = 0.0 if pid is None else cpu_us(pid)
    async with child(directory, *command) as process:
        told = await _line(process)
    assert set(told["statuses"]) == {"200"}, told
    return told if pid is None else {**told, "cpu_us": (cpu_us(pid) - before_us) / told["answered"]}


def cpu_us(pid: int) -> float:
    """Processor time a process has taken with all its threads."""
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e6


# Requests ---------------------------------------------------------------------------------------------------


async def _requests(directory: Path, running: GatewayProcess, port: int) -> Sequence[Figure]:
    figures: list[Figure] = []
    async with httpx.AsyncClient(base_url=running.url) as http:
        sizes = {name: len((await http.get(path)).content) for name, path in ROUTES.items()}
    key_file = running.config.parent / "data" / "access" / "local.key"
    keys = {"": ()} | ({", with a key": ("--key", key_file.read_text().strip())} if key_file.exists() else {})
    for name, path in ROUTES.items():
        floor_port = free_port()
        ready = ("tests.benchmarks.floor_rest", str(floor_port), str(sizes[name]))
        async with child(directory, *ready) as trivial:
            await until_listening(floor_port)
            for how, options in keys.items():
                floor = await load(directory, floor_port, "/ready", pid=trivial.child.pid)
                told = await load(directory, port, path, *options, pid=running.pid)
                title = f"rest: {name}{how}, 32 connections"
                goal = floor["per_s"] * GOAL_OF_STATE if name == "state" else None
                figures += [
                    Figure(title, told["per_s"], "requests/s", floor["per_s"], _FLOOR_IS, goal=goal),
                    Figure(f"{title}, p99", told["p99_ms"], "ms", floor["p99_ms"], _FLOOR_IS),
                    Figure(f"{title}, CPU", told["cpu_us"], "us/request", floor["cpu_us"], _FLOOR_IS),
                ]
    return figures


async def until_listening(port: int) -> None:
    """Return when somebody listens there."""
    async with asyncio.timeout(READY_S_MAX):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


# Streams ----------------------------------------------------------------------------------------------------


async def fanout(directory: Path) -> Sequence[Figure]:
    """Events told to many clients."""
    floor = await _told_by(directory, "floor", "sse")
    figures = []
    for form, name in (("sse", "server-sent events"), ("ws", "WebSocket")):
        rate = await _told_by(directory, "api", form)
        title = f"rest: events told to {FANOUT_CLIENTS} clients by {name}"
        figures.append(
            Figure(title, rate, "events/s", floor, "the same bytes written by the event loop alone")
        )
    return figures


async def _told_by(directory: Path, server: str, form: str) -> float:
    """Events a second told to all clients together."""
    command = ("tests.benchmarks.fanout_rest", server, str(FANOUT_EVENTS))
    async with child(directory, *command) as served:
        port = (await _line(served))["port"]
        options = ("--clients", str(FANOUT_CLIENTS), "--events", str(FANOUT_EVENTS))
        async with child(directory, "tests.benchmarks.load_streams", str(port), form, *options) as clients:
            await _line(clients)
            assert served.child.stdin is not None
            served.child.stdin.write(b"go\n")
            await served.child.stdin.drain()
            told = await _line(clients)
    assert told["lost"] == 0, told
    return float(told["told"] / told["took_s"])


# Beside a gateway that works --------------------------------------------------------------------------------


async def _beside(directory: Path, simulated: Plant, port: int) -> Sequence[Figure]:
    """Changes of state timed at a client of the stream: alone, then beside many others."""
    seen: list[tuple[str, str, int, float]] = []
    watching = asyncio.create_task(_watch(port, seen))
    await simulated.order(go=True)
    await asyncio.sleep(3)
    alone_s = time.monotonic()
    await asyncio.sleep(12)
    streams = ["tests.benchmarks.load_streams", str(port), "sse", "--clients", str(IDLE_STREAMS)]
    idle = ("--types", "correction")  # there are none
    async with child(directory, *streams, *idle) as clients:
        await _line(clients)
        beside_s = time.monotonic()
        asked = await load(directory, port, STATE, "--rate", str(BESIDE_PER_S), "--for", "12")
        end_s = time.monotonic()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    ledger = simulated.ledger()
    spans = {"alone": (alone_s, beside_s - 3), "beside": (beside_s, end_s)}
    delays = {
        name: [
            delay
            for machine in MACHINES
            for delay in delays_of(
                machine, seen, [line for line in ledger if begin_s <= float(str(line["mono"])) < stop_s - 0.5]
            )
        ]
        for name, (begin_s, stop_s) in spans.items()
    }
    what = f"{IDLE_STREAMS} streams and {BESIDE_PER_S:g} requests/s"
    figures = [
        Figure(
            f"rest: PLC to event stream beside {what}, p{percent}",
            percentile(delays["beside"], percent) * 1000,
            "ms",
            percentile(delays["alone"], percent) * 1000,
            "the same gateway without them",
        )
        for percent in (50, 99)
    ]
    return [
        *figures,
        Figure(f"rest: state beside {what}, p99", asked["p99_ms"], "ms"),
        Figure(f"rest: state beside {what}", asked["per_s"], "requests/s", BESIDE_PER_S, "what is asked"),
        Figure(f"rest: changes timed beside {what}", len(delays["beside"]), "changes"),
    ]


async def _watch(port: int, seen: list[tuple[str, str, int, float]]) -> None:
    timeout = httpx.Timeout(10, read=60)
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=timeout) as http,
        http.stream("GET", "/api/v1/events?types=transition") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                at = time.monotonic()
                event = json.loads(line[5:])
                seen.append((event["equipment"], event["to_state"], event["sequence"], at))
