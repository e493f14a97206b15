"""Brokers that refuse a little, answer late or change their rules: all else goes on, nothing is given up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.schema import MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link
from gateway.mqtt.reasons import Overloaded
from gateway.publish import presence
from gateway.publish.publisher import SINK
from statemodel.records import Recorded
from tests.gateway.publish.support import (
    T0,
    Embedded,
    Far,
    Mosquitto,
    Plant,
    Proxy,
    Running,
    Subscriber,
    until,
    within,
)
from tests.support.mqtt_tap import PUBREC, packets

NAMES = [f"machine-{n}" for n in range(8)]


@pytest.mark.real
async def test_a_state_refused_right_after_the_connect_is_tried_again(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal arrives while the first states are still being said, for want of room."""
    monkeypatch.setattr("gateway.publish.publisher.REFUSED_AGAIN_S", 0.3)
    rules = tmp_path / "rules"
    rules.write_text(
        "topic readwrite andon/#\n"
        + "".join(f"topic readwrite acme/berlin/filling/line-1/{name}/#\n" for name in NAMES[1:])
        + "topic readwrite acme/berlin/filling/line-1/machine-0/_event/#\ntopic read #\n"
    )
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    plant = Plant(*NAMES)
    await plant.happen(len(NAMES))
    async with (
        Subscriber(mosquitto.port) as listening,
        Running(plant.publisher(mosquitto.settings(inflight_max=1))) as publisher,
    ):
        await within(plant.journal.wait_cursor(SINK, len(NAMES)))
        refused = publisher.status().refused
        await until(lambda: publisher.status().refused > refused + 1, "it is tried again and again")
        await until(lambda: "machine-0/_state" in (publisher.status().last_error or ""), "told")
        rules.write_text("topic readwrite #\n")
        assert mosquitto._process is not None
        mosquitto._process.send_signal(signal.SIGHUP)
        await listening.wait(lambda: bool(listening.on("machine-0/_state")), "the state that was refused")
        await until(lambda: publisher.status().last_error is None, "well again")
        assert publisher.status().connects == 1


@pytest.mark.real
async def test_a_broker_that_throws_away_what_it_acknowledges_is_told(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 3.1.1 it has no other way: all is acknowledged, nothing lags, and nobody hears a word."""
    monkeypatch.setattr("gateway.publish.publisher.REFUSED_AGAIN_S", 1.0)
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(presence, "ECHO_S", 0.1)
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite #\n")
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    assert mosquitto._process is not None
    plant = Plant(*NAMES)
    settings = mosquitto.settings(protocol="3.1.1")
    async with Running(plant.publisher(settings)) as publisher:
        await plant.happen(5)
        await within(plant.journal.wait_cursor(SINK, 5))
        await until(publisher.is_heard, "it hears itself")
        await asyncio.sleep(0.5)  # several looks
        assert publisher.status().alarm == ""
    rules.write_text("topic read #\n")
    mosquitto._process.send_signal(signal.SIGHUP)
    async with Running(plant.publisher(settings)) as publisher:
        await plant.happen(5)
        await within(plant.journal.wait_cursor(SINK, 10))
        await until(lambda: publisher.status().alarm == "refused", "the alarm")
        told = publisher.status().last_error or ""
        assert "the broker acknowledges and does not keep what we publish: rights" in told
        assert "andon/line-1/status" in told
        assert "access rules" in told
        rules.write_text("topic readwrite #\n")
        mosquitto._process.send_signal(signal.SIGHUP)
        await until(lambda: publisher.status().last_error is None, "well again")
        assert publisher.status().connects == 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("granted", "why"),
    [
        (0, Overloaded("the broker ends the subscription: quota exceeded (0x97)")),
        (0, SinkUnavailable("the broker ends the subscription: implementation specific error (0x83)")),
        (1, SinkRefused("the broker refuses the subscription: not authorised")),
        (1, Overloaded("the broker ends the subscription: quota exceeded (0x97)")),
    ],
)
async def test_a_broker_that_does_not_let_us_listen_is_not_left_for_that(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch, granted: int, why: Exception
) -> None:
    """Also when it changes its mind: what it is told matters more than what it tells."""
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.05)
    await mosquitto.start()
    asked, subscribe = [0], Link.subscribe

    async def answered(link: Link, filters: Mapping[str, int]) -> None:
        asked[0] += 1
        if asked[0] > granted:
            raise why
        await subscribe(link, filters)

    plant = Plant(*NAMES)
    async with Running(plant.publisher(mosquitto.settings())) as publisher:
        monkeypatch.setattr(Link, "subscribe", answered)
        await plant.happen(20)
        await until(lambda: asked[0] > granted, "it was asked")
        await within(plant.journal.wait_cursor(SINK, 20))
        await asyncio.sleep(0.3)  # long enough for a connection that is given up to end
        await plant.happen(20)
        await within(plant.journal.wait_cursor(SINK, 40))
        assert (publisher.status().connects, publisher.status().connected) == (1, True)


async def test_how_long_something_waits_is_forgotten_when_it_is_out() -> None:
    """Else every event of a busy hour looks as old as the last outage, for an instant."""
    broker = Embedded()
    await broker.start()
    plant = Plant(*NAMES)
    async with Running(plant.publisher(broker.settings())) as publisher:
        await until(lambda: publisher.status().connected, "connected")
        await broker.kill()
        await plant.happen(3, at=T0)
        await until(lambda: publisher.status().oldest_unsent_at == T0, "an outage")
        await broker.start()
        await within(plant.journal.wait_cursor(SINK, 3))
        assert publisher.status().oldest_unsent_at is None
        read, reading = plant.journal.read, asyncio.Event()

        async def slow(after: int, limit: int) -> Sequence[Recorded]:
            await reading.wait()
            return await read(after, limit)

        plant.journal.read = slow  # type: ignore[method-assign]
        now = datetime.now(UTC)
        await plant.happen(1)
        assert publisher.status().lag_events == 1
        oldest = publisher.status().oldest_unsent_at
        assert oldest is None or oldest >= now
        reading.set()
        await within(plant.journal.wait_cursor(SINK, 4))
    await broker.kill()


class Hole(Proxy):
    """As soon as `after` messages were received, nothing passes either way, and neither end is told."""

    def __init__(self, target_port: int, after: int) -> None:
        super().__init__(target_port)
        self._left = after
        self._dead: set[asyncio.StreamWriter] = set()

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_broker: bool
    ) -> None:
        buffer = bytearray()
        try:
            while data := await reader.read(65536):
                if writer in self._dead:
                    continue
                writer.write(data)
                await writer.drain()
                if from_broker and self._left > 0:
                    buffer += data
                    self._left -= sum(first >> 4 == PUBREC for first, _ in packets(buffer))
                    if self._left <= 0:
                        self._dead |= self._writers
        finally:
            writer.close()


@pytest.mark.real
async def test_what_was_acknowledged_last_before_a_silence_is_said_again(mosquitto: Mosquitto) -> None:
    """A cable is pulled, a broker's host loses power, and nobody hears of it.

    With QoS 2 the broker has said that it has them, has not heard that it may pass them on, and forgets.
    """
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with Hole(mosquitto.port, 3) as hole, Subscriber(mosquitto.port, "acme/#") as listening:
        plain = mosquitto.settings(hole.port, keep_alive="4s").model_dump()
        settings = MqttSettings.model_validate({**plain, "topics": {"event": {"qos": 2}}})
        async with Running(plant.publisher(settings)) as publisher:
            await until(lambda: publisher.status().connected, "connected")
            events = await plant.happen(3)
            await within(plant.journal.wait_cursor(SINK, 3))
            await until(lambda: publisher.status().connects >= 2, "the silence was noticed")
            await listening.wait_ids(events)


class Unreleased(Proxy):
    """As soon as the broker has received a message (PUBREC) it hears nothing more, until `heals`."""

    cut_off = heals = False

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_broker: bool
    ) -> None:
        buffer = bytearray()
        try:
            while data := await reader.read(65536):
                if from_broker:
                    buffer += data
                    received = any(first >> 4 == PUBREC for first, _ in packets(buffer))
                    self.cut_off = not self.heals and (self.cut_off or received)
                elif self.cut_off:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.mark.real
async def test_with_qos_2_an_event_arrived_when_the_broker_was_told_to_pass_it_on(
    mosquitto: Mosquitto,
) -> None:
    """Before that it drops it when the connection ends."""
    await mosquitto.start()
    plant = Plant(*NAMES)
    line = Unreleased(mosquitto.port)
    async with line, Subscriber(mosquitto.port, "acme/#") as listening:
        plain = mosquitto.settings(line.port).model_dump()
        settings = MqttSettings.model_validate({**plain, "topics": {"event": {"qos": 2}}})
        async with Running(plant.publisher(settings)) as publisher:
            await until(lambda: publisher.status().connected, "connected")
            events = await plant.happen(5)
            await until(lambda: line.swallowed > 0, "told to pass them on, in vain")
            await asyncio.sleep(0)
            assert (publisher.status().events, publisher.status().lag_events) == (0, 5)
            assert not listening.events()
            line.heals = True
            line.cut_off = False
            line.cut()
            await within(plant.journal.wait_cursor(SINK, 5))
            await listening.wait_ids(events)


@pytest.mark.real
async def test_a_new_state_does_not_queue_behind_events_on_a_slow_line(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    plant = Plant(*NAMES)
    async with (
        Far(mosquitto.port, 0.03) as far,
        Subscriber(mosquitto.port, "acme/#") as listening,
        Running(plant.publisher(mosquitto.settings(far.port, inflight_max=1))),
    ):
        await plant.happen(200)
        await listening.wait(lambda: len(listening.events()) > 5, "the first events")
        await plant.happen(1)
        await listening.wait(lambda: any(m.seq == 201 for m in listening.on("/_state")), "the state")
        assert len(listening.events()) < 100


@pytest.mark.real
async def test_what_follows_a_refused_event_is_not_said_again_with_every_try(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until somebody mends the rules it is tried for days; whoever listens to the others hears them once."""
    monkeypatch.setattr("gateway.publish.events.REFUSED_AGAIN_S", 0.2)
    rules = tmp_path / "rules"
    allowed = [f"topic readwrite acme/berlin/filling/line-1/{name}/#\n" for name in NAMES[2:]]
    rules.write_text(
        "topic readwrite andon/#\ntopic read #\ntopic write +/+/+/+/+/_state\n" + "".join(allowed)
    )
    rules.chmod(0o600)
    mosquitto.lines.append(f"acl_file {rules}")
    await mosquitto.start()
    plant = Plant(*NAMES)
    with capture_logs() as lines:
        async with (
            Subscriber(mosquitto.port) as listening,
            Running(plant.publisher(mosquitto.settings())) as publisher,
        ):
            await until(lambda: publisher.status().connected, "connected")
            events = await plant.happen(10)  # the first is of machine-1, the eighth of machine-0
            await until(lambda: publisher.status().refused > 8, "it was tried again and again")
            assert publisher.status().lag_events == 10
            assert publisher.status().oldest_unsent_at == events[0].recorded_at
            await listening.wait(lambda: len(listening.events()) >= 7, "all but those two machines'")
            assert [heard.seq for heard in listening.events()] == [2, 3, 4, 5, 6, 7, 10]
            refusals = [line for line in lines if line["event"] == "the broker refuses a message"]
            assert len(refusals) == 2, "once for each topic"
            await plant.happen(1)
            await listening.wait(lambda: any(m.seq == 11 for m in listening.on("/_state")), "states go on")
            rules.write_text("topic readwrite #\n")
            assert mosquitto._process is not None
            mosquitto._process.send_signal(signal.SIGHUP)
            await within(plant.journal.wait_cursor(SINK, 11))
            await listening.wait(lambda: [m.seq for m in listening.events()][-11:] == [*range(1, 12)], "all")
            assert publisher.status().connects == 1
