"""Brokers, listeners, a bad network and events to test the publisher with; none of it under test."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from connectors.base import Clock
from gateway.clock import SystemClock
from gateway.config.schema import GatewaySettings, MqttSettings
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.publish.memory import MemoryJournal
from gateway.publish.publisher import MqttPublisher, PublishedTag, StateOf
from statemodel.records import EquipmentState, Recorded, state_after, tell
from statemodel.types import Cause, CauseInput, Conformance, Quality, Recordable, Transition
from tests.support.ports import free_port as free_port

STREAM = "0d6c3b3e-6a54-4a0e-9f37-9b1d5c1c0001"
T0 = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
#: What has to come some day is waited for so long.
WAIT_S = 45.0
_MARK = "mark/retained"
T = TypeVar("T")


# --- events


def transition(equipment: str, sequence: int, to_state: str = "Starting") -> Transition:
    at = T0 + timedelta(seconds=sequence)
    value = CauseInput(f"{equipment}-plc/state", 3, Quality.GOOD, None, at)
    return Transition(
        equipment=equipment,
        path=f"filling/line-1/{equipment}",
        model="packml",
        sequence=sequence,
        from_state="Idle",
        to_state=to_state,
        code=3,
        category="productive",
        at=at,
        duration_s=1.5,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (value,)),
    )


def recorded(seq: int, event: Recordable, at: datetime | None = None) -> Recorded:
    return tell(event, gateway="line-1", stream=STREAM, seq=seq, recorded_at=at or datetime.now(UTC))


def transitions(
    equipment: Sequence[str], count: int, *, after: int = 0, at: datetime | None = None
) -> list[Recorded]:
    """So many transitions, shared in turn by the equipment, numbered from `after + 1`."""
    events = []
    for seq in range(after + 1, after + count + 1):
        name = equipment[seq % len(equipment)]
        events.append(recorded(seq, transition(name, seq, f"State{seq}"), at))
    return events


class Plant:
    """The gateway's truth in a test: a journal and the states its transitions lead to."""

    def __init__(self, *equipment: str) -> None:
        self.journal = MemoryJournal(STREAM)
        self.states: dict[str, EquipmentState] = {}
        self.names = equipment

    async def append(self, *events: Recorded) -> None:
        for event in events:
            if isinstance(event.event, Transition):
                self.states[event.equipment] = state_after(event.event, event.seq)
        await self.journal.append(*events)

    async def happen(self, count: int, *, at: datetime | None = None) -> list[Recorded]:
        """So many further transitions, shared in turn by the equipment."""
        events = transitions(self.names, count, after=self.journal.position.last_seq, at=at)
        await self.append(*events)
        return events

    def equipment(self) -> dict[str, tuple[str, StateOf]]:
        def state_of(name: str) -> StateOf:
            return lambda: self.states.get(name)

        return {name: (f"filling/line-1/{name}", state_of(name)) for name in self.names}

    def publisher(self, settings: MqttSettings, *, clock: Clock | None = None, **more: Any) -> MqttPublisher:
        return MqttPublisher(
            settings,
            journal=self.journal,
            gateway=GATEWAY,
            equipment=self.equipment(),
            clock=clock or SystemClock(),
            tags={"oven-plc/temp": PublishedTag("°C", ("baking/oven-1",)), "hall/air": PublishedTag("°C")},
            random01=lambda: 0.0,
            **more,
        )


class HurriedClock(SystemClock):
    """Waits at most a fifth of a second."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.2))


class Running:
    """A publisher that runs for the length of a `with`; `crash` ends it as a power cut would."""

    def __init__(self, publisher: MqttPublisher) -> None:
        self.publisher = publisher
        self.task = asyncio.create_task(publisher.run())

    async def __aenter__(self) -> MqttPublisher:
        return self.publisher

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until(true: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
    """Wait for something only a figure tells."""
    try:
        async with asyncio.timeout(within_s):
            while not true():  # figures have no event to wait for
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"never came true: {what}")


async def within(waiting: Awaitable[T], within_s: float = WAIT_S) -> T:
    async with asyncio.timeout(within_s):
        return await waiting


# --- brokers


class BrokerUnderTest(Protocol):
    protocol: str

    @property
    def port(self) -> int: ...
    def settings(self, port: int | None = None, **more: Any) -> MqttSettings: ...
    async def start(self) -> None: ...
    async def kill(self) -> None: ...


def find_mosquitto() -> str:
    found = os.environ.get("ANDON_TEST_MOSQUITTO") or shutil.which(
        "mosquitto", path=f"{os.defpath}:/usr/sbin"
    )
    if not found:
        pytest.skip("no mosquitto here; install it or name it in ANDON_TEST_MOSQUITTO")
    return found


class Mosquitto:
    """A real broker that keeps nothing on disk: killed and started again, its store is empty."""

    def __init__(self, binary: str, directory: Path, *, protocol: str) -> None:
        self.protocol = protocol
        self.port = free_port()
        self.listener = f"listener {self.port} 127.0.0.1"
        self.lines = ["allow_anonymous true", "max_queued_messages 100000"]
        self._binary = binary
        self._config = directory / "mosquitto.conf"
        self._log = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, port: int | None = None, **more: Any) -> MqttSettings:
        more.setdefault("protocol", self.protocol)
        return MqttSettings(broker=f"mqtt://127.0.0.1:{port or self.port}", **more)

    async def start(self) -> None:
        self._config.write_text("\n".join([f"user {getpass.getuser()}", self.listener, *self.lines, ""]))
        self._spawn()
        await until(self._listens, "mosquitto listens")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._binary, "-c", str(self._config)], stdout=log, stderr=log)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        listeners = [line.split() for line in (self.listener, *self.lines) if line.startswith("listener ")]
        try:
            for _, port, *_ in listeners:  # they open one after the other
                socket.create_connection(("127.0.0.1", int(port)), timeout=1.0).close()
        except OSError:
            return False
        return True

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None


class Embedded:
    """The broker inside the process."""

    protocol = "3.1.1"

    def __init__(self) -> None:
        self.port = free_port()
        self._broker = EmbeddedBroker(self.port)

    def settings(self, port: int | None = None, **more: Any) -> MqttSettings:
        return MqttSettings(broker="embedded", embedded_port=port or self.port, **more)

    async def start(self) -> None:
        await self._broker.start()

    async def kill(self) -> None:
        await self._broker.stop()


# --- a listener that is not ours


class Heard(NamedTuple):
    topic: str
    payload: bytes
    retain: bool
    qos: int
    late: bool

    @property
    def id(self) -> str:
        found: str = msgspec.json.decode(self.payload)["id"]
        return found

    @property
    def seq(self) -> int:
        found: int = msgspec.json.decode(self.payload)["seq"]
        return found


class Subscriber:
    """paho with its own thread, subscribed to everything with QoS 1."""

    def __init__(
        self, port: int, topic: str = "#", *topics: str, protocol: str = "3.1.1", **login: str
    ) -> None:
        self._port = port
        self._topics = (topic, *topics)
        version = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        if login:
            self._client.username_pw_set(login["user"], login["password"])
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._subscribed = asyncio.Event()
        self.heard: list[Heard] = []

    async def __aenter__(self) -> Subscriber:
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        await asyncio.to_thread(self._client.connect, "127.0.0.1", self._port)
        self._client.loop_start()
        await within(self._subscribed.wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._subscribed.set)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        late = ("late", "true") in getattr(message.properties, "UserProperty", [])
        heard = Heard(message.topic, bytes(message.payload), message.retain, message.qos, late)
        self._loop.call_soon_threadsafe(self._hear, heard)

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._news.set()

    async def say(self, topic: str, payload: bytes) -> None:
        """Publish something retained, and wait for its acknowledgement."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        await asyncio.to_thread(info.wait_for_publish, WAIT_S)

    def on(self, end: str) -> list[Heard]:
        """What came on topics with this ending."""
        return [heard for heard in self.heard if heard.topic.endswith(end)]

    def events(self) -> list[Heard]:
        return [heard for heard in self.heard if "/_event/" in heard.topic]

    async def wait(self, enough: Callable[[], bool], what: str) -> None:
        """Wait for messages until `enough`."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not enough():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"never heard: {what}; heard {len(self.heard)} messages")

    async def wait_ids(self, events: Sequence[Recorded]) -> None:
        """Wait until every event was heard at least once."""
        wanted = {event.id for event in events}
        await self.wait(lambda: wanted <= {heard.id for heard in self.events()}, "every event")


async def retained(port: int, topic: str = "#") -> dict[str, bytes]:
    """What a newcomer is told: subscribe, and ask for a mark that only comes after all of it.

    To the newcomer itself, for it may still be taking what was there when others have long heard the mark.
    """
    async with Subscriber(port, topic, _MARK) as newcomer:
        await newcomer.say(_MARK, b"x")
        await newcomer.wait(lambda: any(m.topic == _MARK for m in newcomer.heard), "the mark")
        async with Subscriber(port, _MARK) as second:
            await second.wait(lambda: len(second.heard) > 0, "the mark")
        await newcomer.say(_MARK, b"")
        return {heard.topic: heard.payload for heard in newcomer.heard if heard.retain}


async def retains(
    port: int, wanted: Callable[[dict[str, bytes]], bool], what: str, topic: str = "#"
) -> dict[str, bytes]:
    """Ask newcomers until what they are told is as wanted."""
    told: dict[str, bytes] = {}
    try:
        async with asyncio.timeout(WAIT_S):
            while not wanted(told := await retained(port, topic)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"never retained: {what}; last was {told}")
    return told


# --- a bad network


class Proxy:
    """A TCP link to a port on loopback that can be cut, or made deaf from the broker's side."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.deaf = False
        """Swallow what the broker says."""
        self.swallowed = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._held: set[asyncio.StreamWriter] = set()
        self._serving = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        while self._serving:  # one that was just being connected is cut as soon as it is
            await asyncio.sleep(0.005)
            self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self.cut_held()

    def cut_half(self) -> None:
        """Reset the client's side only: the broker goes on believing in the old connections."""
        self._held |= {writer for writer in self._writers if writer not in self._clients}
        for writer in self._clients:
            writer.transport.abort()

    def cut_held(self) -> None:
        """Now the broker learns of it."""
        for writer in self._held:
            writer.transport.abort()
        self._held.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving += 1
        try:
            await self._connect(reader, writer)
        finally:
            self._serving -= 1

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        self._clients.add(writer)
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pipe(reader, far_writer, from_broker=False),
                self._pipe(far_reader, writer, from_broker=True),
            )
        self._writers -= both
        self._clients.discard(writer)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_broker: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if from_broker and self.deaf:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        finally:
            if writer not in self._held:
                writer.transport.abort() if self.deaf else writer.close()


class Far(Proxy):
    """A long line: everything a broker says takes its time, in seconds."""

    def __init__(self, target_port: int, takes_s: float) -> None:
        super().__init__(target_port)
        self._takes_s = takes_s

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_broker: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if from_broker:
                    await asyncio.sleep(self._takes_s)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
