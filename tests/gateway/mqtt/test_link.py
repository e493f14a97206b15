"""A connection to brokers that misbehave: scripted ones that answer with exactly the bytes a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.config.schema import MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.embedded_broker import EmbeddedBroker
from gateway.mqtt.link import Link, Will, listens
from gateway.mqtt.options import LinkOptions, link_options
from gateway.mqtt.properties import packed_number
from gateway.mqtt.reach import reach
from gateway.mqtt.reasons import ClosedByBroker, TakenOver
from gateway.mqtt.terms import Limits
from gateway.mqtt.wire import Wire
from tests.gateway.mqtt.support import ACCEPTED_3, ACCEPTED_5, ack, joined, message, puback, says, scripted
from tests.gateway.publish.support import GATEWAY, until, within


async def opened(options: LinkOptions) -> Link:
    return await within(Link.open(options, SystemClock(), will=Will("s", b"offline")))


async def opened_and_ended(options: LinkOptions) -> None:
    link = await opened(options)
    with contextlib.suppress(SinkUnavailable, SinkRefused):
        link.publish("t", b"1")
    await within(link.ended())


@pytest.mark.parametrize(
    ("connack", "kind", "words"),
    [
        (bytes([0x20, 3, 0, 0x86, 0]), SinkRefused, "bad user name or password"),
        (bytes([0x20, 3, 0, 0x87, 0]), SinkRefused, "not authorised"),
        (bytes([0x20, 3, 0, 0x84, 0]), SinkRefused, "this version of MQTT"),
        (bytes([0x20, 2, 0, 1]), SinkRefused, "this version of MQTT"),  # as a 3.1.1 broker says it
        (bytes([0x20, 3, 0, 0x8A, 0]), SinkRefused, "banned"),
        (bytes([0x20, 3, 0, 0x88, 0]), SinkUnavailable, "unavailable"),
        (bytes([0x20, 3, 0, 0x9F, 0]), SinkUnavailable, "rate"),
        (bytes([0x20, 5, 0, 0, 2, 0x25, 0]), SinkRefused, "retained"),
        (bytes([0x20, 5, 0, 0, 2, 0x24, 0]), SinkRefused, "QoS 1"),
        (bytes([0xF0, 2, 1, 1]), SinkUnavailable, "does not speak MQTT"),
    ],
)
async def test_a_refusal_is_told_by_its_reason(connack: bytes, kind: type[Exception], words: str) -> None:
    async with scripted(says(connack)) as options:
        with pytest.raises(kind, match=words):
            await opened(options)


async def test_another_version_is_never_tried_behind_our_back() -> None:
    connects: list[bytes] = []

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await reader.read(65536))
        writer.write(bytes([0x20, 2, 0, 1]))
        await reader.read(65536)

    async with scripted(refuses, protocol="3.1.1") as options:
        with pytest.raises(SinkRefused, match="this version of MQTT") as failed:
            await opened(options)
        assert 'protocol = "5"' in failed.value.hint
    assert len(connects) == 1


async def test_no_answer_is_no_connection() -> None:
    async with scripted(says()) as options:
        with pytest.raises(SinkUnavailable, match="does not answer within"):
            await opened(replace(options, connect_timeout_s=0.1))


async def test_closed_instead_of_an_answer_names_the_usual_reasons() -> None:
    async with scripted(says(b"", then_close=True)) as options:
        with pytest.raises(SinkUnavailable, match="instead of answering") as failed:
            await opened(options)
        assert "3.1.1" in failed.value.hint


@pytest.mark.parametrize("reset", [True, False])
async def test_a_port_without_tls_is_asked_about(reset: bool) -> None:
    """It answers, so whether it runs is no question."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 if reset else 65536)
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async with scripted(hang_up, tls=True, section="[sparkplug]") as options:
        with pytest.raises(SinkUnavailable, match="ends the connection when TLS begins") as failed:
            await opened(options)
    assert "check that this port speaks TLS" in failed.value.hint
    assert "mqtt:// in [sparkplug]" in failed.value.hint
    with pytest.raises(SinkUnavailable, match="cannot be reached") as away:
        await opened(options)
    assert "check that it runs" in away.value.hint


async def test_a_connection_gone_before_the_first_word_is_a_broker_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(*args: Any, **more: Any) -> Wire:
        wire = await reach(*args, **more)
        wire.abort()
        await wire.closed.wait()
        return wire

    monkeypatch.setattr("gateway.mqtt.link.reach", gone)
    async with scripted(says()) as options:
        with pytest.raises(SinkUnavailable, match="closed the connection"):
            await opened(options)


async def test_a_broker_of_3_1_1_only_is_told_to_a_person() -> None:
    broker = EmbeddedBroker(0)
    await broker.start()
    options = link_options(MqttSettings(broker=f"mqtt://127.0.0.1:{broker.port}"), GATEWAY)
    with pytest.raises(SinkRefused, match="version") as refused:
        await opened(options)
    assert 'protocol = "3.1.1"' in refused.value.hint
    await broker.stop()


@pytest.mark.parametrize(
    ("disconnect", "kind"),
    [
        (bytes([0xE0, 1, 0x8E]), TakenOver),
        (bytes([0xE0, 1, 0x8B]), SinkUnavailable),
        (bytes([0xE0, 1, 0x98]), SinkUnavailable),
        (bytes([0xE0, 1, 0x9D]), SinkRefused),
        (bytes([0xE0, 0]), SinkUnavailable),
    ],
)
async def test_the_brokers_good_bye_is_understood(disconnect: bytes, kind: type[Exception]) -> None:
    async with scripted(says(ACCEPTED_5 + disconnect)) as options:
        with pytest.raises(kind):
            await opened_and_ended(options)


async def test_a_broker_of_3_1_1_has_no_good_bye() -> None:
    async with scripted(says(ACCEPTED_3 + bytes([0xE0, 1, 0x8E])), protocol="3.1.1") as options:
        with pytest.raises(SinkUnavailable, match="does not speak MQTT"):
            await opened_and_ended(options)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_broker_that_closes_without_a_word_is_told_apart(version: str) -> None:
    connack = ACCEPTED_5 if version == "5" else ACCEPTED_3
    async with scripted(says(connack, then_close=True), protocol=version) as options:
        link = await opened(options)
        with pytest.raises(ClosedByBroker):
            await within(link.ended())
        assert await listens(options)
    assert not await listens(options)


async def test_acknowledgements_are_told_once_each() -> None:
    answer = puback(2) + puback(1) + puback(1) + puback(77)
    async with scripted(says(ACCEPTED_5, answer), inflight_max=3) as options:
        link = await opened(options)
        told: list[int] = []
        for number in (1, 2, 3):
            link.publish("t", b"x", on_ack=partial(told.append, number))
        assert link.in_flight == link.limit == 3
        await within(link.room(2))
        assert told == [2, 1]
        assert (link.in_flight, link.sent, link.acknowledged) == (1, 3, 2)
        link.abort()


@pytest.mark.parametrize(
    ("reason", "kind"), [(0x87, SinkRefused), (0x97, SinkUnavailable), (0x99, SinkRefused)]
)
async def test_a_refused_message_ends_the_connection(reason: int, kind: type[Exception]) -> None:
    async with scripted(says(ACCEPTED_5, puback(1, reason))) as options:
        link = await opened(options)
        told: list[int] = []
        link.publish("t", b"1", on_ack=lambda: told.append(1))
        with pytest.raises(kind):
            await within(link.ended())
        assert told == []
        with pytest.raises(kind):
            link.publish("t", b"2")
        with pytest.raises(kind):
            await link.room()


async def test_no_subscribers_is_no_refusal() -> None:
    async with scripted(says(ACCEPTED_5, puback(1, 0x10))) as options:
        link = await opened(options)
        link.publish("t", b"1")
        await within(link.room(1))
        assert link.acknowledged == 1
        link.abort()


async def test_a_broker_that_stops_acknowledging_is_left() -> None:
    async with scripted(says(ACCEPTED_5), ack_timeout_s=0.2) as options:
        link = await opened(options)
        link.publish("t", b"1")
        with pytest.raises(SinkUnavailable, match="not acknowledged"):
            await within(link.ended())


async def test_a_silent_broker_is_noticed_by_keep_alive() -> None:
    async with scripted(says(ACCEPTED_5), keep_alive_s=1) as options:
        link = await opened(options)
        with pytest.raises(SinkUnavailable, match="keep alive"):
            await within(link.ended())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("asks", [message("t", b"", qos=1, number=7), ack(0x62, 7)])
async def test_a_broker_that_takes_no_answers_is_left(
    monkeypatch: pytest.MonkeyPatch, version: str, asks: bytes
) -> None:
    """What it asks for gathers here, for nobody waits for room to answer; while it takes them all is well."""
    monkeypatch.setattr("gateway.mqtt.wire.ANSWERS_BYTES_MAX", 400)
    if version != "5" and asks[0] != 0x62:
        asks = message("t", b"", qos=1, number=7, v5=False)
    async with joined(protocol=version) as (link, talk):
        wire = link._wire
        assert wire is not None

        async def answered(times: int) -> None:
            talk.say(asks * times)
            for _ in range(times):
                await talk.packet()

        await answered(150)
        for _ in range(2):
            wire.pause_writing()
            await answered(100)
            wire.resume_writing()
        wire.pause_writing()
        talk.say(asks * 101)
        with pytest.raises(SinkUnavailable, match="takes no answers"):
            await within(link.ended())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_packet_of_more_than_a_mebibyte_is_not_waited_for(version: str) -> None:
    """Also with 3.1.1, where a broker cannot be told."""
    large = b"\x30" + packed_number(1024 * 1024)
    async with scripted(
        says((ACCEPTED_5 if version == "5" else ACCEPTED_3) + large), protocol=version
    ) as options:
        with pytest.raises(SinkUnavailable, match="claims 1048580 bytes"):
            await opened_and_ended(options)


async def test_leaving_does_not_wait_for_ever() -> None:
    async with scripted(says(ACCEPTED_5)) as options:
        link = await opened(options)
        link.publish("t", b"1")
        assert not await within(link.stop(0.1))
        assert not await within(link.stop(0.1)), "a second time does nothing"
        with pytest.raises(SinkUnavailable):
            await link.ended()


async def test_nothing_is_left_behind() -> None:
    before = len(asyncio.all_tasks())
    async with scripted(says(ACCEPTED_5)) as options:
        for _ in range(5):
            link = await opened(options)
            link.abort()
    asked = asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        asked.set()
        await reader.read(65536)

    async with scripted(never_answers) as options:
        attempt = asyncio.create_task(Link.open(options, SystemClock(), will=Will("s", b"offline")))
        await within(asked.wait())
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    await until(lambda: len(asyncio.all_tasks()) == before, "no task left")


async def test_an_answer_to_somebody_who_has_just_given_up_is_no_failure() -> None:
    """Cancelled before the answer, in the turn of the loop in which it comes."""
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    readable = Link._answered
    attempts: list[asyncio.Task[Link]] = []
    answers = asyncio.Event()

    def answered(link: Link, limits: Limits) -> None:
        attempts[0].cancel()
        answers.set()
        readable(link, limits)

    async with scripted(says(ACCEPTED_5)) as options:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "_answered", answered)
            attempts.append(asyncio.create_task(Link.open(options, SystemClock(), will=None)))
            with pytest.raises(asyncio.CancelledError):
                await attempts[0]
    assert answers.is_set()
    assert said == []


async def test_giving_up_in_the_last_moment_leaves_no_connection() -> None:
    """Cancelled in the turn of the loop in which the broker's answer has come."""
    gone = asyncio.Event()

    async def accepts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(ACCEPTED_5)
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        gone.set()

    async with scripted(accepts) as options:
        attempts: list[asyncio.Task[Link]] = []
        readable = Link._answered

        def answered(link: Link, limits: Limits) -> None:
            readable(link, limits)
            attempts[0].cancel()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "_answered", answered)
            attempts.append(asyncio.create_task(Link.open(options, SystemClock(), will=None)))
            with pytest.raises(asyncio.CancelledError):
                await attempts[0]
            await within(gone.wait())


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from(["5", "3.1.1"]),
    garbage=st.one_of(
        st.binary(min_size=1, max_size=60),
        st.tuples(
            st.sampled_from([0x20, 0x30, 0x32, 0x40, 0x50, 0x62, 0x90, 0xD0, 0xE0]), st.binary(max_size=40)
        ).map(lambda packet: bytes([packet[0], len(packet[1])]) + packet[1]),
    ),
)
def test_no_bytes_of_a_broker_break_more_than_the_connection(version: str, garbage: bytes) -> None:
    """After the garbage the broker closes, so the connection always ends: with one of our two failures."""

    async def scenario() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        accepted = ACCEPTED_5 if version == "5" else ACCEPTED_3
        async with scripted(says(accepted + garbage, then_close=True), protocol=version) as options:
            with pytest.raises((SinkUnavailable, SinkRefused)):
                await opened_and_ended(options)
        assert failures == []

    asyncio.run(scenario())
