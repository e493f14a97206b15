"""A publisher that is exchanged for another one: the connection stays, and what is said on it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.schema import MqttSettings
from gateway.mqtt import handover
from gateway.publish import publisher
from gateway.publish.availability import Links
from gateway.publish.events import Events
from gateway.publish.publisher import MqttPublisher
from gateway.publish.tags import PublishedTag, Tags
from gateway.publish.wiring import connection_of_publisher
from statemodel.types import Quality, TagSample
from tests.gateway.publish.support import (
    GATEWAY,
    T0,
    BrokerUnderTest,
    Plant,
    Proxy,
    Subscriber,
    recorded,
    retained,
    transition,
    until,
    within,
)
from tests.support.mqtt_tap import PUBACK, Ledger, Tap


class Line:
    """A publisher after the other, each built for what the plant is by then."""

    def __init__(self, settings: MqttSettings, *names: str) -> None:
        self.settings = settings
        self.plant = Plant(*names)
        self.links = Links(["plc"])
        self.present = self.build()
        self._task: asyncio.Task[None] | None = None

    def build(self, settings: MqttSettings | None = None) -> MqttPublisher:
        return self.plant.publisher(
            settings or self.settings, links=self.links, feeds=dict.fromkeys(self.plant.names, ("plc",))
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self.present.run())

    async def end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await within(self._task)

    async def exchange(self, *names: str) -> MqttPublisher:
        """The one of before; the one that goes on runs."""
        before = await self.prepare(*names)
        self.start()
        return before

    async def prepare(self, *names: str) -> MqttPublisher:
        """The same, and the one that goes on does not run yet."""
        before = self.present
        self.plant.names = names or self.plant.names
        before.keep_link()
        await self.end()
        before.retire()
        self.present = self.build()
        assert self.present.connects_like(before)
        self.present.take_link(before)
        return before

    async def until_said(self) -> None:
        await until(
            lambda: self.present.status().connected and not self.present.status().lag_events, "all is said"
        )


def temperature(value: float) -> TagSample:
    return TagSample("oven-plc/temp", value, Quality.GOOD, None, T0)


def unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long for what is never acknowledged, when handing over and when leaving."""
    monkeypatch.setattr(handover, "IN_FLIGHT_S_MAX", 0.2)
    monkeypatch.setattr(publisher, "STOP_S", 0.4)
    monkeypatch.setattr(publisher, "STOP_EACH_S", 0.2)


def status_of(subscriber: Subscriber) -> bytes:
    """What was said last of the gateway."""
    return ([b"", *(heard.payload for heard in subscriber.on("status"))])[-1]


@asynccontextmanager
async def line(settings: MqttSettings, *names: str) -> AsyncIterator[Line]:
    found = Line(settings, *names)
    found.start()
    try:
        yield found
    finally:
        await found.end()
        await found.present.let_go()


async def test_nobody_hears_that_one_took_over_from_the_other(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1", "capper-1") as at:
        events = await at.plant.happen(20)
        await at.until_said()
        await subscriber.wait_ids(events)
        subscriber.heard.clear()
        await at.exchange("filler-1", "capper-1", "oven-1")
        events = await at.plant.happen(20)
        await at.until_said()
        await subscriber.wait_ids(events)
        assert subscriber.on("status") == []
        assert [heard.seq for heard in subscriber.events()] == [event.seq for event in events]
        assert at.present.status().connects == 1
        await subscriber.wait(lambda: bool(subscriber.on("oven-1/_state")), "what is new")
        said = await retained(broker.port)
        assert {topic: said[topic] for topic in at.present.retained()} == at.present.retained()
    await subscriber.wait(lambda: bool(subscriber.on("status")), "the good-bye of the last one")
    assert [heard.payload for heard in subscriber.on("status")] == [b"offline"]


async def test_events_go_on_under_load_none_twice_none_missing(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1", "capper-1") as at:
        happening = True

        async def happen() -> None:
            while happening:
                await at.plant.happen(7)
                await asyncio.sleep(0.001)

        load = asyncio.create_task(happen())
        try:
            for _ in range(12):
                told = at.present.status().events
                await until(lambda told=told: at.present.status().events > told, "some are told")  # type: ignore[misc]
                await at.exchange()
        finally:
            happening = False
            await load
        await at.until_said()
        last = at.plant.journal.position.last_seq
        await subscriber.wait(lambda: len(subscriber.events()) >= last, "every event")
        assert [heard.seq for heard in subscriber.events()] == list(range(1, last + 1))
        assert at.present.status().connects == 1
        assert at.present.status().events == last, "figures go on as well"
        assert [heard.payload for heard in subscriber.on("status")] == [b"online"]


async def test_what_is_not_acknowledged_in_time_is_said_again(
    broker: BrokerUnderTest, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    unanswered(monkeypatch)
    ledger = Ledger(broker.protocol)
    async with Tap(broker.port, ledger) as tap, line(broker.settings(tap.port), "filler-1") as at:
        await at.until_said()
        tap.losing.add(PUBACK)
        events = await at.plant.happen(5)
        await subscriber.wait_ids(events)
        subscriber.heard.clear()
        await at.prepare()
        tap.losing.clear()
        assert (await at.plant.journal.cursor("mqtt")).seq == 0
        at.start()
        await at.until_said()
        await subscriber.wait(lambda: len(subscriber.events()) >= 5, "the events once more")
        assert [heard.seq for heard in subscriber.events()] == [1, 2, 3, 4, 5]
        assert tap.connections == 1


async def test_a_connection_that_ends_between_the_two_is_made_anew(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with Proxy(broker.port) as proxy, line(broker.settings(proxy.port), "filler-1") as at:
        events = await at.plant.happen(5)
        await at.until_said()
        await at.prepare("filler-1", "oven-1")
        proxy.cut()
        await subscriber.wait(lambda: status_of(subscriber) == b"offline", "gone")
        events += await at.plant.happen(5)
        at.start()
        await until(lambda: at.present.status().connects == 2, "connected anew")
        await at.until_said()
        await subscriber.wait_ids(events)
        await subscriber.wait(lambda: status_of(subscriber) == b"online", "there again")
        told = [heard.seq for heard in subscriber.events()]
        assert told == [1, 2, 3, 4, 5, *range(1, 11)], "what it had just acknowledged is as if it had not"


async def test_nothing_is_kept_where_nothing_stands(broker: BrokerUnderTest) -> None:
    port = broker.port
    await broker.kill()
    async with line(broker.settings(port), "filler-1") as at:
        await until(lambda: at.present.status().last_error is not None, "nobody is there")
        await at.exchange()
        await broker.start()
        await until(lambda: at.present.status().connected, "connected")
        assert at.present.status().connects == 1


async def test_what_nobody_takes_is_left_with_a_good_bye(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1") as at:
        at.links.exchange(["plc"])
        await at.until_said()
        await subscriber.wait(lambda: bool(subscriber.on("status")), "online")
        at.present.keep_link()
        await at.end()
        assert [heard.payload for heard in subscriber.on("status")] == [b"online"]
        await within(at.present.let_go())
        await subscriber.wait(lambda: len(subscriber.on("status")) == 2, "the good-bye")
        assert subscriber.on("status")[-1].payload == b"offline"
        assert {heard.payload for heard in subscriber.on("availability")} == {b"offline"}
        await at.present.let_go()  # once
        at.start()
        await until(lambda: at.present.status().connects == 2, "it can run again")


async def test_the_good_bye_of_one_that_never_ran_is_the_same(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1") as at:
        await at.until_said()
        await subscriber.wait(lambda: status_of(subscriber) == b"online", "online")
        await at.prepare()
        subscriber.heard.clear()
        await within(at.present.let_go())
        await subscriber.wait(lambda: bool(subscriber.on("status")), "the good-bye")
        said = [(it.topic.rpartition("/")[2], it.payload) for it in subscriber.heard]
        assert said[-1] == ("status", b"offline")
        assert len(said) == 3, "of the connection and the equipment first"
        at.start()


async def test_one_that_is_run_again_goes_on_with_its_own_connection(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1") as at:
        await at.plant.happen(3)
        await at.until_said()
        at.present.keep_link()
        await at.end()
        at.start()
        events = await at.plant.happen(3)
        await at.until_said()
        await subscriber.wait_ids(events)
        assert at.present.status().connects == 1
        assert [heard.payload for heard in subscriber.on("status")] == [b"online"]
        assert [heard.seq for heard in subscriber.events()] == [1, 2, 3, 4, 5, 6]


async def test_one_that_was_taken_and_not_used_is_handed_on(broker: BrokerUnderTest) -> None:
    async with line(broker.settings(), "filler-1") as at:
        await at.until_said()
        await at.prepare()
        between = at.present
        at.present = at.build()
        at.present.take_link(between)
        await between.let_go()
        at.start()
        await at.until_said()
        assert at.present.status().connects == 1


@pytest.mark.parametrize(
    "more", [{"keep_alive": "7s"}, {"user": "else"}, {"client_id": "other"}, {"inflight_max": 7}]
)
def test_other_words_in_the_connect_are_another_connection(more: dict[str, object]) -> None:
    async def compare() -> None:
        at = Line(MqttSettings(broker="mqtt://127.0.0.1:1"), "filler-1")
        assert at.build().connects_like(at.present)
        other = at.build(MqttSettings(broker="mqtt://127.0.0.1:1", **more))
        assert not other.connects_like(at.present)
        assert not at.present.connects_like(None)

    asyncio.run(compare())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"clear_removed": False},
        {"topics": {"state": {"qos": 0}}},
        {"topics": {"status": {"topic": "here/{gateway}"}}},
        {"topics": {"status": {"qos": 0}}},
        {"client_id": "other"},
        {"protocol": "3.1.1"},
    ],
)
async def test_the_difference_knows_who_can_go_on(tmp_path: Path, more: dict[str, object]) -> None:
    """What is said before a change, and what becomes of the connection, are two pieces of code."""
    first = MqttSettings(broker="mqtt://127.0.0.1:1")
    second = MqttSettings.model_validate({"broker": "mqtt://127.0.0.1:1", **more})
    names = f'id = "{GATEWAY.id}"\nenterprise = "{GATEWAY.enterprise}"\nsite = "{GATEWAY.site}"\n'
    (tmp_path / "andon.toml").write_text(f"[gateway]\n{names}")
    loaded = load(tmp_path / "andon.toml")
    at = Line(first, "filler-1")
    said = [connection_of_publisher(settings, loaded, None) for settings in (first, second)]
    assert at.build(second).connects_like(at.present) is (said[0] == said[1])


async def test_the_broker_is_left_when_the_one_that_took_over_ends_before_it_spoke(
    broker: BrokerUnderTest, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(broker.settings(), "filler-1") as at:
        await at.until_said()
        await at.prepare()
        reached, held = asyncio.Event(), asyncio.Event()

        async def begin(_: object) -> None:
            reached.set()
            await held.wait()

        with monkeypatch.context() as slow:
            slow.setattr(Events, "begin", begin)
            at.start()
            await within(reached.wait())
            await at.end()
        await subscriber.wait(lambda: status_of(subscriber) == b"offline", "the good-bye")
        at.start()


async def test_what_stands_at_the_broker_is_not_said_again(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1", "capper-1") as at:
        await at.plant.happen(2)
        at.present.publish_tag(temperature(1.0))
        await at.until_said()
        await subscriber.wait(lambda: len(subscriber.on("temp")) == 1, "the tag")
        await subscriber.wait(lambda: status_of(subscriber) == b"online", "online")
        before = await at.prepare("filler-1", "capper-1", "oven-1")
        subscriber.heard.clear()
        at.present.publish_tag(temperature(1.0))  # what is true when it begins
        await at.plant.append(recorded(3, transition("capper-1", 3)), recorded(4, transition("oven-1", 4)))
        at.start()
        await at.until_said()
        await subscriber.wait(lambda: len(subscriber.on("oven-1/_state")) == 1, "what is new")
        at.present.publish_tag(temperature(2.0))
        await subscriber.wait(lambda: len(subscriber.on("temp")) == 1, "what has changed")
        said = sorted(heard.topic.removeprefix("acme/berlin/") for heard in subscriber.heard)
        assert [topic for topic in said if "_event" not in topic] == sorted(
            (
                "baking/oven-1/_tag/oven-plc/temp",
                "filling/line-1/capper-1/_state",
                "filling/line-1/oven-1/_availability",
                "filling/line-1/oven-1/_state",
            )
        )
        del before


@pytest.mark.parametrize("settled", [True, False])
async def test_what_may_not_have_arrived_is_said_again(
    broker: BrokerUnderTest, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch, *, settled: bool
) -> None:
    unanswered(monkeypatch)
    ledger = Ledger(broker.protocol)
    async with Tap(broker.port, ledger) as tap, line(broker.settings(tap.port), "filler-1") as at:
        await at.plant.happen(1)
        await at.until_said()
        await subscriber.wait(lambda: status_of(subscriber) == b"online", "online")
        await until(lambda: at.present.status().in_flight == 0, "all has arrived")
        if not settled:
            tap.losing.add(PUBACK)
            at.present.say_again(["acme/berlin/filling/line-1/filler-1/_state"])
            await subscriber.wait(lambda: len(subscriber.on("_state")) == 2, "said again")
        await at.prepare()
        tap.losing.clear()
        subscriber.heard.clear()
        at.start()
        if not settled:
            await subscriber.wait(lambda: len(subscriber.on("_state")) == 1, "said again")
        events = await at.plant.happen(1)
        await at.until_said()
        await subscriber.wait_ids(events)
        assert len(subscriber.on("_state")) == (1 if settled else 2)


async def test_said_in_another_way_all_of_it_is_said_again(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    settings = broker.settings()
    async with line(settings, "filler-1") as at:
        await at.plant.happen(1)
        await at.until_said()
        await subscriber.wait(lambda: status_of(subscriber) == b"online", "online")
        at.settings = settings.model_copy(update={"clear_removed": False})
        await at.exchange()
        await subscriber.wait(lambda: len(subscriber.on("_state")) == 2, "the state again")
        assert at.present.status().connects == 1


async def test_a_tag_that_was_being_said_is_not_said_yet() -> None:
    """On the second of its topics it is missing."""
    said: list[str] = []

    class Voice:
        def tag_topics(self, tag: str) -> list[str]:
            return ["one", "two"]

        def tag(self, link: object, topic: str, sample: TagSample) -> None:
            said.append(topic)

    class NarrowLink:
        limit, in_flight = 2, 0

        @property
        def full(self) -> bool:
            return said != []

        async def room(self, limit: int) -> None:
            await asyncio.Event().wait()

    tags = Tags({"oven-plc/temp": PublishedTag("°C", ("a", "b"))}, Voice())  # type: ignore[arg-type]
    tags.take(temperature(1.0))
    assert not tags.is_said("oven-plc/temp")
    saying = asyncio.create_task(tags.say(NarrowLink()))  # type: ignore[arg-type]
    await until(lambda: said == ["one"], "the first topic")
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)
    assert not tags.is_said("oven-plc/temp")


async def test_the_one_that_took_over_hears_what_others_say_of_it(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    async with line(broker.settings(), "filler-1") as at:
        await at.until_said()
        await at.exchange()
        await until(at.present.is_heard, "the broker lets it listen")
        await subscriber.say(at.present.topics.status, b"offline")  # a late will
        await subscriber.wait(
            lambda: [h.payload for h in subscriber.on("status")][-2:] == [b"offline", b"online"], "again"
        )


@pytest.mark.real
@pytest.mark.parametrize("broker", ["mosquitto-5", "mosquitto-3.1.1"], indirect=True)
async def test_a_store_that_was_lost_just_before_is_noticed(
    broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there is not said again by the one that takes over: so it has to see that it stands.

    The embedded broker is not asked: it lives in this process, and its store with it.
    """
    monkeypatch.setattr("gateway.publish.presence.ECHO_S", 0.4)
    monkeypatch.setattr("gateway.publish.presence.LOOK_EVERY_S", 600.0)
    async with line(broker.settings(), "filler-1", "oven-1") as running:
        await running.plant.happen(6)
        await until(
            lambda: running.present.is_heard() and not running.present.status().lag_events, "all told"
        )
        held = await retained(broker.port)
        await running.prepare()
        async with Subscriber(broker.port, "none") as other:
            for topic in held:
                await other.say(topic, b"")
        running.start()
        await until(lambda: running.present.status().connected, "it goes on")
        async with asyncio.timeout(60):
            while (await retained(broker.port)).keys() < held.keys():
                await asyncio.sleep(0.1)
        assert running.present.status().connects == 1
