"""A Sparkplug B edge node: how long births take, what data costs, how fast what gathered goes out.

The node has the first core to itself; Mosquitto and the host that listens (paho) share the others. Floors, in
the same run: the same messages by the bare protobuf library and a bare socket. Birth time is from the order
to connect to the last DBIRTH at the host. Moves told at once are recorded in the same process: what that
costs is in their figure.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.payload import Metric, Payload, encode
from tests.benchmarks.figures import Figure
from tests.benchmarks.mqtt import Run, at_last, finished
from tests.benchmarks.rig import Teller, alone, aside
from tests.gateway.sparkplug.site import GATEWAY, GROUP
from tests.support.processes import Mosquitto

DEVICES, LIVE, BACKLOG, REQUESTS = 1_000, 100_000, 1_000_000, 1_000
#: So many messages of a kind are kept for the floor.
KEPT = 20_000
WAIT_S = 60.0


async def measure(
    directory: Path, *, devices: int = DEVICES, live: int = LIVE, backlog: int = BACKLOG
) -> Sequence[Figure]:
    """All figures of Sparkplug B."""
    if not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"):
        sys.stderr.write("sparkplug: no mosquitto here, so nothing is measured\n")
        return ()
    with aside():
        async with Mosquitto(directory) as broker:
            found = await _births_and_news(directory, broker, devices, live)
        async with Mosquitto(directory) as broker:
            return [*found, *await _drain(directory, broker, devices, backlog)]


async def _births_and_news(directory: Path, broker: Mosquitto, devices: int, live: int) -> Sequence[Figure]:
    with Host(broker.port) as host:
        async with _node(directory / "news", broker, devices) as node:
            told = await node.ask("births")
            born_s = await host.last("DBIRTH", devices) - told["began"]
            births = host.take()
            storm = await _storm(node, host)
            await asyncio.to_thread(host.wait_quiet)
            host.take()
            live_told = await node.ask(f"live {live}")
            await asyncio.to_thread(host.wait_quiet)
            data = host.take()
    floor = await _floor(directory, broker, births)
    floor_of_data = await _floor(directory, broker, data)
    cost, news = msgspec.convert(told, Run), msgspec.convert(live_told, Run)
    per_move = live_told["sent"] / live
    name, what = f"sparkplug: birth of {devices:,} equipment", "bare protobuf and socket, the same messages"
    return [
        Figure(name, born_s, "s", floor.took_s, what, goal=10.0),
        Figure(f"{name}: CPU", cost.us, "us/message", floor.us, what),
        Figure(f"{name}: payloads", sum(len(payload) for _, payload in births), "bytes"),
        Figure(f"sparkplug: {REQUESTS:,} requests for births: answered", storm["births"], "births", goal=1.0),
        Figure(f"sparkplug: {REQUESTS:,} requests for births: CPU", storm["cpu_s"] * 1e3, "ms"),
        Figure("sparkplug: moves recorded and told", news.per_s, "events/s", floor_of_data.per_s, what),
        Figure("sparkplug: moves recorded and told: CPU", news.us, "us/event", floor_of_data.us, what),
        Figure("sparkplug: moves recorded and told: messages", per_move, "a move"),
    ]


async def _storm(node: Teller, host: Host) -> dict[str, float]:
    """What a host costs that asks for births again and again."""
    watching = asyncio.create_task(node.ask(f"storm {REQUESTS}"))
    await asyncio.to_thread(host.ask_for_births, REQUESTS)
    return await watching


async def _drain(directory: Path, broker: Mosquitto, devices: int, backlog: int) -> Sequence[Figure]:
    with Host(broker.port) as host:
        async with _node(directory / "drain", broker, devices, "--events", str(backlog)) as node:
            await node.ask("births drain")
            told = await at_last(node)
            await asyncio.to_thread(host.wait_quiet)
            data = [message for message in host.take() if "/DDATA/" in message[0]]
    run, floor = msgspec.convert(told, Run), await _floor(directory, broker, data)
    name = f"sparkplug: backlog of {backlog:,}"
    messages = told["sent"]
    what = "bare protobuf and socket, the same messages"
    return [
        Figure(name, run.per_s, "events/s", floor.per_s * backlog / messages, what),
        Figure(f"{name}: CPU", run.us, "us/event", floor.us * messages / backlog, what),
        Figure(f"{name}: memory", run.peak_mb - run.before_mb, "MB", goal=50.0),
    ]


@asynccontextmanager
async def _node(folder: Path, broker: Mosquitto, devices: int, *more: str) -> AsyncIterator[Teller]:
    """The measured edge node, ready to connect."""
    options = ["--journal", str(folder), "--port", str(broker.port), "--devices", str(devices), *more]
    command = alone([sys.executable, "-m", "tests.benchmarks.publisher_sparkplug", *options])
    node = await Teller.start(command, folder.with_name("node.log"))
    assert isinstance(node, Teller)
    try:
        async with asyncio.timeout(WAIT_S * 5):
            await node.said()
        yield node
    finally:
        await node.kill()


async def _floor(directory: Path, broker: Mosquitto, messages: Sequence[tuple[str, bytes]]) -> Run:
    path = directory / "messages"
    path.write_bytes(msgspec.msgpack.encode(list(messages)))
    module = ["-m", "tests.benchmarks.floor_sparkplug", "--messages", str(path), "--port", str(broker.port)]
    client = await Teller.start(alone([sys.executable, *module]), directory / "floor.log")
    assert isinstance(client, Teller)
    try:
        await client.said()
        return msgspec.convert(await finished(client), Run)
    finally:
        await client.kill()


class Host:
    """Keeps what it hears of the edge node, with when the last of each verb came; can ask for births."""

    def __init__(self, port: int) -> None:
        self._heard: list[tuple[str, bytes]] = []
        self._counts: dict[str, int] = {}
        self._last: dict[str, float] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"spBv1.0/{GROUP}/+/{GATEWAY.id}/#")
        self._client.loop_start()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    async def last(self, verb: str, count: int) -> float:
        """When the last of so many messages of a kind came (CLOCK_MONOTONIC)."""
        async with asyncio.timeout(WAIT_S):
            while self._counts.get(verb, 0) < count:
                await asyncio.sleep(0.01)
        return self._last[verb]

    def take(self) -> list[tuple[str, bytes]]:
        """What was heard since it was last taken, the first of it."""
        taken, self._heard = self._heard, []
        return taken

    def wait_quiet(self) -> None:
        """Return when nothing has come for a while."""
        while time.monotonic() - max(self._last.values(), default=0.0) < 0.5:
            time.sleep(0.05)

    def ask_for_births(self, times: int) -> None:
        """NCMD with Node Control/Rebirth, as fast as the client goes."""
        rebirth = encode(
            Payload(None, None, (Metric("Node Control/Rebirth", None, DataType.BOOLEAN, True, None),))
        )
        for _ in range(times):
            self._client.publish(f"spBv1.0/{GROUP}/NCMD/{GATEWAY.id}", rebirth)

    def _take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        verb = message.topic.split("/")[2]
        self._last[verb] = time.monotonic()
        self._counts[verb] = self._counts.get(verb, 0) + 1
        if len(self._heard) < KEPT:
            self._heard.append((message.topic, bytes(message.payload)))
