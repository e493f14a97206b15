"""The broker is killed again and again under load, its store kept or lost: all arrives, states stay true.

A hundred times here; `ANDON_TEST_PROFILE=long` a thousand times. Journal and broker are real, on a disk and a
Mosquitto. A tap on the cable between them tells what was said and acknowledged; a listener with a lasting
session that asks for what it sees missing, as docs/mqtt.md tells it to, must end with exactly the journal.
Pauses between attempts are shortened, so that a hundred lives take a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.clock import SystemClock
from gateway.config.schema import GatewaySettings, JournalSettings, MqttSettings
from gateway.journal import Journal
from gateway.publish import payloads
from gateway.publish.publisher import MqttPublisher
from statemodel.records import EquipmentState, Recorded, state_after, tell
from statemodel.types import Transition
from tests.benchmarks.journal import START, transition
from tests.support.mqtt_tap import Acked, Ledger, Sent, Tap
from tests.support.processes import Mosquitto

LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
KILLS = 1_000 if LONG else 100
GATEWAY = GatewaySettings(id="line-1", enterprise="acme", site="berlin")
#: Longest wait for a state to be true again after a broker is back, in seconds: on a busy machine, too.
TRUE_WITHIN_S = 60.0
#: What was acknowledged so shortly before an end is said again: two seconds, less what the tap takes.
SAID_AGAIN_S = 1.5
#: A broker that stands still is killed after this, in seconds: what was on its way is older than what is said
#: again anyway.
FROZEN_S = 2.5
#: Machines, and how many of them move at once how often.
MACHINES, AT_ONCE, EVERY_S = 40, 8, 0.015
BACKLOG = 1_500


class _Numbered(msgspec.Struct):
    seq: int


def number_of(payload: bytes) -> int:
    """The `seq` of a state or an event."""
    return msgspec.json.decode(payload, type=_Numbered).seq


class Impatient(SystemClock):
    """Waits at most a tenth of a second."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.1))


class Line:
    """Machines that move all the time; their events are in the journal before anybody hears of them."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.states: dict[str, EquipmentState] = {}
        self._moves = 0
        self._go = asyncio.Event()
        self._go.set()
        self.stopped = False

    async def move(self, count: int) -> None:
        """So many moves, made durable at once."""
        moves = [transition(n) for n in range(self._moves, self._moves + count)]
        self._moves += count
        for event in await self.journal.append(moves):
            assert isinstance(event.event, Transition)
            self.states[event.equipment] = state_after(event.event, event.seq)

    async def run(self) -> None:
        """Go on until `stopped`."""
        while not self.stopped:
            await self._go.wait()
            await self.move(AT_ONCE)
            await asyncio.sleep(EVERY_S)

    @contextlib.contextmanager
    def rest(self) -> Iterator[None]:
        """Nothing moves meanwhile."""
        self._go.clear()
        try:
            yield
        finally:
            self._go.set()

    def publisher(self, settings: MqttSettings) -> MqttPublisher:
        def state_of(name: str) -> EquipmentState | None:
            return self.states.get(name)

        return MqttPublisher(
            settings,
            journal=self.journal,
            gateway=GATEWAY,
            equipment={name: (state.path, partial(state_of, name)) for name, state in self.states.items()},
            clock=Impatient(),
        )

    def topics(self) -> dict[str, EquipmentState]:
        """What is to be retained where."""
        return {f"acme/berlin/{state.path}/_state": state for state in self.states.values()}


@dataclass
class Book:
    """What a consumer holds that skips what is not newer than its last number and asks for what it misses."""

    journal: Journal
    held: list[tuple[int, bytes]] = field(default_factory=list)
    heard: int = 0
    asked: int = 0

    @property
    def last(self) -> int:
        return self.held[-1][0] if self.held else 0

    async def take(self, payload: bytes) -> None:
        """A message came."""
        self.heard += 1
        seq = number_of(payload)
        if seq > self.last + 1:
            await self.ask(seq - 1)
        if seq == self.last + 1:
            self.held.append((seq, payload))

    async def ask(self, up_to: int) -> None:
        """Get what is missing up to a number, as `GET /api/v1/events` gives it."""
        while self.last < up_to:
            found = await self.journal.read(self.last, min(1000, up_to - self.last))
            self.asked += len(found)
            self.held += [(event.seq, event.json) for event in found]


class Listener:
    """A consumer with a lasting session that connects again at once, and the states as it was told them."""

    def __init__(self, port: int, book: Book) -> None:
        self.states: dict[str, int] = {}
        self._book = book
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._news = asyncio.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(min_delay=0.05, max_delay=0.1)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe("acme/#", qos=1)
        self._client.on_message = self._on_message
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        lasting.SessionExpiryInterval = 3600
        self._client.connect_async("127.0.0.1", port, clean_start=False, properties=lasting)

    async def __aenter__(self) -> Self:
        self._client.loop_start()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._hear, message.topic, bytes(message.payload))

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/_state"):
            self.states[topic] = number_of(payload)
            self._news.set()
        else:
            self._heard.put_nowait(payload)

    async def _read(self) -> None:
        while True:
            await self._book.take(await self._heard.get())
            self._heard.task_done()

    async def all_read(self) -> None:
        """Wait until everything that came is in the book."""
        await self._heard.join()

    async def wait_true(self, wanted: Mapping[str, EquipmentState], within_s: float) -> None:
        """Wait until every topic was told at least as new as wanted."""
        behind = dict.fromkeys(wanted, 0)
        try:
            async with asyncio.timeout(within_s):
                while behind := {
                    topic: self.states.get(topic, 0)
                    for topic, state in wanted.items()
                    if self.states.get(topic, 0) < state.seq
                }:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"after {within_s} s these states are not true: {behind}")


async def retained(port: int, wanted: Mapping[str, EquipmentState]) -> dict[str, bytes]:
    """What a newcomer is told of these topics: only what the broker marks as retained."""
    found: dict[str, bytes] = {}
    whole = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if message.retain:
            found[message.topic] = bytes(message.payload)
        if len(found) == len(wanted):
            loop.call_soon_threadsafe(whole.set)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_connect = lambda client, *_: client.subscribe("acme/+/+/+/+/_state", qos=1)
    await asyncio.to_thread(client.connect, "127.0.0.1", port)
    client.loop_start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRUE_WITHIN_S):
            await whole.wait()
    client.disconnect()
    await asyncio.to_thread(client.loop_stop)
    return found


# --- the judge


def faults(ledger: Ledger, events: Sequence[Recorded]) -> list[str]:
    """Everything wrong with what was said on the cable; empty when it kept every promise."""
    found = list(ledger.faults)
    bodies = {event.seq: event.json for event in events}
    told = [(sent, number_of(sent.payload)) for sent in ledger.sent if "/_event/" in sent.topic]
    for sent, seq in told:
        if bodies.get(seq) != sent.payload:
            found.append(f"event {seq} was told with other bytes on connection {sent.connection}")
    first_copies = list(dict.fromkeys(seq for _, seq in told))
    if first_copies != sorted(first_copies):
        found.append("first copies are out of order")
    last: dict[int, int] = {}
    for sent, seq in told:
        if seq <= last.get(sent.connection, 0):
            found.append(f"event {seq} goes back, or comes twice, on connection {sent.connection}")
        last[sent.connection] = seq
    acked = {number_of(one.sent.payload) for one in ledger.acked if "/_event/" in one.sent.topic}
    missing = sorted(bodies.keys() - acked)
    if missing:
        found.append(f"{len(missing)} events no broker acknowledged, the first is {missing[0]}")
    return found + _states_back(ledger) + _not_said_again(ledger)


def _states_back(ledger: Ledger) -> list[str]:
    found, newest = [], dict[str, int]()
    for sent in ledger.sent:
        if not sent.topic.endswith("/_state"):
            continue
        seq = number_of(sent.payload)
        if seq < newest.get(sent.topic, 0):
            found.append(f"{sent.topic} went back from {newest[sent.topic]} to {seq}")
        if not sent.retain:
            found.append(f"{sent.topic} was not to be retained")
        newest[sent.topic] = seq
    return found


def _not_said_again(ledger: Ledger) -> list[str]:
    """Events acknowledged right before an end that were not said again: that broker may have lost them."""
    ends = dict(ledger.ended)
    said_last: dict[bytes, int] = {sent.payload: sent.connection for sent in ledger.sent}
    latest = max((sent.connection for sent in ledger.sent), default=0)
    return [
        f"acknowledged {ends[one.sent.connection] - one.at:.1f} s before the end of connection "
        f"{one.sent.connection}, and not said again: {one.sent.payload[:80]!r}"
        for one in ledger.acked
        if "/_event/" in one.sent.topic
        and one.sent.connection in ends
        and one.sent.connection < latest
        and ends[one.sent.connection] - one.at < SAID_AGAIN_S
        and said_last[one.sent.payload] == one.sent.connection
    ]


# --- the test


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Journal]:
    """A journal that keeps everything."""
    journal = await Journal.open(folder, gateway="line-1", settings=JournalSettings(), clock=SystemClock())
    try:
        journal.require("the test", events=True, batches=False)
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Something that runs meanwhile; cancelled at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.real
@pytest.mark.timeout(6 * KILLS + 600)
@pytest.mark.parametrize(
    ("protocol", "qos", "kills"), [("5", 1, KILLS), ("5", 2, KILLS // 5), ("3.1.1", 1, KILLS // 5)]
)
async def test_every_event_arrives_and_states_stay_true_however_often_the_broker_dies(
    tmp_path: Path, protocol: str, qos: int, kills: int
) -> None:
    chance, ledger = random.Random(20261122), Ledger(protocol)
    async with (
        Mosquitto(tmp_path) as broker,
        opened(tmp_path / "journal") as journal,
        Tap(broker.port, ledger) as tap,
    ):
        line, book = Line(journal), Book(journal)
        await line.move(MACHINES)
        settings = MqttSettings.model_validate(
            {
                "broker": f"mqtt://127.0.0.1:{tap.port}",
                "protocol": protocol,
                "topics": {"event": {"qos": qos}},
            }
        )
        publisher = line.publisher(settings)
        async with Listener(broker.port, book) as listener, running(publisher.run()) as publishing:
            async with running(line.run()) as moving:
                for _ in range(kills):
                    await _live(chance, broker, tap, publisher, line, listener)
                    assert not publishing.done(), publishing
                    await broker.kill()
                    await tap.down()
                    if chance.random() < 0.5:
                        (tmp_path / "mosquitto.db").unlink(missing_ok=True)
                    if chance.random() < 0.2:
                        await line.move(BACKLOG)
                    await asyncio.sleep(chance.uniform(0, 0.2))
                    listener.states.clear()
                    await broker.start()
                    await tap.up()
                line.stopped = True  # a move that was cut off could be in the journal and not in the states
                await moving
            async with asyncio.timeout(3 * TRUE_WITHIN_S):
                while publisher.status().lag_events:
                    await asyncio.sleep(0.02)
            await listener.wait_true(line.topics(), TRUE_WITHIN_S)
            at_rest = await retained(broker.port, line.topics())
            await listener.all_read()
        await book.ask(journal.position.last_seq)
        events = await journal.read(0, journal.position.last_seq)

    assert at_rest == {topic: payloads.state(state) for topic, state in line.topics().items()}
    assert faults(ledger, events) == []
    assert book.held == [(event.seq, event.json) for event in events]
    assert tap.connections > kills * 0.8, "it was killed while nobody was connected"
    assert len(events) - book.asked > len(events) / 10, "the listener heard too little to prove anything"
    assert len(events) > 100 * kills, "too little happened to prove anything"


async def _live(
    chance: random.Random,
    broker: Mosquitto,
    tap: Tap,
    publisher: MqttPublisher,
    line: Line,
    listener: Listener,
) -> None:
    """A life of the broker, up to the moment it is to be killed."""
    tap.connected.clear()
    (way,) = chance.choices(
        ("in the door", "under load", "all is true", "at rest", "frozen"), (6, 6, 4, 3, 1)
    )
    if way == "in the door":
        async with asyncio.timeout(TRUE_WITHIN_S):
            await tap.connected.wait()
        await asyncio.sleep(chance.uniform(0, 0.01))
    elif way == "all is true":
        await listener.wait_true(line.topics(), TRUE_WITHIN_S)
        await asyncio.sleep(chance.uniform(0, 0.2))
    elif way == "at rest":
        with line.rest():
            await listener.wait_true(line.topics(), TRUE_WITHIN_S)
    else:
        async with asyncio.timeout(TRUE_WITHIN_S):
            while not publisher.status().connected:
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0, 0.6))
        if way == "frozen":
            os.kill(broker.pid, signal.SIGSTOP)
            await asyncio.sleep(FROZEN_S)


# --- the judge itself


def _right() -> tuple[Ledger, list[Recorded]]:
    """Three events on a connection that is lost at once, and all of them again on the next."""
    events = [
        tell(transition(n), gateway="line-1", stream="s", seq=n + 1, recorded_at=START) for n in range(3)
    ]
    ledger = Ledger()
    for connection in (1, 2):
        for event in events:
            assert isinstance(event.event, Transition)
            path = f"acme/berlin/{event.path}"
            state = payloads.state(state_after(event.event, event.seq))
            sent = Sent(connection, connection * 10.0, f"{path}/_event/transition", event.json, False, False)
            ledger.sent += [sent, Sent(connection, connection * 10.0, f"{path}/_state", state, True, False)]
            ledger.acked.append(Acked(sent, connection * 10.0 + 0.1))
        ledger.ended.append((connection, connection * 10.0 + 0.2))
    return ledger, events


def test_the_judge_finds_nothing_in_what_is_right() -> None:
    assert faults(*_right()) == []


def _lost(ledger: Ledger) -> None:
    lost = ledger.sent[2].payload
    ledger.sent = [sent for sent in ledger.sent if sent.payload != lost]
    ledger.acked = [one for one in ledger.acked if one.sent.payload != lost]


def _changed(ledger: Ledger) -> None:
    ledger.sent[6] = ledger.sent[6]._replace(payload=ledger.sent[6].payload + b" ")


def _exchanged(ledger: Ledger) -> None:
    ledger.sent[0], ledger.sent[2] = ledger.sent[2], ledger.sent[0]


def _not_again(ledger: Ledger) -> None:
    del ledger.sent[8], ledger.acked[4]


def _back(ledger: Ledger) -> None:
    topic = ledger.sent[7].topic
    ledger.sent[9] = ledger.sent[9]._replace(topic=topic)
    ledger.sent.append(ledger.sent[7])


def _not_kept(ledger: Ledger) -> None:
    ledger.sent[1] = ledger.sent[1]._replace(retain=False)


def _number_in_use(ledger: Ledger) -> None:
    waiting: dict[int, Sent] = {}
    for _ in range(2):
        ledger.out(3, waiting, 0x32, b"\x00\x01t\x00\x07\x00x")


@pytest.mark.parametrize("spoil", [_lost, _changed, _exchanged, _not_again, _back, _not_kept, _number_in_use])
def test_the_judge_finds_what_is_wrong(spoil: Callable[[Ledger], None]) -> None:
    ledger, events = _right()
    spoil(ledger)
    assert faults(ledger, events)
