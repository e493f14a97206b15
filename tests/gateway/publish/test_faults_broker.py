"""Faults 49 to 53 of the catalogue: brokers that die, forget, lose words, come back old, and are shared.

On a real Mosquitto, with the pauses a plant has, unless a test says otherwise. What was said is read from the
cable by a tap that shares no code with the gateway (`tests.support.mqtt_tap`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.schema import MqttSettings
from gateway.publish import presence
from gateway.publish.publisher import SINK, MqttPublisher
from tests.gateway.publish.support import (
    WAIT_S,
    HurriedClock,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    retained,
    until,
    within,
)
from tests.support.manual_clock import ManualClock
from tests.support.mqtt_tap import PUBACK, PUBCOMP, PUBREC, Ledger, Tap

pytestmark = pytest.mark.real

STATUS = "andon/line-1/status"
NAMES = [f"machine-{n}" for n in range(40)]
#: Events of a backlog that is replayed for some tenths of a second.
LONG_AGO = 6000


def settings_of(broker: Mosquitto, port: int, *, qos: int = 1, **more: Any) -> MqttSettings:
    """To be spoken to through a tap, with events of a QoS."""
    topics = {"event": {"qos": qos}} if qos != 1 else {}
    plain = broker.settings(port, **more).model_dump()
    return MqttSettings.model_validate({**plain, "topics": topics})


@asynccontextmanager
async def tapped(broker: Mosquitto) -> AsyncIterator[Tap]:
    async with Tap(broker.port, Ledger(broker.protocol)) as tap:
        yield tap


def seqs(tap: Tap) -> list[int]:
    return [msgspec.json.decode(sent.payload)["seq"] for sent in tap.ledger.events()]


def truth(plant: Plant) -> dict[str, bytes]:
    return {
        f"acme/berlin/filling/line-1/{name}/_state": msgspec.json.encode(state)
        for name, state in plant.states.items()
    }


async def is_true(broker: Mosquitto, plant: Plant) -> None:
    """Wait until everything retained is the truth, to the byte."""
    told: dict[str, bytes] = {}
    try:
        async with asyncio.timeout(WAIT_S):
            while told != truth(plant):
                told = await retained(broker.port, "acme/#")
    except TimeoutError:
        wrong = [topic for topic, payload in truth(plant).items() if told.get(topic) != payload]
        pytest.fail(f"{len(wrong)} of {len(plant.states)} retained states are not true: {wrong[:3]}")


# --- 49: killed with messages in flight


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_killed_with_messages_in_flight_that_forgets_is_told_all_again(
    mosquitto: Mosquitto, qos: int
) -> None:
    """It stands still, so that messages are in flight it never read; then kill -9, and an empty store."""
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with tapped(mosquitto) as tap:
        publisher = plant.publisher(settings_of(mosquitto, tap.port, qos=qos))
        async with Running(publisher):
            await plant.happen(100)
            await within(plant.journal.wait_cursor(SINK, 100))
            os.kill(mosquitto.pid, signal.SIGSTOP)
            events = await plant.happen(500)
            await until(lambda: publisher.status().in_flight > 10, "messages in flight")
            await mosquitto.kill()
            await tap.down()
            await until(lambda: not publisher.status().connected, "noticed")
            await mosquitto.start()
            await tap.up()
            await is_true(mosquitto, plant)
            await within(plant.journal.wait_cursor(SINK, 600))
            assert (await retained(mosquitto.port, STATUS))[STATUS] == b"online"
    acked = {one.sent.payload for one in tap.ledger.acked}
    assert {event.json for event in events} <= acked
    assert tap.ledger.faults == []


async def test_a_broker_that_comes_back_with_an_old_store_is_told_the_truth(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """A backup of its store is put back: everything it retains is of yesterday."""
    store = tmp_path / "mosquitto.db"
    mosquitto.lines += ["persistence true", f"persistence_location {tmp_path}/"]
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with Running(plant.publisher(mosquitto.settings())) as publisher:
        await plant.happen(80)
        await within(plant.journal.wait_cursor(SINK, 80))
        os.kill(mosquitto.pid, signal.SIGUSR1)  # save the store now
        await until(store.exists, "a store")
        old = await retained(mosquitto.port, "acme/#")
        os.kill(mosquitto.pid, signal.SIGUSR1)
        shutil.copy(store, tmp_path / "yesterday.db")
        await plant.happen(80)
        await within(plant.journal.wait_cursor(SINK, 160))
        await mosquitto.kill()
        await until(lambda: not publisher.status().connected, "noticed")
        shutil.copy(tmp_path / "yesterday.db", store)
        await mosquitto.start()
        await is_true(mosquitto, plant)
    assert old.keys() == truth(plant).keys()
    assert not set(old.values()) & set(truth(plant).values()), "the old store held the truth already"


async def test_after_a_long_absence_states_are_true_as_soon_as_after_a_short_one(
    mosquitto: Mosquitto,
) -> None:
    """Long enough for the pauses between attempts to have grown as long as they get."""
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with Running(plant.publisher(mosquitto.settings())) as publisher:
        await plant.happen(80)
        await within(plant.journal.wait_cursor(SINK, 80))
        await mosquitto.kill()
        await plant.happen(5000)
        away = asyncio.get_running_loop().time()
        retries: set[datetime | None] = set()
        while asyncio.get_running_loop().time() - away < 13.0 or len(retries) < 5:
            retries.add(retry_at := publisher.status().retry_at)
            latest = datetime.now(UTC) + timedelta(seconds=5.0)
            assert retry_at is None or retry_at < latest, "longer than a plant may be told old states"
            await asyncio.sleep(0.05)
        assert len(retries) > 3, "it did not try"
        await mosquitto.start()
        await is_true(mosquitto, plant)
        await within(plant.journal.wait_cursor(SINK, 5080))


# --- 50: what a broker says gets lost


@pytest.mark.parametrize(("qos", "lost"), [(1, PUBACK), (2, PUBREC), (2, PUBCOMP)])
async def test_a_lost_answer_costs_a_repetition_with_the_same_id_and_nothing_else(
    mosquitto: Mosquitto, qos: int, lost: int
) -> None:
    """The broker has the messages; what it says of that never comes. Its next session knows none of them."""
    mosquitto.lines.append("max_inflight_messages 100")
    await mosquitto.start()
    plant = Plant("filler-1", "capper-1")
    async with tapped(mosquitto) as tap, Subscriber(mosquitto.port, "acme/#") as consumer:
        publisher = plant.publisher(settings_of(mosquitto, tap.port, qos=qos))
        async with Running(publisher):
            before = await plant.happen(30)
            await within(plant.journal.wait_cursor(SINK, 30))
            tap.losing.add(lost)
            lost_ones = await plant.happen(30)
            await until(lambda: tap.lost >= 30, "answers got lost")
            assert (await plant.journal.cursor(SINK)).seq == 30, "the cursor moves on an answer only"
            await tap.down()
            tap.losing.clear()
            await tap.up()
            after = await plant.happen(30)
            await within(plant.journal.wait_cursor(SINK, 90))
            events = before + lost_ones + after
            await consumer.wait_ids(events)
    heard = [(message.id, message.payload) for message in consumer.events()]
    assert list(dict(heard).items()) == [(event.id, event.json) for event in events], "in order, same bytes"
    again = seqs(tap)[60:]
    assert again == list(range(again[0], 91)), "the repetition is one run, without a hole"
    assert again[0] <= 31


# --- 51: an old state does not follow a newer one


async def test_a_replay_puts_no_old_state_over_a_newer_one(mosquitto: Mosquitto) -> None:
    """Also when the gateway dies in the middle of it: the next one remembers nothing of what it said."""
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with tapped(mosquitto) as tap:
        # Few in flight, so that a replay takes long enough for states to be looked at in its midst.
        settings = settings_of(mosquitto, tap.port, inflight_max=5)
        for _ in range(3):
            await plant.happen(LONG_AGO, at=datetime.now(UTC) - timedelta(hours=8))
            told = len(tap.ledger.sent)
            async with Running(plant.publisher(settings)) as publisher:
                await until(lambda told=told: len(tap.ledger.sent) > told + 900, "in the midst")  # type: ignore[misc]
                await is_true(mosquitto, plant)
                await until(lambda publisher=publisher: publisher.status().lag_events < 1000, "nearly done")  # type: ignore[misc]
                await tap.down()
            await tap.up()
        async with Running(plant.publisher(settings)):
            await plant.happen(200)
            await within(plant.journal.wait_cursor(SINK, 3 * LONG_AGO + 200))
        newest: dict[str, int] = {}
        for sent in tap.ledger.said("/_state"):
            seq = msgspec.json.decode(sent.payload)["seq"]
            assert seq >= newest.get(sent.topic, LONG_AGO - len(NAMES) + 1), "a state of the past was said"
            newest[sent.topic] = seq
        assert len(newest) == len(NAMES)
        assert not any(sent.retain for sent in tap.ledger.events()), "history is not retained"
    await is_true(mosquitto, plant)


# --- 52: two with one client id


def both_at_rest(publishers: Iterable[MqttPublisher], now: datetime) -> bool:
    """One at most is connected and has nothing more to say; the others pause."""
    rest, connected = [], 0
    for publisher in publishers:
        status = publisher.status()
        connected += status.connected
        at_rest = publisher.is_heard() and not status.in_flight and not status.lag_events
        pauses = status.retry_at is not None and status.retry_at > now
        rest.append(at_rest if status.connected else pauses)
    return all(rest) and connected < 2


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_two_that_fight_for_a_client_id_change_places_less_than_once_a_minute(
    mosquitto: Mosquitto, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ten minutes after the first alarm, which both raise; and both get their events out nevertheless.

    The minutes pass between what they do: a machine that stands still is not to count as a broker that does.
    """
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(presence, "ECHO_S", WAIT_S)
    await mosquitto.start()
    settings = mosquitto.settings(protocol=protocol, keep_alive="18h")
    clock = ManualClock(datetime.now(UTC))
    plants = Plant("filler-1"), Plant("capper-1")
    both = [plant.publisher(settings, clock=clock) for plant in plants]

    async def pass_on() -> set[int]:
        """Half a second passes; who raises the alarm."""
        await until(lambda: both_at_rest(both, clock.now()), "one is there, or both pause")
        clock.advance(0.5)
        for _ in range(5):
            await asyncio.sleep(0)
        return {n for n, each in enumerate(both) if each.status().alarm == "client_id_taken"}

    async with Running(both[0]), Running(both[1]):
        async with asyncio.timeout(2 * WAIT_S):
            while not (alarms := await pass_on()):
                pass
            connects = sum(each.status().connects for each in both)
            for plant in plants:
                await plant.happen(10)
            for _ in range(2 * 600):
                alarms |= await pass_on()
        changes = sum(each.status().connects for each in both) - connects
        assert [(await plant.journal.cursor(SINK)).seq for plant in plants] == [10, 10]
    assert 1 <= changes <= 10, changes
    assert alarms == {0, 1}, "only one side said it"


# --- 53: the will of one that is gone


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_gateway_back_on_another_connection_outlives_its_own_will(
    mosquitto: Mosquitto, protocol: str
) -> None:
    """The network eats the old connection; the broker learns of it when the gateway is long back."""
    mosquitto.protocol = protocol
    await mosquitto.start()
    plant = Plant("filler-1")
    async with tapped(mosquitto) as tap, Subscriber(mosquitto.port, "andon/#") as listener:
        publisher = plant.publisher(settings_of(mosquitto, tap.port), clock=HurriedClock())
        async with Running(publisher):
            await until(lambda: publisher.status().connected, "connected")
            os.kill(mosquitto.pid, signal.SIGSTOP)
            await tap.down()  # what stands still does not see the connection end
            await tap.up()
            await until(lambda: not publisher.status().connected, "noticed")
            os.kill(mosquitto.pid, signal.SIGCONT)
            await until(lambda: publisher.status().connects >= 2, "connected again")
            await listener.wait(lambda: b"offline" in [m.payload for m in listener.on("status")], "the will")
            await listener.wait(lambda: listener.on("status")[-1].payload == b"online", "the last word")
            assert (await retained(mosquitto.port, STATUS))[STATUS] == b"online"
