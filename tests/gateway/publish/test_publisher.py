"""What subscribers can rely on: one suite for Mosquitto (MQTT 5 and 3.1.1) and the embedded broker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.config.schema import MqttSettings
from gateway.mqtt.reasons import TAKEN_OVER, ClosedByBroker, failure
from gateway.publish.publisher import SINK
from statemodel.records import Recorded
from statemodel.types import Gap, Quality, SourceLost, TagSample
from tests.gateway.publish.support import (
    T0,
    WAIT_S,
    BrokerUnderTest,
    Heard,
    HurriedClock,
    Plant,
    Proxy,
    Running,
    Subscriber,
    recorded,
    retained,
    retains,
    transition,
    transitions,
    until,
    within,
)

STATUS = "andon/line-1/status"
TEMPERATURE = "acme/berlin/baking/oven-1/_tag/oven-plc/temp"


def state_topic(name: str) -> str:
    return f"acme/berlin/filling/line-1/{name}/_state"


async def test_a_newcomer_is_told_who_is_online_and_every_state(broker: BrokerUnderTest) -> None:
    plant = Plant("filler-1", "capper-1", "labeller-1")
    await plant.happen(7)
    async with Running(plant.publisher(broker.settings())):
        await within(plant.journal.wait_cursor(SINK, 7))
        told = await retained(broker.port)
    assert told[STATUS] == b"online"
    for name in plant.names:
        assert told[state_topic(name)] == msgspec.json.encode(plant.states[name])
    assert not [topic for topic in told if "/_event/" in topic]


async def test_every_event_arrives_in_order_as_the_journal_holds_it(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1", "capper-1")
    async with Running(plant.publisher(broker.settings())) as publisher:
        await until(lambda: publisher.status().connected, "connected")
        events = await plant.happen(1000)
        await subscriber.wait_ids(events)
        await within(plant.journal.wait_cursor(SINK, 1000))
        status = publisher.status()
    heard = subscriber.events()
    assert [message.payload for message in heard] == [event.json for event in events]
    assert {message.topic for message in heard} == {
        f"acme/berlin/filling/line-1/{name}/_event/transition" for name in plant.names
    }
    assert {(message.qos, message.retain) for message in heard} == {(1, False)}
    assert (status.lag_events, status.oldest_unsent_at, status.events) == (0, None, 1000)


async def test_states_follow_the_events_and_never_go_back(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1", "capper-1")
    await plant.happen(300)
    async with Running(plant.publisher(broker.settings())) as publisher:
        await until(lambda: publisher.status().lag_events == 0, "the backlog is out")
        for _ in range(20):
            await plant.happen(3)
        newest = {name: plant.states[name].seq for name in plant.names}
        await subscriber.wait(
            lambda: all(
                (states := subscriber.on(f"{name}/_state")) and states[-1].seq == newest[name]
                for name in plant.names
            ),
            "the newest states",
        )
    for name in plant.names:
        seqs = [message.seq for message in subscriber.on(f"{name}/_state")]
        assert seqs == sorted(seqs)
        assert seqs[0] >= 299, "the first state told is the current one, not the backlog"


async def test_events_of_connections_go_below_the_gateway(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1")
    lost = recorded(1, SourceLost("filler-plc", T0, "no answer"))
    gap = recorded(2, Gap("filler-plc", T0, T0 + timedelta(seconds=3), "restart"))
    await plant.append(lost, gap)
    async with Running(plant.publisher(broker.settings())):
        await subscriber.wait_ids([lost, gap])
    assert [(message.topic, message.payload) for message in subscriber.events()] == [
        ("andon/line-1/_event/source_lost", lost.json),
        ("andon/line-1/_event/gap", gap.json),
    ]


async def test_a_broker_killed_under_load_and_again_loses_nothing(
    broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a broker acknowledged and lost comes again, and again if the next one dies as soon."""
    monkeypatch.setattr(
        "gateway.publish.events.REPEAT_S", 2 * WAIT_S
    )  # however long this machine stands still
    plant = Plant("filler-1", "capper-1", "labeller-1")
    events: list[Recorded] = []
    heard: list[Heard] = []
    async with Proxy(broker.port) as proxy:
        publisher = plant.publisher(broker.settings(proxy.port))
        async with Running(publisher):
            for _ in range(2):
                async with Subscriber(broker.port, "acme/#") as listener:
                    proxy.target_port = broker.port
                    events += await plant.happen(600)
                    await until(lambda: 0 < publisher.status().lag_events < 450, "some events")
                    proxy.target_port = 1  # nobody gets through before the next listener is there
                    await broker.kill()
                    await until(lambda: not publisher.status().connected, "noticed")
                    assert publisher.status().lag_events > 0
                await broker.start()
                heard += listener.events()
            async with Subscriber(broker.port, "acme/#") as listener:
                proxy.target_port = broker.port
                events += await plant.happen(50)
                await listener.wait_ids(events[-1:])
                await within(plant.journal.wait_cursor(SINK, 1250))
    seqs = [message.seq for message in listener.events()]
    assert seqs == list(range(seqs[0], 1251)), "one run, in order, without a hole"
    assert {m.id: m.payload for m in heard + listener.events()} == {e.id: e.json for e in events}


async def test_a_cut_connection_repeats_events_with_the_same_id_in_order(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1", "capper-1")
    async with Proxy(broker.port) as proxy:
        publisher = plant.publisher(broker.settings(proxy.port))
        async with Running(publisher):
            await until(lambda: publisher.status().connected, "connected")
            proxy.deaf = True  # what we send arrives; its acknowledgements do not
            # (fewer than Mosquitto's Receive Maximum of 20)
            first = await plant.happen(15)
            await subscriber.wait_ids(first)
            await until(lambda: proxy.swallowed > 0, "an acknowledgement was lost")
            assert (await plant.journal.cursor(SINK)).seq == 0
            assert publisher.status().lag_events == 15
            assert publisher.status().oldest_unsent_at == first[0].recorded_at
            proxy.cut()
            proxy.deaf = False
            second = await plant.happen(15)
            await within(plant.journal.wait_cursor(SINK, 30))
            await subscriber.wait_ids(first + second)
    heard = [message.payload for message in subscriber.events()]
    everything = [event.json for event in first + second]
    assert heard[:15] == everything[:15]
    assert heard[15:] == everything, "everything not acknowledged came again, in order, before anything newer"
    assert len({message.id for message in subscriber.events()}) == 30


async def test_a_broker_that_forgot_everything_is_told_again(broker: BrokerUnderTest) -> None:
    plant = Plant("filler-1", "capper-1")
    await plant.happen(5)
    temperature = TagSample("oven-plc/temp", 181.5, Quality.GOOD, None, T0)
    async with Running(plant.publisher(broker.settings())) as publisher:
        publisher.publish_tag(temperature)
        await within(plant.journal.wait_cursor(SINK, 5))
        await broker.kill()
        await until(lambda: not publisher.status().connected, "noticed")
        await broker.start()
        wanted = {state_topic(name): msgspec.json.encode(plant.states[name]) for name in plant.names}
        wanted[STATUS] = b"online"
        told = await retains(
            broker.port, lambda told: TEMPERATURE in told and wanted.items() <= told.items(), "all again"
        )
    assert msgspec.json.decode(told[TEMPERATURE])["value"] == 181.5


async def test_a_broker_that_comes_late_gets_everything(broker: BrokerUnderTest) -> None:
    await broker.kill()
    plant = Plant("filler-1")
    events = await plant.happen(10)
    async with Running(plant.publisher(broker.settings())) as publisher:
        await until(lambda: publisher.status().oldest_unsent_at is not None, "a first attempt failed")
        status = publisher.status()
        assert not status.connected
        assert "cannot be reached" in (status.last_error or "")
        assert status.alarm == ""
        assert (status.lag_events, status.oldest_unsent_at) == (10, events[0].recorded_at)
        await broker.start()
        await within(plant.journal.wait_cursor(SINK, 10))
        assert publisher.status().last_error is None


async def test_leaving_says_offline(broker: BrokerUnderTest, subscriber: Subscriber) -> None:
    plant = Plant("filler-1")
    async with Running(plant.publisher(broker.settings())) as publisher:
        await until(lambda: publisher.status().connected, "connected")
        events = await plant.happen(150)
        await until(lambda: publisher.status().events > 0, "some are out")
    assert (await plant.journal.cursor(SINK)).seq > 0
    await subscriber.wait(lambda: subscriber.on("status")[-1:] != [], "status")
    await subscriber.wait(lambda: subscriber.on("status")[-1].payload == b"offline", "offline")
    assert subscriber.on("status")[0].payload == b"online"
    told = {message.seq for message in subscriber.events()}
    cursor = (await plant.journal.cursor(SINK)).seq
    assert set(range(1, cursor + 1)) <= told <= {event.seq for event in events}
    assert (await retained(broker.port))[STATUS] == b"offline"
    said = [message.payload for message in subscriber.on("status")]
    assert said.count(b"offline") == 1, "no will on top: the broker was told good-bye"


async def test_the_will_speaks_for_a_gateway_that_died(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1")
    async with Proxy(broker.port) as proxy:
        publisher = plant.publisher(broker.settings(proxy.port))
        async with Running(publisher):
            await subscriber.wait(lambda: bool(subscriber.on("status")), "online")
            proxy.target_port = 1  # it does not come back
            proxy.cut()
            await subscriber.wait(lambda: subscriber.on("status")[-1].payload == b"offline", "the will")
            assert (await retained(broker.port))[STATUS] == b"offline"
            proxy.target_port = broker.port
            await subscriber.wait(lambda: subscriber.on("status")[-1].payload == b"online", "online again")
            await until(lambda: publisher.status().in_flight == 0, "all told")
            assert (await retained(broker.port))[STATUS] == b"online"


async def test_a_will_that_comes_late_does_not_have_the_last_word(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    """The broker keeps the old connection for alive, and speaks its will when the new one stands already."""
    async with Proxy(broker.port) as proxy:
        publisher = Plant("filler-1").publisher(broker.settings(proxy.port), clock=HurriedClock())
        async with Running(publisher):
            await until(lambda: publisher.status().connected, "connected")
            proxy.cut_half()
            await until(lambda: publisher.status().connects == 2, "connected again")
            proxy.cut_held()
            await subscriber.wait(
                lambda: b"offline" in [m.payload for m in subscriber.on("status")], "the will"
            )
            await subscriber.wait(lambda: subscriber.on("status")[-1].payload == b"online", "the last word")
            assert (await retained(broker.port))[STATUS] == b"online"


async def test_tags_are_told_newest_only(broker: BrokerUnderTest) -> None:
    plant = Plant("filler-1")
    async with Running(plant.publisher(broker.settings(inflight_max=4))) as publisher:
        await until(lambda: publisher.status().connected, "connected")
        for tenth in range(1000):
            at = T0 + timedelta(seconds=tenth)
            publisher.publish_tag(TagSample("oven-plc/temp", tenth / 10, Quality.GOOD, at, at))
        publisher.publish_tag(TagSample("hall/air", None, Quality.BAD, None, T0, "no_communication"))
        publisher.publish_tag(TagSample("hall/secret", 1, Quality.GOOD, None, T0))
        told = await retains(
            broker.port, lambda told: {TEMPERATURE, "acme/berlin/_tag/hall/air"} <= told.keys(), "two tags"
        )
        assert publisher.status().tags_merged == 999
    assert msgspec.json.decode(told[TEMPERATURE]) == {
        "tag": "oven-plc/temp",
        "value": 99.9,
        "quality": "good",
        "substatus": "",
        "unit": "°C",
        "source_at": "2026-11-21T22:16:39Z",
        "received_at": "2026-11-21T22:16:39Z",
    }
    air = msgspec.json.decode(told["acme/berlin/_tag/hall/air"])
    assert (air["value"], air["quality"], air["substatus"]) == (None, "bad", "no_communication")
    assert not [topic for topic in told if "secret" in topic]


async def test_what_the_journal_cannot_read_holds_nothing_up(
    broker: BrokerUnderTest, subscriber: Subscriber
) -> None:
    plant = Plant("filler-1")
    await plant.append(*transitions(plant.names, 3))
    await plant.journal.append(damaged=2)
    async with Running(plant.publisher(broker.settings())):
        assert (await within(plant.journal.wait_cursor(SINK, 5))).seq == 5
        await plant.append(recorded(6, transition("filler-1", 6)))
        assert (await within(plant.journal.wait_cursor(SINK, 6))).seq == 6
    await subscriber.wait(lambda: [m.seq for m in subscriber.events()] == [1, 2, 3, 6], "what can be read")


async def test_states_do_not_queue_behind_a_backlog(broker: BrokerUnderTest, subscriber: Subscriber) -> None:
    plant = Plant("filler-1", "capper-1")
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    await plant.happen(500, at=long_ago)
    async with Running(plant.publisher(broker.settings())):
        await within(plant.journal.wait_cursor(SINK, 500))
        await subscriber.wait(lambda: len(subscriber.events()) >= 500, "the backlog")
    first_event = next(i for i, message in enumerate(subscriber.heard) if "/_event/" in message.topic)
    told_before = {message.topic for message in subscriber.heard[:first_event]}
    assert {STATUS, *(state_topic(name) for name in plant.names)} <= told_before
    assert len(subscriber.on("_state")) == len(plant.names), "the backlog says nothing about the present"


async def test_a_client_id_in_use_twice_is_told_with_what_to_do() -> None:
    """By a broker that says so, and by one that only closes the connection again and again."""
    for told in (failure(TAKEN_OVER, "the connection"), ClosedByBroker("closed")):
        publisher = Plant("filler-1").publisher(MqttSettings(broker="mqtt://127.0.0.1:1"))
        publisher._retry.alarm = "client_id_taken"
        publisher._note(told, 1.0)
        assert "our client id" in (publisher.status().last_error or "")
        assert "set client_id" in (publisher.status().last_error or "")


async def test_whose_client_id_is_taken_is_told_by_its_section() -> None:
    publisher = Plant("filler-1").publisher(MqttSettings(name="cloud", broker="mqtt://127.0.0.1:1"))
    publisher._retry.alarm = "client_id_taken"
    publisher._note(ClosedByBroker("closed"), 1.0)
    assert (publisher.status().last_error or "").endswith('set client_id in [[mqtt]] "cloud"')


async def test_what_comes_during_a_pause_is_seen_to_wait() -> None:
    plant = Plant("filler-1")
    publisher = plant.publisher(MqttSettings(broker="mqtt://127.0.0.1:1"))
    resting = asyncio.create_task(publisher._events.wait_out(60.0))
    assert publisher.status().oldest_unsent_at is None
    [event] = await plant.happen(1)
    await until(lambda: publisher.status().oldest_unsent_at == event.recorded_at, "seen to wait")
    resting.cancel()
