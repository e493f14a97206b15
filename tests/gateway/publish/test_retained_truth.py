"""Retained state never goes back, whatever happens in whatever order; events arrive, each and in order.

The publisher works over a scripted broker that acknowledges when a step says so, is cut off, loses its store,
and the gateway is killed and started again, on the same journal or on one that begins anew. Then all is let
run, and what the broker holds must be what is true.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.schema import MqttSettings
from gateway.errors import SinkUnavailable
from gateway.mqtt.link import Link, Message, Will
from gateway.publish.availability import Links
from gateway.publish.memory import MemoryJournal
from gateway.publish.order import Newest
from gateway.publish.publisher import MqttPublisher
from gateway.publish.states import newer
from gateway.publish.tags import PublishedTag
from statemodel.records import EquipmentState, state_after, tell
from statemodel.types import Quality, SourceLost, SourceRestored, TagSample
from tests.gateway.publish.support import GATEWAY, T0, transition
from tests.support.manual_clock import ManualClock

NAMES = ("a", "b")
STATUS = "andon/line-1/status"
TAG = "acme/berlin/_tag/plc/x"


class ScriptedBroker:
    """What a broker holds and has heard. Messages are taken at once, and acknowledged when told to."""

    def __init__(self, limit: int) -> None:
        self.retained: dict[str, bytes] = {}
        self.heard: list[tuple[str, bytes]] = []
        self.limit = limit
        self.link: ScriptedLink | None = None

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self.heard.append((topic, payload))
        if retain:
            self.retained[topic] = payload
            if not payload:
                del self.retained[topic]
        if topic == STATUS and self.link is not None and self.link.listens:
            self.link.on_message(Message(topic, payload, 1, retained=False))

    def cut(self) -> None:
        """The connection breaks, and the will is said."""
        if self.link is not None:
            link, self.link = self.link, None
            link.end()
            self.take(link.will.topic, link.will.payload, retain=True)


class ScriptedLink:
    """As `Link`, for one connection to a scripted broker."""

    def __init__(self, broker: ScriptedBroker, will: Will, on_message: Callable[[Message], None]) -> None:
        self.broker, self.will, self.on_message = broker, will, on_message
        self.waiting: deque[Callable[[], None] | None] = deque()
        self.over, self.news = asyncio.Event(), asyncio.Event()
        self.listens = False
        self.connected_at = datetime.now(UTC)
        self.sent = self.acknowledged = self.too_large = self.heard = 0
        self.files, self.peer_certificate = (), None

    @property
    def limit(self) -> int:
        return self.broker.limit

    @property
    def in_flight(self) -> int:
        return len(self.waiting)

    @property
    def full(self) -> bool:
        return len(self.waiting) >= self.limit

    def _check(self) -> None:
        if self.over.is_set():
            raise SinkUnavailable("cut")

    async def room(self, limit: int | None = None) -> None:
        self._check()
        while len(self.waiting) >= (self.limit if limit is None else limit):
            self.news.clear()
            await self.news.wait()
            self._check()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, **more: Any) -> bool:
        self._check()
        assert not self.full, "published without room"
        self.waiting.append(more.get("on_ack"))
        self.sent += 1
        self.broker.take(topic, payload, retain=retain)
        return True

    async def subscribe(self, filters: Mapping[str, int]) -> None:
        self._check()
        self.listens = True
        if STATUS in self.broker.retained:
            self.heard += 1
            self.on_message(Message(STATUS, self.broker.retained[STATUS], 1, retained=True))

    async def taken(self) -> None:
        self._check()

    async def ended(self) -> None:
        await self.over.wait()
        self._check()

    async def stop(self, timeout_s: float, **more: Any) -> bool:
        return False

    def acknowledge(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            on_ack = self.waiting.popleft()
            self.acknowledged += 1
            if on_ack is not None:
                on_ack()
        self.news.set()

    def end(self) -> None:
        self.over.set()
        self.waiting.clear()
        self.news.set()


class World:
    """A gateway that is killed and started again, its journal, and the scripted broker."""

    def __init__(self, limit: int) -> None:
        self.broker = ScriptedBroker(limit)
        self.clock = ManualClock()
        self.journal = MemoryJournal("one")
        self.streams = 1
        self.sequences = dict.fromkeys(NAMES, 0)
        self.states: dict[str, EquipmentState] = {}
        self.links = Links(("plc",))
        self.up = False
        self.sample = 0
        self.publisher: MqttPublisher | None = None
        self.running: asyncio.Task[None] | None = None
        self.ids: list[str] = []

    def start(self) -> None:
        self.links = Links(("plc",))
        self.publisher = MqttPublisher(
            MqttSettings(broker="mqtt://127.0.0.1:1"),
            journal=self.journal,
            gateway=GATEWAY,
            equipment={name: (f"line/{name}", lambda name=name: self.states.get(name)) for name in NAMES},  # type: ignore[misc]
            clock=self.clock,
            tags={"plc/x": PublishedTag()},
            links=self.links,
            feeds=dict.fromkeys(NAMES, ("plc",)),
            random01=lambda: 0.0,
        )
        self.running = asyncio.create_task(self.publisher.run())

    async def kill(self) -> None:
        self.broker.cut()
        assert self.running is not None
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running
        self.up = False

    async def turn(self, turns: int = 3) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def step(self, what: str, number: int) -> None:
        name = NAMES[number % len(NAMES)]
        assert self.publisher is not None
        if what in ("move", "move-quietly"):
            await self._record(name, shown_first=what == "move")
        elif what == "ack":
            if self.broker.link is not None:
                self.broker.link.acknowledge(number + 1)
        elif what == "cut":
            self.broker.cut()
        elif what == "empty":
            self.broker.cut()
            self.broker.retained.clear()
        elif what == "want":
            self.publisher.say_again([f"acme/berlin/line/{name}/_state", TAG])
        elif what == "tag":
            self.sample += 1
            self.publisher.publish_tag(TagSample("plc/x", self.sample, Quality.GOOD, None, T0))
        elif what == "link":
            self.up = not self.up
            event = SourceRestored("plc", T0) if self.up else SourceLost("plc", T0, "gone")
            await self._append(event)
        elif what == "pass":
            self.clock.advance(number + 0.5)
        else:
            await self.kill()
            if what == "anew":
                self.streams += 1
                self.journal = MemoryJournal(f"stream-{self.streams}")
                self.ids.clear()
            self.start()
        await self.turn(number * 3)

    async def _append(self, event: Any) -> Any:
        seq = self.journal.position.last_seq + 1
        stream = self.journal.position.stream
        told = tell(event, gateway="line-1", stream=stream, seq=seq, recorded_at=self.clock.now())
        self.ids.append(told.id)
        self.links.announce([told])
        await self.journal.append(told)
        return told

    async def _record(self, name: str, *, shown_first: bool) -> None:
        """A transition; the gateway shows it before the publisher reads it, or after."""
        self.sequences[name] += 1
        event = transition(name, self.sequences[name])
        if shown_first:
            self.states[name] = state_after(event, self.journal.position.last_seq + 1)
        told = await self._append(event)
        if not shown_first:
            await self.turn(self.sequences[name] % 9)
        self.states[name] = state_after(event, told.seq)

    async def settle(self) -> None:
        """Let everything run that wants to, until nothing moves any more."""
        quiet = 0
        while quiet < 5:
            heard = len(self.broker.heard)
            await self.turn(8)
            if self.broker.link is None:
                self.clock.advance(0.6)
                continue
            idle = not self.broker.link.in_flight and heard == len(self.broker.heard)
            quiet = quiet + 1 if idle else 0
            self.broker.link.acknowledge(10)


def rank(payload: bytes) -> tuple[int, int]:
    state = msgspec.json.decode(payload)
    return state["sequence"], state["seq"]


STEPS = (
    "move",
    "move-quietly",
    "ack",
    "ack",
    "cut",
    "empty",
    "want",
    "tag",
    "link",
    "pass",
    "restart",
    "anew",
)


@pytest.mark.timeout(600)
@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), min_size=10, max_size=80),
    st.integers(1, 3),
)
def test_what_is_retained_never_goes_back_and_ends_true(steps: list[tuple[str, int]], limit: int) -> None:
    asyncio.run(tried(steps, limit))


async def tried(steps: list[tuple[str, int]], limit: int) -> None:
    world = World(limit)

    async def opened(_options: Any, _clock: Any, *, will: Will, on_message: Any = None) -> ScriptedLink:
        await asyncio.sleep(0)
        world.broker.cut()  # a second connection of a client id ends the first
        world.broker.link = ScriptedLink(world.broker, will, on_message)
        return world.broker.link

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "open", opened)
        world.start()
        for what, number in steps:
            await world.step(what, number)
        await world.settle()
        assert world.publisher is not None
        status = world.publisher.status()
        assert (status.connected, status.lag_events) == (True, 0)
        truth = {f"acme/berlin/line/{name}/_state": state for name, state in world.states.items()}
        held = world.broker.retained
        assert {topic: held[topic] for topic in truth} == {
            topic: msgspec.json.encode(state) for topic, state in truth.items()
        }
        there = b"online" if world.up else b"offline"
        assert {held[f"acme/berlin/line/{name}/_availability"] for name in NAMES} == {there}
        assert (held[STATUS], held["andon/line-1/_connection/plc"]) == (b"online", there)
        for name in NAMES:
            ranks = [rank(body) for topic, body in world.broker.heard if topic.endswith(f"/{name}/_state")]
            assert ranks == sorted(ranks), "an older state came after a newer one"
        told = [msgspec.json.decode(body)["id"] for topic, body in world.broker.heard if "/_event/" in topic]
        first_told = list(dict.fromkeys(id_ for id_ in told if id_ in set(world.ids)))
        assert first_told == world.ids, "every event, in order"
        await world.kill()


def test_a_journal_that_begins_anew_is_newer_than_what_it_took_over() -> None:
    """Its numbers begin at 1 again; the count of the equipment's transitions goes on."""
    before = state_after(transition("a", 7), 1042)
    after = tell(transition("a", 8), gateway="line-1", stream="new", seq=3, recorded_at=T0)
    assert newer(before, after) == state_after(transition("a", 8), 3)
    assert newer(state_after(transition("a", 8), 3), after) == state_after(transition("a", 8), 3)
    assert newer(before, None) == before
    newest = Newest()
    assert newest.allow("a", before.seq, sequence=before.sequence)
    assert newest.allow("a", 3, sequence=8)
    assert not newest.allow("a", before.seq, sequence=before.sequence, again=True)
