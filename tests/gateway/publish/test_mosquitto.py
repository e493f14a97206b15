"""A broker with limits, rules and certificates, and what a person is told of it. Real Mosquitto only."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.mqtt.link import Link
from gateway.mqtt.options import link_options
from gateway.publish.publisher import SINK
from tests.gateway.publish.support import (
    GATEWAY,
    WAIT_S,
    Mosquitto,
    Plant,
    Running,
    Subscriber,
    recorded,
    retained,
    transition,
    until,
    within,
)
from tests.support.certificates import Authority

pytestmark = pytest.mark.real


def passwords(directory: Path, **users: str) -> Path:
    path = directory / "passwords"
    path.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
    return path


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_wrong_password_calls_a_person_and_waits(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    mosquitto.lines = ["allow_anonymous false", f"password_file {passwords(tmp_path, andon='right')}"]
    await mosquitto.start()
    plant = Plant("filler-1")
    settings = mosquitto.settings(protocol=protocol, user="andon", password="wrong")
    async with Running(plant.publisher(settings)) as publisher:
        await until(lambda: publisher.status().alarm == "refused", "the alarm")
        status = publisher.status()
    assert not status.connected
    assert "authori" in (status.last_error or "") or "password" in (status.last_error or "")
    assert "wrong" not in (status.last_error or "")
    assert status.retry_at is not None
    assert status.retry_at > datetime.now(UTC) + timedelta(seconds=30)


async def test_the_right_password_opens(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.lines = ["allow_anonymous false", f"password_file {passwords(tmp_path, andon='right')}"]
    await mosquitto.start()
    plant = Plant("filler-1")
    async with Running(plant.publisher(mosquitto.settings(user="andon", password="right"))) as publisher:
        await until(lambda: publisher.status().connected, "connected")


async def test_an_event_the_rules_forbid_is_not_passed_over(mosquitto: Mosquitto, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite andon/#\ntopic readwrite acme/+/+/+/+/_state\n")
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    plant = Plant("filler-1")
    await plant.happen(3)
    async with Running(plant.publisher(mosquitto.settings())) as publisher:
        await until(lambda: publisher.status().alarm == "refused", "the alarm")
        assert "not authorised" in (publisher.status().last_error or "")
        assert publisher.status().lag_events == 3
    assert (await plant.journal.cursor(SINK)).seq == 0


async def test_one_topic_that_is_refused_stops_nothing_else(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of one machine, and the events of another: each told, tried again, and nothing skipped."""
    monkeypatch.setattr("gateway.publish.events.REFUSED_AGAIN_S", 0.5)
    monkeypatch.setattr("gateway.publish.publisher.REFUSED_AGAIN_S", 0.5)
    rules = tmp_path / "rules"
    allowed = [
        *("topic readwrite andon/#", "topic readwrite mark/#", "topic read acme/#"),
        *(f"topic readwrite acme/berlin/filling/line-1/{name}/_state" for name in ("filler-1", "oven-1")),
        "topic readwrite acme/berlin/filling/line-1/filler-1/_event/#",
    ]
    rules.write_text("\n".join(allowed) + "\n")
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    plant = Plant("filler-1", "capper-1", "oven-1")
    await plant.append(recorded(1, transition("filler-1", 1)), recorded(2, transition("oven-1", 1)))
    async with Subscriber(mosquitto.port) as listening, Running(plant.publisher(mosquitto.settings())) as at:
        await until(lambda: at.status().alarm == "refused", "the alarm")
        assert "oven-1/_event/transition" in (at.status().last_error or "")
        await plant.append(recorded(3, transition("filler-1", 2)), recorded(4, transition("capper-1", 1)))
        await listening.wait(
            lambda: [m.seq for m in listening.on("filler-1/_state")][-1:] == [3], "states go on"
        )
        assert [m.seq for m in listening.events()] == [1], "events wait behind the one that is refused"
        assert (at.status().connected, at.status().connects, at.status().lag_events) == (True, 1, 3)
        assert (await within(plant.journal.wait_cursor(SINK, 1))).seq == 1
        rules.write_text("topic readwrite #\n")
        assert mosquitto._process is not None
        mosquitto._process.send_signal(signal.SIGHUP)
        await within(plant.journal.wait_cursor(SINK, 4))
        await listening.wait(
            lambda: [m.seq for m in listening.events()] == [1, 2, 3, 4], "all of them, in order"
        )
        await listening.wait(lambda: bool(listening.on("capper-1/_state")), "the state as well")
        await until(lambda: at.status().alarm == "" and at.status().last_error is None, "well again")
        assert at.status().connects == 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_one_client_id_for_two_is_no_endless_fight(mosquitto: Mosquitto, protocol: str) -> None:
    await mosquitto.start()
    settings = mosquitto.settings(protocol=protocol)
    async with (
        Running(Plant("filler-1").publisher(settings)) as one,
        Running(Plant("filler-1").publisher(settings)) as two,
    ):
        await until(
            lambda: "client_id_taken" in (one.status().alarm, two.status().alarm), "the alarm", 2 * WAIT_S
        )
        loser = one if one.status().alarm else two
        retry_at = loser.status().retry_at
        assert retry_at is not None
        assert retry_at > datetime.now(UTC) + timedelta(seconds=5)
        assert one.status().connects + two.status().connects <= 16


async def test_what_the_broker_finds_too_large_is_left_out_and_counted(mosquitto: Mosquitto) -> None:
    mosquitto.lines.append("max_packet_size 900")
    await mosquitto.start()
    plant = Plant("filler-1")
    small, large = transition("filler-1", 1), transition("filler-1", 2, "Long" * 300)
    async with (
        Subscriber(mosquitto.port) as subscriber,
        Running(plant.publisher(mosquitto.settings())) as publisher,
    ):
        await until(lambda: publisher.status().connected, "connected")
        await plant.append(recorded(1, small), recorded(2, large), recorded(3, transition("filler-1", 3)))
        await within(plant.journal.wait_cursor(SINK, 3))
        await subscriber.wait(lambda: [m.seq for m in subscriber.events()] == [1, 3], "the others")
        status = publisher.status()
        # A person hears of it: what is left out here nobody else at this broker can know of.
        (told,) = status.warnings
        assert "more than the 900 bytes" in told
        assert "filler-1/_" in told
        mosquitto.lines.remove("max_packet_size 900")
        await mosquitto.kill()
        await mosquitto.start()
        await until(lambda: publisher.status().connects == 2, "connected to a broker that takes them")
        assert publisher.status().warnings == ()
    assert (status.too_large, status.connects, status.events) == (1, 1, 2)


def packet_size(topic: int, payload: int, properties: int) -> int:
    """Bytes of a QoS 1 PUBLISH of MQTT 5 on the wire, from the bytes of its parts (MQTT 5.0 section 3.3)."""
    rest = 2 + topic + 2 + properties + payload
    length_bytes = 1 + (rest > 0x7F) + (rest > 0x3FFF) + (rest > 0x1F_FFFF)
    return 1 + length_bytes + rest


@pytest.mark.parametrize("payload", range(120, 132))
async def test_a_packet_of_exactly_the_allowed_size_is_sent(mosquitto: Mosquitto, payload: int) -> None:
    """Around the size where the length needs a second byte; Mosquitto closes on anything larger."""
    mosquitto.lines.append(f"max_packet_size {packet_size(5, payload, 1)}")
    await mosquitto.start()
    options = replace(link_options(mosquitto.settings(), GATEWAY), client_id="c")
    link = await Link.open(options, SystemClock(), will=None)
    assert link.publish("topic", b"x" * payload)
    await within(link.room(1))
    assert not link.publish("topic", b"x" * (payload + 1))
    assert await link.stop(WAIT_S)


async def test_the_brokers_receive_maximum_is_kept_and_used(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    publish = Link.publish

    def counted(link: Link, *args: Any, **more: Any) -> bool:
        sent = publish(link, *args, **more)
        seen.append(link.in_flight)
        return sent

    monkeypatch.setattr(Link, "publish", counted)
    mosquitto.lines.append("max_inflight_messages 3")
    await mosquitto.start()
    plant = Plant("filler-1")
    async with Running(plant.publisher(mosquitto.settings(inflight_max=200))) as publisher:
        await until(lambda: publisher.status().connected, "connected")
        await plant.happen(500)
        await until(lambda: publisher.status().lag_events == 0, "all acknowledged")
        assert publisher.status().connects == 1
    assert max(seen) == 3


async def test_news_older_than_the_connection_is_marked_late(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    plant = Plant("filler-1")
    await plant.happen(5)
    publisher = plant.publisher(mosquitto.settings())
    async with Subscriber(mosquitto.port, protocol="5") as subscriber, Running(publisher):
        await until(lambda: publisher.status().connected, "connected")
        await plant.happen(5)
        await subscriber.wait(lambda: len(subscriber.events()) == 10, "all")
    assert [message.late for message in subscriber.events()] == [True] * 5 + [False] * 5
    assert not any(message.late for message in subscriber.on("_state"))


async def test_tls_with_a_client_certificate(mosquitto: Mosquitto, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("127.0.0.1"), authority.issue("andon-line-1")
    mosquitto.lines += [
        f"cafile {authority.file}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
    ]
    await mosquitto.start()
    files = {
        "ca_file": str(authority.file),
        "cert_file": str(client.certificate),
        "key_file": str(client.key),
    }
    plant = Plant("filler-1")
    await plant.happen(50)
    broker = f"mqtts://127.0.0.1:{mosquitto.port}"
    settings = mosquitto.settings().model_copy(update={"broker": broker, **files})
    async with Running(plant.publisher(settings)) as publisher:
        await within(plant.journal.wait_cursor(SINK, 50))
        assert publisher.status().last_error is None


async def test_a_broker_with_a_strange_certificate_is_not_talked_to(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    server = authority.issue("127.0.0.1")
    mosquitto.lines += [f"cafile {authority.file}", f"certfile {server.certificate}", f"keyfile {server.key}"]
    await mosquitto.start()
    settings = mosquitto.settings(ca_file=str(other.file)).model_copy(
        update={"broker": f"mqtts://127.0.0.1:{mosquitto.port}"}
    )
    async with Running(Plant("filler-1").publisher(settings)) as publisher:
        await until(lambda: publisher.status().alarm == "refused", "the alarm")
        assert "not trusted" in (publisher.status().last_error or "")


async def test_retained_states_survive_the_gateway(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    plant = Plant("filler-1")
    await plant.happen(4)
    async with Running(plant.publisher(mosquitto.settings())):
        await within(plant.journal.wait_cursor(SINK, 4))
    before = await retained(mosquitto.port, "acme/#")
    await plant.happen(4)
    async with Running(plant.publisher(mosquitto.settings())):
        await within(plant.journal.wait_cursor(SINK, 8))
        after = await retained(mosquitto.port, "acme/#")
    assert list(before) == list(after)
    assert before != after
