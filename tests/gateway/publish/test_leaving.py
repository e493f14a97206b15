"""What has left the configuration is cleared where it is certainly ours, and nothing else ever is."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.mqtt.retained import read_retained
from gateway.publish.availability import Links
from gateway.publish.holdings import Held, Holdings
from gateway.publish.memory import MemoryJournal
from gateway.publish.ownership import Ownership
from gateway.publish.publisher import MqttPublisher, PublishedTag, introduce
from statemodel.records import EquipmentState, Recorded
from statemodel.types import Quality, TagSample
from tests.gateway.publish.support import (
    GATEWAY,
    T0,
    WAIT_S,
    BrokerUnderTest,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    retained,
    retains,
    until,
)

STATE = "acme/berlin/filling/line-1/{}/_state"
THERE = "acme/berlin/filling/line-1/{}/_availability"
TAG = "acme/berlin/filling/line-1/{}/_tag/plc/speed"
HALL = "acme/berlin/_tag/hall/air"
LINK = "andon/line-1/_connection/{}"


class Record:
    def __init__(self, journal: MemoryJournal) -> None:
        self.journal = journal
        self.freed = 0

    async def last_transitions(self) -> Mapping[str, Recorded]:
        return {event.equipment: event for event in await self.journal.read(0, 10_000)}

    async def event(self, seq: int) -> Recorded | None:
        found = await self.journal.read(seq - 1, 1) if seq > self.freed else ()
        return found[0] if found and found[0].seq == seq else None


class House:
    """One gateway on one disk, started again and again with another configuration."""

    def __init__(self, directory: Path, settings: MqttSettings, *names: str) -> None:
        self.directory, self.settings = directory, settings
        self.plant = Plant(*names)
        self.record = Record(self.plant.journal)
        self.connections: tuple[str, ...] = ("plc", "hall")
        self.with_hall = True
        self.paths: dict[str, str] = {}

    def place(self, name: str, path: str) -> None:
        """From now on it is shown here, with a model of another name; as in a new configuration."""
        state = self.plant.states[name]
        self.plant.states[name] = msgspec.structs.replace(state, path=path, model=path.partition("/")[0])
        self.paths[name] = path

    def publisher(self, **settings: Any) -> MqttPublisher:
        names = self.plant.names
        tags = {"plc/speed": PublishedTag("1/min", tuple(f"filling/line-1/{name}" for name in names))}
        if self.with_hall:
            tags["hall/air"] = PublishedTag("°C")
        publisher = MqttPublisher(
            self.settings.model_copy(update=settings),
            journal=self.plant.journal,
            gateway=GATEWAY,
            equipment={
                name: (self.paths.get(name, path), state_of)
                for name, (path, state_of) in self.plant.equipment().items()
            },
            clock=SystemClock(),
            tags=tags,
            links=Links(self.connections),
            feeds=dict.fromkeys(names, ("plc",)),
            holdings=Holdings(
                self.directory, gateway=GATEWAY.id, sink=self.settings.sink, others=[self.settings.sink]
            ),
            ownership=Ownership(self.record, gateway=GATEWAY.id, started_at=datetime.now(UTC)),
        )
        for tag in tags:
            publisher.publish_tag(TagSample(tag, 1.5, Quality.GOOD, None, datetime.now(UTC)))
        return publisher

    def running(self, **settings: Any) -> Running:
        return Running(self.publisher(**settings))

    @property
    def remembered(self) -> Mapping[str, Held]:
        return Holdings(self.directory, sink=self.settings.sink).topics


async def told(publisher: MqttPublisher) -> None:
    """Wait until the broker holds all it should."""
    await until(lambda: publisher.status().connected and not publisher.status().lag_events, "connected")
    port = publisher._options.port
    await retains(port, lambda held: publisher.retained().items() <= held.items(), "all there is")


async def settled(publisher: MqttPublisher, port: int) -> dict[str, bytes]:
    """What is retained once the publisher has nothing more to clear."""
    await until(lambda: not publisher._leaving.left() or bool(publisher.status().unproven), "cleared")
    return await retained(port)


def moved(payload: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(payload) | fields).encode()


async def test_equipment_and_tags_that_left_are_cleared_at_the_next_connect(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    house = House(tmp_path, broker.settings(), "filler-1", "oven-1")
    await house.plant.happen(6)
    async with house.running() as publisher:
        await told(publisher)
    before = await retained(broker.port)
    gone = {form.format("oven-1") for form in (STATE, THERE, TAG)} | {HALL, LINK.format("hall")}
    assert gone <= set(before)
    house.plant.names, house.connections, house.with_hall = ("filler-1",), ("plc",), False
    async with Subscriber(broker.port) as listening, house.running() as publisher:
        held = await settled(publisher, broker.port)
        cleared = [m.topic for m in listening.heard if not m.payload and m.topic in before]
        assert set(cleared) == gone
        assert cleared.index(STATE.format("oven-1")) > cleared.index(THERE.format("oven-1")), "the state last"
    assert set(held) == set(before) - gone
    assert not gone & set(house.remembered)
    assert STATE.format("filler-1") in house.remembered


async def test_another_path_leaves_nothing_behind(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1")
    await house.plant.happen(3)
    topics = {"state": {"topic": "{site}/{equipment}/state"}}
    async with house.running() as publisher:
        await told(publisher)
    settings = MqttSettings.model_validate({"broker": house.settings.broker, "topics": topics})
    async with house.running(topics=settings.topics) as publisher:
        held = await settled(publisher, mosquitto.port)
    assert STATE.format("filler-1") not in held
    assert json.loads(held["berlin/filler-1/state"])["seq"] == 3
    assert THERE.format("filler-1") in held
    async with house.running() as publisher:
        assert "berlin/filler-1/state" not in await settled(publisher, mosquitto.port)


async def test_equipment_that_was_placed_elsewhere_twice_and_did_not_move_leaves_nothing_behind(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Its state is told with the new place and model, though the transition on record has those of before."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "oven-1")
    await house.plant.happen(3)
    for path in ("filling/line-1/oven-1", "hall-2/oven-1", "hall-3/oven-1"):
        house.place("oven-1", path)
        async with house.running() as publisher:
            await told(publisher)
            held = await settled(publisher, mosquitto.port)
            assert not publisher.status().unproven
        states = [topic for topic in held if topic.endswith(("_state", "_availability"))]
        assert sorted(states) == [f"acme/berlin/{path}/_availability", f"acme/berlin/{path}/_state"]


async def test_who_retains_nothing_any_more_leaves_nothing_behind(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """No topic of our own can show then that the broker lets us look: what is found shows it."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1")
    await house.plant.happen(3)
    async with house.running() as publisher:
        await told(publisher)
    assert STATE.format("filler-1") in await retained(mosquitto.port)
    async with Subscriber(mosquitto.port) as person:
        await person.say(LINK.format("hall"), b"")
    kinds = ("state", "tag", "status", "availability", "connection")
    house.settings = MqttSettings.model_validate(
        {"broker": house.settings.broker, "topics": {kind: {"retain": False} for kind in kinds}}
    )
    async with house.running() as publisher:
        assert await settled(publisher, mosquitto.port) == {}
        assert not publisher.status().unproven
    assert not house.remembered


async def test_what_another_gateway_says_there_now_is_never_cleared(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """The oven moved to a gateway of its own, which says the same on the very same topics."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(6)
    async with house.running() as publisher:
        await told(publisher)
    held = await retained(mosquitto.port)
    theirs = {
        STATE.format("oven-1"): moved(held[STATE.format("oven-1")], seq=2, sequence=2, state="Baking"),
        TAG.format("oven-1"): held[TAG.format("oven-1")],
        THERE.format("oven-1"): b"online",
    }
    async with Subscriber(mosquitto.port, "none") as other:
        for topic, payload in theirs.items():
            await other.say(topic, payload)
    house.plant.names = ("filler-1",)
    async with house.running() as publisher:
        held = await settled(publisher, mosquitto.port)
        assert publisher.status().unproven == 3
    assert {topic: held[topic] for topic in theirs} == theirs


async def test_a_state_nothing_on_record_tells_of_is_left(mosquitto: Mosquitto, tmp_path: Path) -> None:
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    house.plant.names = ("filler-1",)
    house.plant.journal._events.clear()  # as after a journal was lost
    async with house.running() as publisher:
        held = await settled(publisher, mosquitto.port)
        assert publisher.status().unproven
    assert STATE.format("oven-1") in held
    assert THERE.format("oven-1") in held, "nor anything else of it"


async def test_equipment_that_never_moved_is_known_by_its_beginning(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    topic = STATE.format("oven-1")
    first = EquipmentState(
        "oven-1", "filling/line-1/oven-1", "packml", "Unknown", None, None, T0, 0, 0, "no value yet"
    )
    for ours in (True, False):
        house.plant.names = ("filler-1", "oven-1")
        house.plant.states = {"oven-1": first}
        async with house.running() as publisher:
            await told(publisher)
        if not ours:
            later = msgspec.structs.replace(first, since=T0 + timedelta(seconds=1))
            async with Subscriber(mosquitto.port, "none") as other:
                await other.say(topic, msgspec.json.encode(later))
        house.plant.names = ("filler-1",)
        async with house.running() as publisher:
            held = await settled(publisher, mosquitto.port)
        assert (topic in held) is not ours


async def test_a_broker_that_was_away_is_cleared_when_it_is_back(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """The equipment left while the broker was down, the gateway was started twice since."""
    mosquitto.lines += ["persistence true", f"persistence_location {tmp_path}/"]
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    assert mosquitto._process is not None
    mosquitto._process.terminate()
    mosquitto._process.wait()
    house.plant.names = ("filler-1",)
    for _ in range(2):
        async with house.running() as publisher:
            await until(lambda: publisher.status().last_error is not None, "it is away")
    await mosquitto.start()
    assert STATE.format("oven-1") in await retained(mosquitto.port)
    async with house.running() as publisher:
        held = await settled(publisher, mosquitto.port)
    assert STATE.format("oven-1") not in held
    assert STATE.format("filler-1") in held


async def test_a_crash_between_clearing_and_forgetting_is_mended(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    house.plant.names = ("filler-1",)
    with monkeypatch.context() as crash:
        forgotten: list[str] = []

        async def forget(self: Holdings, topics: Any) -> None:
            forgotten.extend(topics)

        crash.setattr(Holdings, "forget", forget)
        async with house.running() as publisher:
            await until(lambda: len(forgotten) >= 3, "cleared")
    assert STATE.format("oven-1") in house.remembered, "as a crash leaves it"
    async with house.running() as publisher:
        await settled(publisher, mosquitto.port)
        assert publisher.status().unproven == 0
    assert STATE.format("oven-1") not in house.remembered


async def test_what_cannot_be_looked_at_is_not_cleared_and_that_is_said(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that lets us only write, and does not even say so."""
    assert read_retained.__kwdefaults__ is not None
    monkeypatch.setitem(read_retained.__kwdefaults__, "quiet_s", 0.2)  # nothing comes, so none can be late
    rules = tmp_path / "rules"
    rules.write_text("topic write #\nuser reader\ntopic readwrite #\n")
    rules.chmod(0o600)
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    await mosquitto.kill()
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    house.plant.names = ("filler-1",)
    with capture_logs() as lines:
        async with house.running() as publisher:
            await until(lambda: publisher.status().unproven == 3, "told")
    assert [line for line in lines if "they cannot be looked at before" in str(line)]
    assert STATE.format("oven-1") in house.remembered, "for the day it lets us"


async def test_nothing_is_cleared_by_itself_where_that_is_not_wanted(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    house.plant.names = ("filler-1",)
    async with Subscriber(mosquitto.port) as listening:
        async with house.running(clear_removed=False) as publisher:
            await told(publisher)
        assert not [m for m in listening.heard if not m.payload and not m.topic.startswith("mark/")]
    assert STATE.format("oven-1") in house.remembered


async def test_each_sink_remembers_for_itself_and_the_first_file_is_still_read(tmp_path: Path) -> None:
    first = {"acme/berlin/a/oven-1/_state": "oven-1", "acme/berlin/_tag/hall/air": "hall/air"}
    (tmp_path / "published.json").write_text(json.dumps({"version": 1, "topics": first}))
    one, two = Holdings(tmp_path), Holdings(tmp_path, sink="mqtt-cloud")
    assert one.topics == {
        "acme/berlin/a/oven-1/_state": Held("state", "oven-1", "a/oven-1"),
        "acme/berlin/_tag/hall/air": Held("tag", "hall/air", ""),
    }
    await two.add({"x": Held("status", "")})
    await one.forget(["acme/berlin/_tag/hall/air", "unknown"])
    assert set(Holdings(tmp_path).topics) == {"acme/berlin/a/oven-1/_state"}
    assert Holdings(tmp_path, sink="mqtt-cloud").topics == {"x": Held("status", "")}
    (tmp_path / "published.json").write_text("{")
    assert Holdings(tmp_path).topics == {}


async def test_a_broker_under_a_new_name_is_cleared_of_what_left_meanwhile(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """As when a second broker comes, and the first gets a name; and only what that broker really holds."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    house.settings = mosquitto.settings(name="plant")
    house.plant.names = ("filler-1",)
    async with house.running() as publisher:
        await told(publisher)
        held = await settled(publisher, mosquitto.port)
        assert not [topic for topic in held if "oven-1" in topic]
        assert STATE.format("filler-1") in held
    assert STATE.format("oven-1") not in Holdings(tmp_path, sink="mqtt-plant").topics
    assert STATE.format("oven-1") in Holdings(tmp_path).topics, "the old broker may come back elsewhere"
    both = Holdings(tmp_path, sink="mqtt-new", others=["mqtt-new", "mqtt", "mqtt-plant"])
    assert both.topics == {}, "what is configured keeps its own"


@pytest.mark.parametrize("at_first", [0, 1])
async def test_what_a_slow_broker_did_not_give_in_time_is_looked_at_again(
    mosquitto: Mosquitto, tmp_path: Path, at_first: int
) -> None:
    """It gives the others only when the first look is over: forgotten, they would stay for ever."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(), "filler-1", "oven-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    house.plant.names = ("filler-1",)
    publisher = house.publisher()
    read, looks = publisher.read, 0

    async def slow(topics: Sequence[str]) -> Mapping[str, bytes]:
        nonlocal looks
        looks += 1
        found = await read(topics)
        return found if looks > 1 else {topic: found[topic] for topic in topics[:at_first]}

    publisher._leaving._read = slow
    async with Running(publisher):
        held = await settled(publisher, mosquitto.port)
    assert STATE.format("oven-1") not in held
    assert STATE.format("oven-1") not in house.remembered


async def test_what_is_remembered_is_whole_however_often_whoever_writes_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk: a write that nobody waits for any more is still under way when the next one begins."""
    fsync, begun, go_on = os.fsync, threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)
        fsync(fd)

    monkeypatch.setattr("gateway.journal.files.os.fsync", slow)
    holdings = Holdings(tmp_path)
    first = asyncio.create_task(holdings.add({f"first/{n}": Held("state", "a") for n in range(100)}))
    assert await asyncio.to_thread(begun.wait, WAIT_S)
    first.cancel()
    await asyncio.wait({first})
    begun.clear()
    second = asyncio.create_task(holdings.add({"second": Held("state", "b")}))
    await asyncio.sleep(0.1)  # it may begin to write now, and must not
    assert not begun.is_set()
    go_on.set()
    await second
    assert len(Holdings(tmp_path).topics) == 101


TREE = {
    "status": "uns/{gateway}/status",
    "connection": "uns/{gateway}/{connection}",
    "state": "uns/{path}/state",
    "availability": "uns/{path}/there",
    "tag": "uns/{path}/{connection}/{tag}",
}


async def test_what_another_section_says_at_the_same_broker_now_is_not_cleared(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """A plant moves to a tree of its own; those who listen to the old one get a section for themselves."""
    await mosquitto.start()
    house = House(tmp_path, mosquitto.settings(name="plant"), "filler-1")
    await house.plant.happen(4)
    async with house.running() as publisher:
        await told(publisher)
    (tmp_path / "legacy").mkdir()
    other = House(tmp_path / "legacy", mosquitto.settings(name="legacy"), "filler-1")
    other.plant, other.record = house.plant, house.record
    topics = {kind: {"topic": template} for kind, template in TREE.items()}
    settings = MqttSettings.model_validate({"broker": house.settings.broker, "topics": topics})
    legacy, plant = other.publisher(), house.publisher(topics=settings.topics)
    introduce([legacy, plant])
    async with Running(legacy):
        await told(legacy)
        before = await retained(mosquitto.port, "acme/#")
        async with Running(plant):
            await told(plant)
            await settled(plant, mosquitto.port)
            plant.clear(before)  # as a person or reconciliation would
            await told(plant)
            assert await retained(mosquitto.port, "acme/#") == before
    assert before[STATE.format("filler-1")]
    assert set(before) <= set(house.remembered), "for the day nobody says them any more"
