"""A long outage: memory stays bounded, it is told how fast the backlog goes and when it will be out; after it
all that is retained is right within seconds. And a certificate that is renewed meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.health import HealthReport
from gateway.historian.values import Backlog
from gateway.journal.values import Cursor, JournalPosition
from gateway.mqtt.retry import Retry
from gateway.publish.draining import Draining
from gateway.publish.kinds import Kinds
from gateway.publish.memory import MemoryJournal
from gateway.publish.publisher import MqttPublisher
from statemodel.records import Recorded
from tests.gateway.publish.support import (
    GATEWAY,
    STREAM,
    WAIT_S,
    HurriedClock,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    recorded,
    retained,
    retains,
    transition,
    until,
    within,
)
from tests.support.certificates import Authority
from tests.support.mqtt_tap import Ledger, Tap

pytestmark = pytest.mark.real
LONG_AGO = datetime.now(UTC) - timedelta(hours=9)
NAMES = [f"machine-{number}" for number in range(20)]


class LongJournal(MemoryJournal):
    """So many events, each made when it is read: what is in memory is the publisher's."""

    def __init__(self, events: int) -> None:
        super().__init__(STREAM)
        self._last_seq = events
        self.first_seq = 1

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        await asyncio.sleep(0)
        return [
            recorded(seq, transition(NAMES[seq % len(NAMES)], seq), LONG_AGO)
            for seq in range(after + 1, min(after + limit, self._last_seq) + 1)
        ]

    @property
    def position(self) -> JournalPosition:
        return JournalPosition(self._stream, self.first_seq, self._last_seq, 1, 0)


async def outlook(publisher: MqttPublisher) -> tuple[tuple[datetime, datetime], Backlog]:
    """A backlog whose end is foreseen, and between which times it was looked at."""
    async with asyncio.timeout(WAIT_S):
        while True:
            before, backlog = datetime.now(UTC), publisher.status().backlog
            assert backlog is not None, "it is out already"
            if backlog.caught_up_at is not None:
                return (before, datetime.now(UTC)), backlog
            await asyncio.sleep(0.01)


@pytest.mark.timeout(600)
async def test_a_backlog_of_two_hundred_thousand_costs_no_more_memory_than_a_small_one(
    mosquitto: Mosquitto,
) -> None:
    mosquitto.lines.append("max_inflight_messages 200")
    journal, health = LongJournal(200_000), HealthReport(SystemClock())
    publisher = MqttPublisher(
        mosquitto.settings(), journal=journal, gateway=GATEWAY, equipment={}, clock=SystemClock()
    )
    health.sinks = {"mqtt": publisher}
    async with Running(publisher):
        await until(lambda: publisher.status().last_error is not None, "it is away")
        away = publisher.status()
        assert away.backlog is not None
        assert (away.backlog.events, away.backlog.caught_up_at) == (200_000, None)
        await mosquitto.start()
        counts = []
        for reached in (20_000, 60_000, 100_000, 150_000):
            await until(lambda reached=reached: publisher.status().events >= reached, "on", 120)  # type: ignore[misc]
            gc.collect()
            counts.append(len(gc.get_objects()))
            assert publisher.status().in_flight <= 200
            assert len(publisher._events._acked) <= 200
        assert max(counts) - min(counts) < 10_000, counts  # of 130 000 events in between
        looked_at, draining = await outlook(publisher)
        assert draining.events_per_s
        assert draining.caught_up_at is not None
        left_s = draining.events / draining.events_per_s
        soonest, latest = (at.timestamp() + left_s for at in looked_at)
        assert soonest - 2.0 <= draining.caught_up_at.timestamp() <= latest + 2.0
        told = health.report()["parts"]["mqtt"]["backlog"]
        assert told["events"] > 0
        assert told.keys() >= {"events_per_s", "caught_up_at"}
        await within(journal.wait_cursor("mqtt", 200_000), 120)
        assert publisher.status().backlog is None


def test_the_outlook_counts_what_still_comes() -> None:
    draining = Draining(0.0, 0, 1000)
    assert draining.outlook(1000, 0.0) == (None, None), "nothing is known yet"
    draining.note(4.0, 400, 1200)
    per_s, left = draining.outlook(800, 4.0)
    assert per_s == 100
    assert left == timedelta(seconds=800 / (100 - 50))
    draining.note(8.0, 500, 2000)
    per_s, left = draining.outlook(1500, 8.0)
    assert left is None, "more comes than goes"
    assert per_s is not None


def test_a_broker_that_stands_still_has_no_outlook() -> None:
    """It takes connections and bytes and acknowledges nothing: what it did before says nothing any more."""
    draining = Draining(0.0, 0, 1000)
    draining.note(4.0, 400, 1000)
    per_s, left = draining.outlook(600, 8.0)
    assert per_s == 100.0
    assert left == timedelta(seconds=6)
    assert draining.outlook(600, 9.5) == (0.0, None)
    draining.note(10.0, 500, 1000)
    assert draining.outlook(500, 10.5)[1] is not None, "it goes again"


async def test_a_thousand_states_are_right_before_a_broker_without_a_store_hears_of_the_past(
    mosquitto: Mosquitto,
) -> None:
    """Killed with a backlog on its way, started again with nothing on disk and the usual 20 in flight."""
    assert Retry().backoff.max_s * 1.25 <= 5.0, "the longest that a broker is back and nobody comes"
    names = [f"machine-{number}" for number in range(1000)]
    plant = Plant(*names)
    await plant.happen(1000, at=LONG_AGO)
    await mosquitto.start()
    ledger = Ledger(mosquitto.protocol)
    async with (
        Tap(mosquitto.port, ledger) as tap,
        Running(plant.publisher(mosquitto.settings(tap.port))) as publisher,
    ):
        await within(plant.journal.wait_cursor("mqtt", 1000))
        await mosquitto.kill()
        await until(lambda: not publisher.status().connected, "noticed")
        await plant.happen(20_000, at=LONG_AGO)
        await mosquitto.start()
        truth = {f"acme/berlin/{s.path}/_state": msgspec.json.encode(s) for s in plant.states.values()}
        await retains(mosquitto.port, lambda told: told == truth, "every state", "acme/#")
    last = [sent.topic for sent in ledger.sent if sent.connection == ledger.sent[-1].connection]
    first_event = next(at for at, topic in enumerate(last) if "/_event/" in topic)
    assert truth.keys() <= set(last[:first_event])


async def test_a_renewed_certificate_is_used_at_once_and_leaves_nobody_offline(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    server, first = authority.issue("127.0.0.1"), authority.issue("andon-line-1")
    plain = Mosquitto(mosquitto._binary, tmp_path, protocol="5").port
    mosquitto.lines += [
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
        f"listener {plain} 127.0.0.1",
    ]
    await mosquitto.start()
    ours = {"certificate": tmp_path / "ours.pem", "key": tmp_path / "ours.key"}
    for name, path in ours.items():
        path.write_bytes(getattr(first, name).read_bytes())
    settings = mosquitto.settings().model_copy(
        update={
            "broker": f"mqtts://127.0.0.1:{mosquitto.port}",
            "ca_file": str(authority.file),
            "cert_file": str(ours["certificate"]),
            "key_file": str(ours["key"]),
        }
    )
    plant = Plant("filler-1")
    publisher = plant.publisher(settings, certificates_s=0.1)
    async with Subscriber(plain, "andon/#") as listening, Running(publisher):
        await until(lambda: publisher.status().connected, "connected")
        await until(lambda: publisher.status().certificate_days_left is not None, "it was looked at")
        ours["certificate"].write_bytes(b"half written")
        await until(lambda: any("of no use" in told for told in publisher.status().warnings), "told")
        assert publisher.status().connected, "what stands is kept"
        second = authority.issue("andon-line-1-renewed")
        for name, path in ours.items():
            path.write_bytes(getattr(second, name).read_bytes())
        await until(lambda: publisher.status().connects == 2, "connected anew")
        await plant.happen(5)
        await within(plant.journal.wait_cursor("mqtt", 5))
        assert publisher.status().last_error is None
        assert not any("of no use" in told for told in publisher.status().warnings)
        await listening.wait(lambda: listening.on("status")[-1].payload == b"online", "online")
        assert (await retained(plain, "andon/line-1/status")) == {"andon/line-1/status": b"online"}


async def test_what_would_expire_is_said_again_before_it_does(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    settings = MqttSettings.model_validate(
        {"broker": mosquitto.settings().broker, "topics": {"state": {"expiry": "10s"}}}
    )
    plant = Plant("filler-1", "capper-1")
    await plant.happen(2)
    assert Kinds(settings).state.refresh_s == 5.0
    publisher = plant.publisher(settings, clock=HurriedClock())  # it waits at most 0.2 s
    async with Subscriber(mosquitto.port, "acme/#") as listening, Running(publisher):
        await listening.wait(lambda: len(listening.on("_state")) >= 8, "said again and again")
        await listening.wait(lambda: len(listening.events()) >= 2, "the events")
    assert {m.seq for m in listening.on("filler-1/_state")} == {plant.states["filler-1"].seq}
    assert len(listening.events()) == 2


@pytest.mark.parametrize(("cursor", "missing"), [(0, None), (3, 897), (950, None)])
async def test_what_the_journal_has_freed_is_no_backlog(cursor: int, missing: int | None) -> None:
    """A new broker gets what the journal still holds; of one that comes back it is told what it missed."""
    journal = LongJournal(1000)
    journal.first_seq = 901
    await journal.advance("mqtt", Cursor(seq=cursor))
    settings = MqttSettings(broker="mqtt://127.0.0.1:1")
    publisher = MqttPublisher(settings, journal=journal, gateway=GATEWAY, equipment={}, clock=SystemClock())
    with capture_logs() as lines:
        async with Running(publisher):
            await until(lambda: publisher.status().last_error is not None, "it is away")
            assert publisher.status().lag_events == 1000 - max(900, cursor)
    told = [line["missing"] for line in lines if "no longer holds" in line["event"]]
    assert told == ([] if missing is None else [missing])
