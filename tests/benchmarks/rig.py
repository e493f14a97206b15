"""What the parts that measure a whole gateway share: processes on their cores, windows, matched latencies.

The measured process runs alone on the first core and everything else (plant, broker, this program) on the
others, as the peers were measured. CPU is user and system time of the process and its children over a window.
Latency is from the plant's ledger to the arrival of the MQTT message, both by CLOCK_MONOTONIC of one machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from statemodel.builtin import BUILTIN
from tests.benchmarks.figures import percentile
from tests.support.processes import Mosquitto, Process, free_port

MODEL = "packml"
#: The state words' walk: every move is in the table, and the last leads back to the first.
CODES = (15, 4, 3, 6, 16, 17)
READY_S_MAX = 120.0
#: A change later than this before the end of a window may still be on its way (half a window at most).
TAIL_S_MAX = 3.0

#: A machine's number, its new code, and when.
Change = tuple[int, int, float]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_NAME_OF = {state.code: state.name for state in BUILTIN[MODEL].states}
_CORES = sorted(os.sched_getaffinity(0))


@contextmanager
def aside() -> Iterator[None]:
    """Leave the first core to what is measured; children started meanwhile stand aside too."""
    if len(_CORES) > 1:
        os.sched_setaffinity(0, _CORES[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)


def alone(command: Sequence[str]) -> list[str]:
    """A command on the first core."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(_CORES[0]), *command] if taskset and len(_CORES) > 1 else [*command]


class Teller(Process):
    """A plant: answers orders with one line of JSON each."""

    first: Mapping[str, Any]

    async def ask(self, order: str) -> dict[str, Any]:
        """Give an order and return what it says."""
        assert self.child.stdin is not None
        self.child.stdin.write(order.encode() + b"\n")
        await self.child.stdin.drain()
        return await self.said()

    async def said(self) -> dict[str, Any]:
        """The next line it says."""
        assert self.child.stdout is not None
        async with asyncio.timeout(READY_S_MAX):
            line = await self.child.stdout.readline()
        assert line, self.words()
        said: dict[str, Any] = json.loads(line)
        return said


@asynccontextmanager
async def plant(directory: Path, module: str, *options: object) -> AsyncIterator[Teller]:
    """A plant that serves; `first` is what it said when it was ready."""
    command = [sys.executable, "-m", module, *map(str, options)]
    process = await Teller.start(command, directory / f"{module.rpartition('.')[2]}.log")
    assert isinstance(process, Teller)
    try:
        process.first = await process.said()
        yield process
    finally:
        await process.kill()


@asynccontextmanager
async def measured(directory: Path, *command: str) -> AsyncIterator[Process]:
    """A process alone on its core."""
    process = await Process.start(alone([sys.executable, "-m", *command]), directory / "measured.log")
    try:
        yield process
    finally:
        await process.kill()


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[Process]:
    """The whole gateway, alone on its core; asked to stop at the end."""
    async with measured(config.parent, "gateway", "run", str(config), "--log-json") as process:
        yield process
        if process.child.returncode is None:
            await process.end(signal.SIGTERM)


@dataclass(frozen=True)
class Broker:
    """Where messages go, and what to call it."""

    url: str
    port: int
    name: str


@asynccontextmanager
async def broker(directory: Path) -> AsyncIterator[Broker]:
    """Mosquitto where there is one; else the gateway's own, whose cost is then in the gateway's figures."""
    if os.environ.get("ANDON_TEST_MOSQUITTO") or shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
        async with Mosquitto(directory) as mosquitto:
            yield Broker(f"mqtt://127.0.0.1:{mosquitto.port}", mosquitto.port, "Mosquitto")
    else:
        port = free_port()
        yield Broker("embedded", port, "the embedded broker")


def head_of_config(to: Broker) -> str:
    """The first sections of a configuration: journal and MQTT on, nothing else."""
    port = f"embedded_port = {to.port}\n" if to.url == "embedded" else ""
    return (
        '[gateway]\nid = "bench"\nenterprise = "bench"\nsite = "here"\ndata_dir = "./data"\n'
        f'log_level = "warning"\n[mqtt]\nbroker = "{to.url}"\n{port}'
    )


def equipment(name: str, tag: str) -> str:
    """The configuration of one equipment driven by a state word."""
    path = f"hall/line/{name}"
    return f'[[equipment]]\nname = "{name}"\npath = "{path}"\nmodel = "{MODEL}"\nstate = "{tag}"\n'


class States:
    """Listens to all state topics and stamps what arrives."""

    def __init__(self, to: Broker) -> None:
        self.seen: dict[str, list[tuple[str, float]]] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("bench/here/hall/line/+/_state", qos=1)
        self._client.on_message = self._take
        self._client.connect_async("127.0.0.1", to.port)

    def __enter__(self) -> States:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        at = time.monotonic()
        name = message.topic.rsplit("/", 2)[1]
        self.seen.setdefault(name, []).append((json.loads(message.payload)["state"], at))

    async def known(self, count: int, process: Process) -> float:
        """Wait until so many equipment are in a known state; when the last of them was."""
        async with asyncio.timeout(READY_S_MAX):
            while True:
                firsts = [
                    min(at for state, at in messages if state != "Unknown")
                    for messages in list(self.seen.values())
                    if any(state != "Unknown" for state, _ in messages)
                ]
                if len(firsts) >= count:
                    return max(firsts)
                if process.child.returncode is not None:
                    raise RuntimeError(f"the gateway ended: {process.words()}")
                await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Window:
    """What a process did in a while. `values` counts what the plant handed out; times are CLOCK_MONOTONIC."""

    began: float
    ended: float
    cpu_s: float
    rss_mb: float
    values: float

    @property
    def core(self) -> float:
        """Share of one core."""
        return self.cpu_s / (self.ended - self.began)

    @property
    def us(self) -> float:
        """CPU per value, in microseconds."""
        return self.cpu_s * 1e6 / self.values if self.values else float("nan")

    @property
    def rate(self) -> float:
        """Values per second."""
        return self.values / (self.ended - self.began)


async def window(process: Process, simulated: Teller, seconds: float) -> Window:
    """Watch a process for a while."""
    pid = process.child.pid
    first, cpu_s = await simulated.ask("stats"), cpu_s_of(pid)
    rss_mb = 0.0
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 1.0))
        rss_mb = max(rss_mb, _rss_mb(pid))
    if process.child.returncode is not None:
        raise RuntimeError(f"what was measured ended: {process.words()}")
    cpu_s = cpu_s_of(pid) - cpu_s
    last = await simulated.ask("stats")
    return Window(first["at"], last["at"], cpu_s, rss_mb, last["values"] - first["values"])


async def floor(process: Process, simulated: Teller, seconds: float) -> Window:
    """Watch a floor from a moment after the plant has begun to serve it."""
    served = 0.0
    async with asyncio.timeout(READY_S_MAX):
        while not served:
            served = (await window(process, simulated, 0.1)).values
    await window(process, simulated, min(1.0, seconds))
    return await window(process, simulated, seconds)


@dataclass(frozen=True)
class Delays:
    """From the change in the plant to its message, in seconds; `due` changes were to be told."""

    found: Sequence[float]
    due: int

    @property
    def lost(self) -> int:
        """Changes of which nothing was heard."""
        return self.due - len(self.found)

    def ms(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return percentile(self.found, percent) * 1000 if self.found else float("nan")


async def walked(simulated: Teller, directory: Path) -> Sequence[Change]:
    """The ledger of a plant that keeps it in memory."""
    path = directory / "changes.json"
    await simulated.ask(f"ledger {path}")
    found: Sequence[Change] = json.loads(path.read_text(encoding="utf-8"))
    return found


def delays(ledger: Sequence[Change], seen: States, within: Window) -> Delays:
    """Match the state changes of a window, less its tail, with the messages."""
    changes: dict[str, list[tuple[int, float]]] = {}
    for number, code, at in ledger:
        changes.setdefault(name_of(number), []).append((code, at))
    found: list[float] = []
    due = 0
    last = within.ended - min(TAIL_S_MAX, (within.ended - within.began) / 2)
    for name, row in changes.items():
        messages = seen.seen.get(name, [])
        place = 0
        # After a whole round the same state comes again: a message from then on is about that one.
        round_ = len({code for code, _ in row})
        rounds = [*(at for _, at in row[round_:]), *([float("inf")] * round_)]
        for (code, at), until in zip(row, rounds, strict=False):
            if not within.began <= at <= last:
                continue
            due += 1
            while place < len(messages) and messages[place][1] < at:
                place += 1
            for state, heard in messages[place:]:
                if heard >= until:
                    break
                if state == _NAME_OF[code]:
                    found.append(heard - at)
                    break
    return Delays(found, due)


def name_of(number: int) -> str:
    """What a numbered machine is called."""
    return f"m-{number}"


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(word) for word in path.read_text().split()]
            except OSError:
                continue
    return found


def cpu_s_of(pid: int) -> float:
    """User and system time in seconds: to the nanosecond where the scheduler tells, else in clock ticks."""
    found = 0.0
    for one in _tree(pid):
        try:
            counts = [path.read_text() for path in Path(f"/proc/{one}/task").glob("*/schedstat")]
            if counts:
                found += sum(int(count.split()[0]) for count in counts) / 1e9
            else:
                stat = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                found += sum(map(int, stat[11:13])) / _TICKS
        except OSError:
            continue
    return found


def _rss_mb(pid: int) -> float:
    pages = 0
    for one in _tree(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * _PAGE_MB
