"""Events to a broker, with QoS 1: from the journal through the publisher to Mosquitto's acknowledgement.

The publisher has the first core to itself; Mosquitto and who listens share the others. How busy Mosquitto was
is told with every rate: where it was busy all the time, the rate is Mosquitto's. Floors, in the same run: a
bare socket that sends the same bytes from frames made beforehand. Other clients do the same: libmosquitto (C,
by `mosquitto_pub -l`, reading lines; one topic) and paho.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.floor_mqtt import INFLIGHT
from tests.benchmarks.publisher_mqtt import WATCHED
from tests.benchmarks.rig import Teller, alone, aside, cpu_s_of
from tests.support.processes import Mosquitto

EVENTS, BACKLOG = 200_000, 1_000_000
#: paho is slow; so many tell enough.
OF_PAHO = 40_000
ROUNDS = 3
#: Moves of a watched equipment a second, while the backlog is drained.
PACE = 50.0
TOOK_S_MAX = 600.0
GOAL_PER_S, GOAL_US = 40_000.0, 25.0
#: What others were measured at on a machine with cores about a third as fast.
_PEERS = {"libmosquitto": 90_000.0, "paho": 10_600.0}


class Run(msgspec.Struct, frozen=True):
    """What a client did: events, time, its CPU, and that of Mosquitto."""

    events: int
    took_s: float
    cpu_s: float
    broker_s: float = 0.0
    before_mb: float = 0.0
    peak_mb: float = 0.0
    connects: int = 1
    recorded: Sequence[tuple[int, float]] = ()

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.took_s

    @property
    def us(self) -> float:
        """CPU for an event, in microseconds."""
        return self.cpu_s / self.events * 1e6


async def measure(
    directory: Path, *, events: int = EVENTS, backlog: int = BACKLOG, rounds: int = ROUNDS
) -> Sequence[Figure]:
    """All figures of MQTT."""
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
        sys.stderr.write("mqtt: no mosquitto here, so nothing is measured\n")
        return ()
    with aside():
        bench = _Bench(directory, rounds)
        await bench.fill("events", events)
        raw = [await bench.best("floor_mqtt", "raw", "--count", str(events))]
        runs = {
            "events from the journal's files": await bench.best_of_publisher(),
            "events just recorded": await bench.best_of_publisher("--memory"),
            "events, MQTT 3.1.1": await bench.best_of_publisher("--protocol", "3.1.1"),
            "events, as CloudEvents": await bench.best_of_publisher("--cloudevents"),
        }
        raw.append(await bench.best("floor_mqtt", "raw", "--count", str(events)))
        if shutil.which("mosquitto_sub"):
            async with bench.listening():
                runs["events, somebody listens"] = await bench.best_of_publisher()
        others = {"paho": await bench.best("floor_mqtt", "paho", "--count", str(min(events, OF_PAHO)))}
        if shutil.which("mosquitto_pub"):
            others["libmosquitto, by mosquitto_pub"] = await bench.libmosquitto(events)
        drained, told = await bench.drain(backlog)
        raw.append(await bench.best("floor_mqtt", "raw", "--count", str(events)))
    floor = max(raw, key=lambda run: run.per_s)  # taken three times: the machine is not equally quiet always
    runs[f"backlog of {backlog:,}"] = drained
    found = [figure for name, run in runs.items() for figure in _figures(f"mqtt: {name}", run, floor)]
    return [
        *found,
        *told,
        *(figure for name, run in others.items() for figure in _client(f"mqtt: {name}", run)),
    ]


def _figures(name: str, run: Run, raw: Run) -> Sequence[Figure]:
    what = "a bare socket sends the same bytes"
    return [
        Figure(name, run.per_s, "events/s", raw.per_s, what, peers=_PEERS, goal=GOAL_PER_S),
        Figure(f"{name}: CPU", run.us, "us/event", raw.us, what, goal=GOAL_US),
        Figure(f"{name}: Mosquitto busy", run.broker_s / run.took_s, "of its core"),
    ]


def _client(name: str, run: Run) -> Sequence[Figure]:
    return [Figure(name, run.per_s, "events/s"), Figure(f"{name}: CPU", run.us, "us/event")]


class _Bench:
    """Clients, one after the other, each on the first core; the broker and listeners elsewhere."""

    def __init__(self, directory: Path, rounds: int) -> None:
        self._directory, self._rounds = directory, rounds
        self._listened: Mosquitto | None = None

    async def fill(self, name: str, count: int) -> Path:
        """A journal with so many events, to be copied for each client."""
        folder = self._directory / name
        filler = await Teller.start(
            _module("publisher_mqtt", "--journal", str(folder), "--fill", str(count)), self._log
        )
        assert await filler.child.wait() == 0, filler.words()
        return folder

    @property
    def _log(self) -> Path:
        return self._directory / "clients.log"

    async def best(self, *command: str) -> Run:
        """The fastest of some rounds of a client."""
        runs = [await self._once(*command) for _ in range(self._rounds)]
        return max(runs, key=lambda run: run.per_s)

    async def best_of_publisher(self, *options: str) -> Run:
        """The fastest of some rounds of the publisher, each over the same journal."""
        runs = [await self._publisher("events", *options) for _ in range(self._rounds)]
        return max(runs, key=lambda run: run.per_s)

    async def _publisher(self, name: str, *options: str) -> Run:
        folder = self._directory / "journal"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._directory / name, folder)
        return await self._once("publisher_mqtt", "--journal", str(folder), *options)

    async def _once(self, module: str, *options: str) -> Run:
        async with self._broker() as to:
            command = alone(_module(module, *options, "--port", str(to.port)))
            client = await Teller.start(command, self._log)
            assert isinstance(client, Teller)
            try:
                await client.said()
                before = cpu_s_of(to.pid)
                told = await finished(client)
                broker_s = cpu_s_of(to.pid) - before
            finally:
                await client.kill()
        return msgspec.convert({**told, "broker_s": broker_s}, Run)

    @asynccontextmanager
    async def _broker(self) -> AsyncIterator[Mosquitto]:
        """The broker somebody listens to, or a new one."""
        if self._listened is not None:
            yield self._listened
            return
        folder = self._directory / "broker"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        async with Mosquitto(folder) as started:
            yield started

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """A broker with somebody who listens to everything."""
        async with self._broker() as broker:
            self._listened = broker
            command = ["mosquitto_sub", "-q", "1", "-t", "#", "-p", str(broker.port)]
            listener = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
            try:
                yield
            finally:
                self._listened = None
                listener.terminate()
                await listener.wait()

    async def libmosquitto(self, count: int) -> Run:
        """`mosquitto_pub` with the same payloads, from start to end; its start takes some milliseconds."""
        payloads = self._directory / "lines"
        with payloads.open("wb") as file:
            writer = await asyncio.create_subprocess_exec(
                *_module("floor_mqtt", "lines", "--count", str(count)), stdout=file
            )
            assert await writer.wait() == 0
        async with self._broker() as broker:
            topic = "acme/berlin/filling/line-1/filler-1/_event/transition"
            options = ["-p", str(broker.port), "-q", "1", "-M", str(INFLIGHT), "-t", topic, "-l"]
            began, cpu, before = time.monotonic(), _children_s(), cpu_s_of(broker.pid)
            with payloads.open("rb") as file:
                client = await asyncio.create_subprocess_exec(*alone(["mosquitto_pub", *options]), stdin=file)
                assert await client.wait() == 0
            took_s = time.monotonic() - began
            return Run(count, took_s, _children_s() - cpu, cpu_s_of(broker.pid) - before)

    async def drain(self, count: int) -> tuple[Run, Sequence[Figure]]:
        """A long backlog, while an equipment goes on moving."""
        await self.fill("backlog", count)
        async with self._broker() as broker:
            self._listened = broker
            try:
                with _Watcher(broker.port) as watcher:
                    await asyncio.to_thread(watcher.ready)
                    run = await self._publisher("backlog", "--pace", str(PACE))
                    heard = watcher.heard
            finally:
                self._listened = None
        delays = [heard[n] - at for n, at in run.recorded if n in heard]
        name = f"mqtt: backlog of {count:,}"
        return run, [
            Figure(f"{name}: memory", run.peak_mb - run.before_mb, "MB", goal=20.0),
            Figure(f"{name}: states meanwhile, p50", _ms(delays, 50), "ms"),
            Figure(f"{name}: states meanwhile, p99", _ms(delays, 99), "ms", goal=1000.0),
            Figure(f"{name}: states meanwhile, never heard", _unheard(run, heard), "states"),
        ]


def _unheard(run: Run, heard: dict[int, float]) -> float:
    """States after which no newer one was heard either: a newer one may have taken an older one's place."""
    newest = max(heard, default=-1)
    return sum(n > newest for n, _ in run.recorded[:-2])


def _ms(delays: Sequence[float], percent: float) -> float:
    return percentile(delays, percent) * 1000 if delays else float("nan")


def _module(name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.{name}", *options]


async def finished(client: Teller) -> dict[str, Any]:
    """Let a client go and wait for what it says at its end."""
    assert client.child.stdin is not None
    client.child.stdin.write(b"go\n")
    return await at_last(client)


async def at_last(client: Teller) -> dict[str, Any]:
    """The next thing a client says, however long it works before."""
    assert client.child.stdout is not None
    async with asyncio.timeout(TOOK_S_MAX):
        line = await client.child.stdout.readline()
    assert line, client.words()
    told: dict[str, Any] = json.loads(line)
    return told


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watcher:
    """Stamps the states of the watched equipment as they come."""

    def __init__(self, port: int) -> None:
        self.heard: dict[int, float] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._port = port

    def __enter__(self) -> _Watcher:
        self._client.connect("127.0.0.1", self._port)
        return self

    def ready(self) -> None:
        self._client.subscribe(f"acme/berlin/filling/line-0/{WATCHED}/_state", qos=1)
        self._client.loop_start()

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self.heard.setdefault(json.loads(message.payload)["sequence"], time.monotonic())
