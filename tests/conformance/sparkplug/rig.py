"""A whole gateway between a plant of Modbus devices and real brokers, with a tap on every cable to them.

What the plant does is noted in the record before it is done, so that the checks know what a host must come to
hear. The host application is paho's client; it connects to the brokers themselves, not through the taps.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.app import Gateway
from gateway.changing.difference import difference
from gateway.config.load import load
from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.checks_births import REBIRTH
from tests.conformance.sparkplug.story import (
    CHANGED,
    KILLED,
    LOST,
    RESTORED,
    STOPPED,
    WRITTEN,
    Facts,
    Message,
    Metric,
    Story,
    Transcript,
)
from tests.conformance.sparkplug.wire import Closed, Packet, Publish, Record, Suback, Tap, held
from tests.connectors.modbus.device import ScriptedDevice
from tests.support.processes import Mosquitto, Process

GROUP, NODE, HOST = "acme", "line-1", "scada"
WAIT_S = 60.0

#: Where the tags of a machine are, and how they are packed (big-endian, as `order = "ABCD"` says).
ADDRESSES: Mapping[str, tuple[int, str]] = {
    "run": (0, ">H"),
    "speed": (10, ">h"),
    "temp": (20, ">f"),
    "count": (30, ">Q"),
    "level": (40, ">i"),
    "label": (50, ">8s"),
}
_TYPES = {
    "run": "uint16",
    "speed": "int16",
    "temp": "float32",
    "count": "uint64",
    "level": "int32",
    "label": "string(8)",
}
_UNITS = {"speed": "1/min", "temp": "°C"}

MODEL = """name = "machine"
initial = "Off"
states = [
  { name = "Off", code = 0, category = "non-scheduled" },
  { name = "Slow", code = 1, category = "standby" },
  { name = "Fast", code = 2, category = "productive" },
  { name = "Odd", code = 3, category = "unscheduled-down" },
]
transitions = [{ from = "*", to = ["Off", "Slow", "Fast", "Odd"] }]
rules = [
  { state = "Off", when = "run == 0" },
  { state = "Odd", when = "temp > 900 and level < 0 and count > 0 and label == 'odd'" },
  { state = "Fast", when = "speed > 100" },
  { state = "Slow", when = "True" },
]
"""


def _connection(name: str, port: int, tags: Sequence[str], silent: Collection[str] = ()) -> str:
    listed = "\n".join(
        f'  {{ name = "{tag}", address = "holding:{ADDRESSES[tag][0]}", type = "{_TYPES[tag]}", '
        f"publish = {'false' if f'{name}/{tag}' in silent else 'true'}{_unit(tag)} }},"
        for tag in tags
    )
    return (
        f'[[connections]]\nname = "{name}"\nprotocol = "modbus"\nendpoint = "tcp://127.0.0.1:{port}"\n'
        'timeout = "30s"\n'  # a device that is away refuses; nobody is silent
        f'[[connections.groups]]\nname = "all"\ninterval = "50ms"\ntags = [\n{listed}\n]\n'
    )


def _rules(machines: Iterable[str]) -> str:
    """Hosts may write every tag of every machine."""
    rules = "".join(
        f'[[commands.allow]]\nequipment = "{name.removesuffix("-plc")}"\ntag = "{name}/{tag}"\n'
        'via = ["sparkplug"]\n'
        for name in machines
        for tag in ADDRESSES
    )
    return f"[commands]\nenabled = true\n{rules}"


def _unit(tag: str) -> str:
    return f', unit = "{_UNITS[tag]}"' if tag in _UNITS else ""


class Host:
    """A host application on one broker: hears everything of Sparkplug, says STATE and commands."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self.heard: list[Publish] = []

    async def __aenter__(self) -> Host:
        self._client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        await asyncio.to_thread(self._client.connect, "127.0.0.1", self._port)
        self._client.loop_start()
        async with asyncio.timeout(WAIT_S):
            await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def _on_subscribe(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._ready.set)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        heard = Publish(message.topic, bytes(message.payload), message.qos, message.retain)
        self._loop.call_soon_threadsafe(self._hear, heard)

    def _hear(self, heard: Publish) -> None:
        self.heard.append(heard)
        self._news.set()

    async def hears(self, topic: str, *, count: int = 1) -> None:
        """Wait until so many messages came on a topic.

        Raises:
            TimeoutError: they did not.
        """
        async with asyncio.timeout(WAIT_S):
            while self.count(topic) < count:
                self._news.clear()
                await self._news.wait()

    async def say(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Publish; the broker has it when this returns."""
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        await asyncio.to_thread(info.wait_for_publish, WAIT_S)

    async def state(self, online: bool, timestamp: int, *, host: str = HOST) -> None:
        """Say, retained, whether the host is there."""
        said = json.dumps({"online": online, "timestamp": timestamp}).encode()
        await self.say(f"spBv1.0/STATE/{host}", said, retain=True)

    async def command(self, fill: Callable[[Any], None] | bytes, device: str = "", node: str = NODE) -> None:
        """Command the edge node, or a device of it."""
        data = fill
        if callable(fill):
            payload = decoder.empty()
            payload.timestamp = now_ms()
            fill(payload)
            data = payload.SerializeToString()
        assert isinstance(data, bytes)
        kind, end = ("DCMD", f"/{device}") if device else ("NCMD", "")
        await self.say(f"spBv1.0/{GROUP}/{kind}/{node}{end}", data)

    async def ask_rebirth(self, value: bool = True, *, stamped: bool = True, node: str = NODE) -> None:
        """Ask the edge node to be born again."""

        def fill(payload: Any) -> None:
            raw = payload.metrics.add(name=REBIRTH, datatype=decoder.BOOLEAN, boolean_value=value)
            if stamped:
                raw.timestamp = payload.timestamp

        await self.command(fill, node=node)

    def shout_rebirth(self) -> None:
        """Ask for a rebirth and wait for nothing."""
        payload = decoder.empty()
        payload.timestamp = now_ms()
        payload.metrics.add(name=REBIRTH, datatype=decoder.BOOLEAN, boolean_value=True)
        self._client.publish(f"spBv1.0/{GROUP}/NCMD/{NODE}", payload.SerializeToString(), qos=0)

    def count(self, topic: str) -> int:
        """How many messages came on a topic."""
        return sum(heard.topic == topic for heard in self.heard)


def now_ms() -> int:
    """The time as hosts stamp it."""
    return time.time_ns() // 1_000_000


class Machine(ScriptedDevice):
    """A PLC with the tags of a machine."""

    _held: socket.socket | None = None

    async def away(self) -> None:
        """Be gone; the port stays its own."""
        await self.stop()
        self._held = held(self.port)

    async def start(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
        await super().start()

    async def stop(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
        await super().stop()

    def put(self, tag: str, value: Any) -> None:
        address, form = ADDRESSES[tag]
        data = struct.pack(form, value)
        words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        self.hold(address, *words)

    def written(self) -> Iterator[tuple[str, Any]]:
        """Every value that was written to a tag, as often as it was."""
        tags = {address: (tag, form) for tag, (address, form) in ADDRESSES.items()}
        for request in self.requests:
            if request.writes and request.start in tags:
                tag, form = tags[request.start]
                one = request.function in (5, 6)
                data = request.pdu[3:] if one else request.pdu[6:]
                yield tag, struct.unpack(form, data)[0]

    def get(self, tag: str) -> Any:
        address, form = ADDRESSES[tag]
        words = range(address, address + struct.calcsize(form) // 2)
        data = b"".join(self.registers.get(("holding", at), 0).to_bytes(2, "big") for at in words)
        return struct.unpack(form, data)[0]


class Rig:
    """Everything there is in a scenario. `devices` are by the name of their connection."""

    def __init__(self, name: str, directory: Path, **options: Any) -> None:
        self.name = name
        self.directory = directory
        self.record = Record()
        self.brokers: dict[str, Mosquitto] = {}
        self.taps: dict[str, Tap] = {}
        self.hosts: dict[str, Host] = {}
        self.devices: dict[str, Machine] = {}
        self.options = options
        self.facts = Facts(
            {
                node: frozenset(devices)
                for node, devices in options.get("nodes", {f"{GROUP}/{NODE}": ("filler", "oven")}).items()
            },
            options.get("protocol", "5"),
            options.get("primary_host"),
            tuple(options.get("servers", ("one",))),
            options.get("commands", False),
        )
        self.wait_s = WAIT_S
        #: What the configuration leaves out: machines, and tags as `connection/tag`, which are not published.
        self.left_out: Collection[str] = ()
        #: Equipment that is not called as its machine.
        self.names: Mapping[str, str] = {}
        self._run: Gateway | None = None
        self._stop = asyncio.Event()
        self._gateway: asyncio.Task[None] | None = None

    @property
    def host(self) -> Host:
        return self.hosts["one"]

    @property
    def transcript(self) -> Transcript:
        return Transcript(self.name, self.facts, tuple(self.record.packets))

    @property
    def story(self) -> Story:
        return Story(self.transcript)

    # --- the gateway

    def configuration(self, more: str = "") -> Path:
        """Write the configuration of the gateway."""
        (self.directory / "machine.toml").write_text(MODEL, encoding="utf-8")
        brokers = ", ".join(f'"mqtt://127.0.0.1:{tap.port}"' for tap in self.taps.values())
        host = f'primary_host = "{self.facts.primary_host}"\n' if self.facts.primary_host else ""
        commands = "commands = true\n" if self.facts.commands else ""
        sections = self.options.get("sections") or (
            f'[sparkplug]\nbroker = [{brokers}]\ngroup = "{GROUP}"\nprotocol = "{self.facts.protocol}"\n'
            f"{host}{commands}"
        )
        sections = sections.replace("BROKERS", brokers)
        left = self.left_out
        machines = {n: device for n, device in self.devices.items() if n != "hall" and n not in left}
        text = (
            f'[gateway]\nid = "{NODE}"\nenterprise = "acme"\nsite = "berlin"\ndata_dir = "data"\n'
            f"{sections}{more}"
            + "".join(
                _connection(name, device.port, list(ADDRESSES), left) for name, device in machines.items()
            )
            + _connection("hall", self.devices["hall"].port, ["temp"])
        )
        for name in machines:
            bind = ", ".join(f'{tag} = "{name}/{tag}"' for tag in ADDRESSES)
            equipment = self.owner(name)
            text += (
                f'[[equipment]]\nname = "{equipment}"\npath = "{equipment}s/{equipment}"\n'
                f'model = "machine.toml"\nbind = {{ {bind} }}\n'
            )
        if self.facts.commands:
            text += _rules(machines)
        path = self.directory / "andon.toml"
        path.write_text(text, encoding="utf-8")
        return path

    async def start(self) -> None:
        """Start the gateway in this process; it is ready when this returns."""
        ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._run = gateway = Gateway(load(self.configuration()), started=lambda _: ready.set())
        self._gateway = asyncio.create_task(gateway.run(self._stop))
        waiting = asyncio.create_task(ready.wait())
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait({self._gateway, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._gateway.done():
            await self._gateway

    async def configure(self) -> None:
        """Let the gateway that runs take the configuration as it is by now."""
        assert self._run is not None
        new = load(self.configuration())
        await self._run.exchange.apply(new, difference(self._run.exchange.loaded, new))

    def owner(self, connection: str) -> str:
        """The equipment of a machine; empty for what has none."""
        return "" if connection == "hall" else self.names.get(connection, connection.removesuffix("-plc"))

    async def stop(self) -> None:
        """Ask the gateway to stop, as a service manager does."""
        if self._gateway is not None:
            self.record.note(STOPPED)
            self._stop.set()
            await self._gateway
            self._gateway = None

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Process]:
        """The gateway as a process of its own; killed at the end."""
        command = [sys.executable, "-m", "gateway", "run", str(self.configuration()), "--log-json"]
        process = await Process.start(command, self.directory / "gateway.log")
        try:
            yield process
        finally:
            await process.kill()

    def note_kill(self) -> None:
        """Write down which connections end by what comes now."""
        for session in self.story.sessions:
            if session.closed is None:
                self.record.note(KILLED, str(session.number))

    async def quiet(self) -> None:
        """Wait until every connection has ended."""

        def over(packets: list[Packet]) -> bool:
            return all(session.closed is not None for session in self.story.sessions)

        await self.record.until(over, "the end of every connection")

    # --- the plant

    async def change(self, device: str, tag: str, value: Any, *, told: bool = True) -> None:
        """A tag changes; with `told` wait until hosts have been told."""
        after = len(self.record.packets)
        said = value.rstrip(b"\0").decode() if isinstance(value, bytes) else value
        name = f"Tags/{device}/{tag}"
        owner = self.owner(device)
        self.record.note(CHANGED, f"{owner}:{name}", said)
        self.devices[device].put(tag, value)
        if told:
            await self.said(
                ("NDATA", "DDATA", "NBIRTH", "DBIRTH"),
                owner,
                lambda metric: metric.name == name and _same(metric.value, said),
                after=after,
                what=f"{name} = {said!r}",
            )

    async def lose(self, connection: str) -> None:
        """The cable of a PLC is pulled; wait until its device is dead."""
        after = len(self.record.packets)
        owner = connection.removesuffix("-plc")
        self.record.note(LOST, owner)
        self.record.note(CHANGED, f":Connections/{connection}/Online", False)
        await self.devices[connection].away()
        await self.said(("DDEATH",), owner, after=after, what=f"DDEATH of {owner}")

    async def restore(self, connection: str) -> None:
        """The cable of a PLC is back; wait until its device is born."""
        after = len(self.record.packets)
        owner = connection.removesuffix("-plc")
        self.record.note(RESTORED, owner)
        self.record.note(CHANGED, f":Connections/{connection}/Online", True)
        await self.devices[connection].start()
        await self.said(("DBIRTH",), owner, after=after, what=f"DBIRTH of {owner}")

    async def written(self, device: str, tag: str, value: Any) -> None:
        """Wait until a host's value has arrived in the PLC; note it."""
        async with asyncio.timeout(WAIT_S):
            while not _same(self.devices[device].get(tag), value):
                await asyncio.sleep(0.01)
        self.record.note(WRITTEN, f"{device.removesuffix('-plc')}:Tags/{device}/{tag}", value)

    def note_more_writes(self, device: str) -> None:
        """Note what was written to a PLC more often than `written` waited for it."""
        owner = device.removesuffix("-plc")
        noted = Counter((note.about, note.value) for _, note in self.story.noted(WRITTEN))
        for tag, value in self.devices[device].written():
            about = f"{owner}:Tags/{device}/{tag}"
            if noted[about, value] > 0:
                noted[about, value] -= 1
            else:
                self.record.note(WRITTEN, about, value)

    def alias(self, device: str, name: str) -> int:
        """What a metric is called by now."""
        births = [message for message in self.story.of("DBIRTH") if message.device == device]
        metric = births[-1].metric(name)
        assert metric is not None, f"{device} has no metric {name}"
        return int(metric.raw.alias)

    # --- waiting

    def messages(self, after: int = 0) -> list[Message]:
        """What edge nodes said after a packet."""
        return [message for message in self.story.said if message.number > after]

    async def said(
        self,
        kinds: Sequence[str],
        device: str = "",
        metric: Callable[[Metric], bool] | None = None,
        *,
        after: int = 0,
        count: int = 1,
        what: str = "",
    ) -> None:
        """Wait for messages of these kinds and device, with such a metric."""

        def enough(_: list[Packet]) -> bool:
            found = [
                message
                for message in self.messages(after)
                if message.kind in kinds
                and message.device == device
                and (metric is None or any(metric(one) for one in message.metrics))
            ]
            return len(found) >= count

        await self.record.until(enough, what or f"{kinds} of {device!r}", within_s=self.wait_s)

    async def born(self, *devices: str, after: int = 0) -> None:
        """Wait until the edge node and these devices (all, if none is named) are born."""
        await self.said(("NBIRTH",), after=after, what="NBIRTH")
        for device in devices or ("filler", "oven"):
            await self.said(("DBIRTH",), device, after=after, what=f"DBIRTH of {device}")

    async def subscribed(self) -> None:
        """Wait until the broker has granted a subscription."""
        await self.record.until(
            lambda packets: any(isinstance(packet.body, Suback) for packet in packets),
            "a subscription",
            within_s=self.wait_s,
        )

    async def told(self, topic: str, count: int) -> None:
        """Wait until the edge node has been told so much on a topic."""

        def enough(packets: list[Packet]) -> bool:
            heard = [p.body for p in packets if not p.up and isinstance(p.body, Publish)]
            return sum(publish.topic == topic for publish in heard) >= count

        await self.record.until(enough, f"{count} messages on {topic}", within_s=self.wait_s)

    async def closed(self, *, after: int) -> None:
        """Wait for the end of a connection."""
        await self.record.until(
            lambda packets: any(isinstance(packet.body, Closed) for packet in packets),
            "an end",
            after=after,
            within_s=self.wait_s,
        )

    async def published(self, count: int, *, after: int) -> None:
        """Wait until the edge node has published so much more, whatever it is."""

        def enough(packets: list[Packet]) -> bool:
            return sum(p.up and isinstance(p.body, Publish) for p in packets) >= count

        await self.record.until(enough, f"{count} publications", after=after, within_s=2 * WAIT_S)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(value, float):
        return abs(value - wanted) <= 1e-5 * max(1.0, abs(wanted))
    return bool(value == wanted)


@asynccontextmanager
async def rig(name: str, directory: Path, **options: Any) -> AsyncIterator[Rig]:
    """A rig whose plant, brokers, taps and hosts are there; the gateway is not started.

    `servers` are the names of the brokers; `machines` those of the connections beside `hall`.
    """
    made = Rig(name, directory, **options)
    async with AsyncExitStack() as stack:
        for server in made.facts.servers:
            folder = directory / f"broker-{server}"
            folder.mkdir()
            broker = made.brokers[server] = Mosquitto(folder)
            await stack.enter_async_context(broker)
            made.taps[server] = await stack.enter_async_context(Tap(made.record, server, broker.port))
            made.hosts[server] = await stack.enter_async_context(Host(broker.port))
        for number, connection in enumerate((*options.get("machines", ("filler-plc", "oven-plc")), "hall")):
            machine = made.devices[connection] = Machine()
            for tag, value in {"run": 1, "speed": 50 + number, "temp": 20.5, "count": 2**40}.items():
                machine.put(tag, value)
            machine.put("level", -7)
            machine.put("label", b"beer")
            await machine.start()
            stack.push_async_callback(machine.stop)
        stack.push_async_callback(made.stop)
        yield made
