"""Retained topics lost, old, foreign, left over: found on real brokers, mended, and others' left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from api.reconciliation import Reconciliation
from gateway.clock import SystemClock
from gateway.config.schema import ReconcileSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.options import link_options
from gateway.mqtt.retained import read_retained
from gateway.publish.holdings import Held, Holdings
from gateway.publish.ownership import Ownership
from gateway.publish.publisher import MqttPublisher
from gateway.reconcile.broker import BrokerPart
from gateway.reconcile.reconciler import Reconciler
from statemodel.records import Recorded
from statemodel.types import Quality, TagSample
from tests.gateway.publish.support import (
    GATEWAY,
    BrokerUnderTest,
    Mosquitto,
    Plant,
    Running,
    retained,
    until,
)
from tests.gateway.publish.test_mosquitto import passwords
from tests.gateway.reconcile.plants import kinds
from tests.support.certificates import Authority

FILLER = "acme/berlin/filling/line-1/filler-1/_state"
OVEN = "acme/berlin/filling/line-1/oven-1/_state"
STATUS = "andon/line-1/status"
TEMP = "acme/berlin/baking/oven-1/_tag/oven-plc/temp"
PATIENCE_S = 60.0
#: What is on its way arrives meanwhile.
SETTLE = timedelta(seconds=1)
SETTINGS = ReconcileSettings(settle=SETTLE)


class Record:
    """The plant's journal, as the broker's part looks events up."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self.freed = 0

    async def last_transitions(self) -> Mapping[str, Recorded]:
        return {event.equipment: event for event in await self._plant.journal.read(0, 10_000)}

    async def event(self, seq: int) -> Recorded | None:
        if seq <= self.freed:
            return None
        found = await self._plant.journal.read(seq - 1, 1)
        return found[0] if found and found[0].seq == seq else None


class Site:
    """A publisher at work, its broker, and the reconciler over both."""

    def __init__(self, plant: Plant, publisher: MqttPublisher, directory: Path, port: int) -> None:
        self.plant, self.publisher, self.port = plant, publisher, port
        self.record = Record(plant)
        self.holdings = publisher.holdings
        self.part = BrokerPart(
            publisher,
            self.record,
            Ownership(self.record, gateway="line-1", started_at=datetime.now(UTC)),
            embedded=False,
            connected=lambda: publisher.status().connected,
        )
        self.reconciler = Reconciler((self.part,), SETTINGS, SystemClock())

    async def reconcile(self, *, repair: bool = False) -> Reconciliation:
        return await self.reconciler.reconcile(repair=repair, full=False)

    async def holds(self) -> dict[str, bytes]:
        return await retained(self.port)

    async def say(self, topic: str, payload: bytes) -> None:
        """Somebody else publishes, retained; some brokers acknowledge before they keep it."""
        await asyncio.to_thread(_publish, self.port, topic, payload)
        async with asyncio.timeout(PATIENCE_S):
            while (await self.holds()).get(topic, b"") != payload:
                await asyncio.sleep(0.01)


def _publish(port: int, topic: str, payload: bytes) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="somebody-else", protocol=paho.MQTTv311)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()


@asynccontextmanager
async def site(
    broker: BrokerUnderTest, directory: Path, plant: Plant, *, moves: int = 0
) -> AsyncIterator[Site]:
    if moves:
        await plant.happen(moves)
    holdings = Holdings(directory, gateway="line-1")
    async with Running(plant.publisher(broker.settings(), holdings=holdings)) as publisher:
        await until(lambda: publisher.status().connected and not publisher.status().lag_events, "published")
        await until(lambda: not publisher.status().in_flight, "acknowledged")
        yield Site(plant, publisher, directory, broker.port)


def told(report: Reconciliation) -> Sequence[tuple[str, str, str]]:
    return [(found.kind, found.place, found.outcome) for found in report.differences]


async def test_what_agrees_is_left_alone(broker: BrokerUnderTest, tmp_path: Path) -> None:
    async with site(broker, tmp_path, Plant("filler-1", "oven-1"), moves=5) as at:
        report = await at.reconcile(repair=True)
        assert (report.differences, report.agree) == ([], True)
        assert [(part.part, part.compared, part.reason) for part in report.parts] == [("broker", 3, None)]
        assert at.holdings.topics[OVEN] == Held("state", "oven-1", "filling/line-1/oven-1")
        assert Holdings(tmp_path).topics == at.holdings.topics
        assert set(at.holdings.topics) >= {FILLER, OVEN, STATUS, TEMP}
        assert at.publisher.status().connects == 1, "the second connection disturbs the first"


async def test_lost_and_overwritten_topics_are_published_again(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    async with site(broker, tmp_path, Plant("filler-1", "oven-1"), moves=6) as at:
        at.publisher.publish_tag(TagSample("oven-plc/temp", 181.5, Quality.GOOD, None, datetime.now(UTC)))
        await until(lambda: not at.publisher.status().in_flight, "the tag")
        await at.reconcile()
        before = await at.holds()
        older = json.loads(before[OVEN]) | {"seq": 1, "sequence": 1, "state": "Idle"}
        await at.say(FILLER, b"")
        await at.say(OVEN, json.dumps(older).encode())
        await at.say(TEMP, b"{}")
        report = await at.reconcile()
        assert sorted(kinds(report)) == [
            ("retained_differs", TEMP),
            ("retained_differs", OVEN),
            ("retained_missing", FILLER),
        ]
        assert await at.holds() != before
        report = await at.reconcile(repair=True)
        assert report.agree
        assert {found.outcome for found in report.differences} == {"repaired"}
        assert await at.holds() == before


async def test_nothing_older_is_said_after_something_newer(broker: BrokerUnderTest, tmp_path: Path) -> None:
    async with site(broker, tmp_path, Plant("filler-1"), moves=3) as at:
        newer = json.loads((await at.holds())[FILLER]) | {"seq": 99, "sequence": 99}
        await at.say(FILLER, json.dumps(newer).encode())
        report = await at.reconcile(repair=True)
        assert told(report) == [("retained_newer", FILLER, "told")]
        assert not report.agree
        assert json.loads((await at.holds())[FILLER])["seq"] == 99


async def test_topics_of_removed_equipment_are_cleared_when_asked_for(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    plant = Plant("filler-1", "oven-1")
    async with site(broker, tmp_path, plant, moves=6) as before:
        await before.reconcile()
    plant.names = ("filler-1",)
    async with site(broker, tmp_path, plant) as at:
        for repair in (False, True):
            report = await at.reconcile(repair=repair)
            assert told(report) == [("left_over", OVEN, "repaired" if repair else "told")]
            assert at.reconciler.trouble() is None, "it waits for a person, and does no harm"
        assert report.agree
        held = await at.holds()
        assert OVEN not in held
        assert FILLER in held
        assert OVEN not in Holdings(tmp_path).topics
        assert (await at.reconcile()).differences == []


async def test_topics_of_others_are_never_touched(broker: BrokerUnderTest, tmp_path: Path) -> None:
    """Another gateway took over the equipment that was removed here, and one has the same site."""
    plant = Plant("filler-1", "oven-1")
    async with site(broker, tmp_path, plant, moves=6) as before:
        await before.reconcile()
        old = json.loads((await before.holds())[OVEN])
    plant.names = ("filler-1",)
    async with site(broker, tmp_path, plant) as at:
        theirs = {
            OVEN: json.dumps(old | {"state": "Baking", "since": "2026-11-22T02:00:00Z"}).encode(),
            "acme/berlin/filling/line-1/other-1/_state": b'{"equipment":"other-1"}',
            "acme/berlin/_tag/hall/noise": b"1",
        }
        for topic, payload in theirs.items():
            await at.say(topic, payload)
        report = await at.reconcile(repair=True)
        assert (report.differences, report.agree) == ([], True)
        held = await at.holds()
        assert {topic: held[topic] for topic in theirs} == theirs


async def test_a_left_over_nothing_proves_is_told_and_kept(broker: BrokerUnderTest, tmp_path: Path) -> None:
    """The equipment has moved to another path; the transition in the old topic is no longer held anywhere."""
    plant = Plant("filler-1", "oven-1")
    async with site(broker, tmp_path, plant, moves=6) as before:
        await before.reconcile()
        old = (await before.holds())[OVEN]
    plant.names = ("filler-1",)
    async with site(broker, tmp_path, plant) as at:
        await at.plant.happen(2)
        state = json.loads(old) | {"seq": 2}
        await at.say(OVEN, json.dumps(state).encode())
        at.record.freed = 3
        report = await at.reconcile(repair=True)
        assert report.differences == []
        assert "nothing on record proves it" in (report.parts[0].reason or "")
        assert OVEN in await at.holds()


async def test_a_tag_no_longer_published_is_left_over(broker: BrokerUnderTest, tmp_path: Path) -> None:
    old_topic = "acme/berlin/baking/oven-1/_tag/oven-plc/old"
    async with site(broker, tmp_path, Plant("filler-1"), moves=2) as at:
        await at.holdings.add({old_topic: Held("tag", "oven-plc/old", "baking/oven-1")})
        value: dict[str, Any] = {
            "tag": "oven-plc/old",
            "value": 1,
            "quality": "good",
            "substatus": "",
            "unit": "",
            "source_at": None,
            "received_at": "2999-01-01T00:00:00Z",
        }
        await at.say(old_topic, json.dumps(value).encode())
        assert (await at.reconcile(repair=True)).differences == [], "somebody says it still"
        await at.say(old_topic, json.dumps(value | {"received_at": "2026-01-01T00:00:00Z"}).encode())
        assert told(await at.reconcile(repair=True)) == [("left_over", old_topic, "repaired")]
        assert old_topic not in await at.holds()


async def test_by_itself_only_what_the_settings_allow_is_cleared(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    await mosquitto.start()
    plant = Plant("filler-1", "oven-1")
    async with site(mosquitto, tmp_path, plant, moves=6) as before:
        await before.reconcile()
    plant.names = ("filler-1",)
    async with site(mosquitto, tmp_path, plant) as at:
        for clear, outcome in ((False, "told"), (True, "repaired")):
            at.part.clear_removed = clear
            by_clock = Reconciler(
                (at.part,),
                ReconcileSettings(settle=SETTLE, every=timedelta(milliseconds=10)),
                SystemClock(),
            )
            running = asyncio.create_task(by_clock.run())
            await until(lambda at=by_clock: bool(at.reports()), "the first one")  # type: ignore[misc]
            running.cancel()
            await asyncio.wait({running})
            assert told(by_clock.reports()[-1]) == [("left_over", OVEN, outcome)]


async def test_a_broker_that_is_away_is_not_compared(tmp_path: Path, mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    async with site(mosquitto, tmp_path, Plant("filler-1"), moves=2) as at:
        await mosquitto.kill()
        await until(lambda: not at.publisher.status().connected, "the loss")
        report = await at.reconcile(repair=True)
        assert report.agree
        assert report.parts[0].reason == "not compared: the publisher is not connected to the broker"
        with pytest.raises(SinkUnavailable, match="cannot be reached"):
            await read_retained(at.publisher.options, [STATUS])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_broker_that_lets_us_not_read_says_so(
    tmp_path: Path, mosquitto: Mosquitto, protocol: str
) -> None:
    options = link_options(mosquitto.settings(protocol=protocol), GATEWAY)
    mosquitto.lines.append("max_packet_size 200")
    await mosquitto.start()
    with pytest.raises((SinkUnavailable, SinkRefused)):
        await read_retained(options, [f"acme/{'x' * 300}"])
    await asyncio.to_thread(_publish, mosquitto.port, "acme/a", b"1" * 100)
    with pytest.raises(SinkUnavailable, match="more than is taken"):
        await read_retained(options, ["acme/a"], bytes_max=50)


@pytest.mark.real
async def test_a_broker_that_gives_us_nothing_without_a_word_has_lost_nothing(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    """Mosquitto grants a subscription that its rules forbid, and then says nothing there."""
    rules = tmp_path / "rules"
    rules.write_text("topic write #\n")
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    async with site(mosquitto, tmp_path, Plant("filler-1", "oven-1"), moves=5) as at:
        report = await at.reconcile(repair=True)
        assert report.differences == []
        assert "gives this client nothing" in (report.parts[0].reason or "")
        assert at.reconciler.trouble() is None


async def test_a_broker_without_a_store_has_all_states_again_by_itself(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """Killed hard, nothing kept on disk: what is retained is what is true, for all equipment."""
    await mosquitto.start()
    names = [f"machine-{n}" for n in range(50)]
    async with site(mosquitto, tmp_path, Plant(*names), moves=200) as at:
        before = {topic: body for topic, body in (await at.holds()).items() if topic.endswith("/_state")}
        assert len(before) == 50
        await mosquitto.kill()
        await at.plant.happen(50)
        await mosquitto.start()
        await until(lambda: at.publisher.status().connected and not at.publisher.status().lag_events, "back")
        await until(lambda: not at.publisher.status().in_flight, "acknowledged")
        report = await at.reconcile()
        assert (report.differences, report.agree, report.parts[0].compared) == ([], True, 51)
        now = await at.holds()
        assert all(
            json.loads(now[f"acme/berlin/{state.path}/_state"])["seq"] == state.seq
            for state in at.plant.states.values()
        )


async def test_the_publisher_clears_nothing_of_its_own_and_says_nothing_of_others(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    async with site(broker, tmp_path, Plant("filler-1", "oven-1"), moves=4) as at:
        before = await at.holds()
        old = "acme/berlin/filling/line-1/old-1/_state"
        await at.say(old, b"{}")
        at.publisher.say_again(["acme/berlin/somebody/_state"])
        at.publisher.clear([FILLER, STATUS, TEMP, old])
        async with asyncio.timeout(PATIENCE_S):
            while old in await at.holds():
                await asyncio.sleep(0.01)
        assert await at.holds() == before


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_topics_are_read_over_tls_with_a_user_and_where_the_rules_allow(
    tmp_path: Path, mosquitto: Mosquitto, protocol: str
) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("127.0.0.1")
    rules = tmp_path / "rules"
    rules.write_text("user andon\ntopic readwrite andon/#\ntopic write acme/#\n")
    rules.chmod(0o600)
    mosquitto.lines[0] = "allow_anonymous false"
    mosquitto.lines += [
        f"password_file {passwords(tmp_path, andon='right')}",
        f"acl_file {rules}",
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
    ]
    await mosquitto.start()
    settings = mosquitto.settings(
        protocol=protocol, user="andon", password="right", ca_file=str(authority.file)
    ).model_copy(update={"broker": f"mqtts://127.0.0.1:{mosquitto.port}"})
    options = link_options(settings, GATEWAY)
    async with Running(Plant("filler-1").publisher(settings)) as publisher:
        await until(lambda: publisher.status().connected and not publisher.status().in_flight, "online")
        assert await read_retained(options, [STATUS]) == {STATUS: b"online"}
        wrong = link_options(settings.model_copy(update={"password": "wrong"}), GATEWAY)
        with pytest.raises(SinkRefused, match=r"not authorised|bad user name"):
            await read_retained(wrong, [STATUS])
        plain = link_options(
            settings.model_copy(update={"broker": f"mqtt://127.0.0.1:{mosquitto.port}"}), GATEWAY
        )
        with pytest.raises(SinkUnavailable):
            await read_retained(plain, [STATUS], timeout_s=PATIENCE_S)
