"""Messages both ways: what each QoS owes, what an answer means, and that a flood leaves time for others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import link as link_module
from gateway.mqtt import session
from gateway.mqtt.link import TURN_PACKETS, Message, MessageRefused, Will
from gateway.mqtt.properties import pack, packed_number
from gateway.mqtt.session import RECEIVE_MAX
from tests.gateway.mqtt.support import accepted, ack, joined, message, puback
from tests.gateway.publish.support import WAIT_S, until, within
from tests.support.manual_clock import ManualClock

PING, PONG = b"\xc0\x00", b"\xd0\x00"


# --- what goes out


async def test_qos_0_waits_for_nothing() -> None:
    async with joined() as (link, talk):
        told: list[int] = []
        assert link.publish("t", b"x", qos=0, on_ack=lambda: told.append(1))
        assert (link.in_flight, link.sent) == (0, 1)
        await within(link.room(1))
        assert await talk.packet() == b"\x30\x05\x00\x01t\x00x"
        assert told == []


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_qos_2_is_told_and_frees_its_place_when_the_broker_has_it_for_good(protocol: str) -> None:
    """Not at PUBREC: a broker that is not told to release it forgets it with the connection."""
    async with joined(inflight_max=1, protocol=protocol) as (link, talk):
        told: list[str] = []
        link.publish("t", b"x", qos=2, retain=True, on_ack=partial(told.append, "has it"))
        assert (await talk.packet())[0] == 0x35
        talk.say(ack(0x50, 1))
        assert await talk.packet() == b"\x62\x02\x00\x01"
        assert (told, link.in_flight, link.acknowledged, link.full) == ([], 1, 0, True)
        talk.say(ack(0x50, 1), ack(0x70, 9), ack(0x70, 1))
        assert await talk.packet() == b"\x62\x02\x00\x01"
        await within(link.room())
        assert (told, link.in_flight, link.acknowledged) == (["has it"], 0, 1)
        talk.say(ack(0x50, 7))
        assert await talk.packet() == (b"\x62\x03\x00\x07\x92" if protocol == "5" else b"\x62\x02\x00\x07")


async def test_a_broker_that_no_longer_has_what_it_said_it_has_is_left() -> None:
    """The next connection says it again; nobody is told that it arrived."""
    async with joined() as (link, talk):
        told: list[str] = []
        link.publish("t", b"x", qos=2, on_ack=partial(told.append, "has it"))
        await talk.packet()
        talk.say(ack(0x50, 1), ack(0x70, 1, 0x92))
        with pytest.raises(SinkUnavailable, match=r"packet identifier not found \(0x92\)"):
            await within(link.ended())
        assert told == []


async def test_an_answer_of_the_wrong_kind_ends_the_connection() -> None:
    for answer in (puback(1), ack(0x40, 1, 0x87)):
        async with joined() as (link, talk):
            link.publish("t", b"x", qos=2)
            talk.say(answer)
            with pytest.raises(SinkUnavailable, match="does not speak MQTT"):
                await within(link.ended())


async def test_a_number_is_not_used_twice_at_once() -> None:
    """Messages and wishes share them; there are enough for both."""
    async with joined(inflight_max=65535) as (link, talk):
        asked = asyncio.create_task(link.subscribe({"a": 0}))
        assert (await talk.packet())[2:4] == b"\x00\x01"
        for _ in range(link.limit):
            assert not link.full
            link._out._number = min(link._out._number, 65534) if link.in_flight else 65534
            link.publish("t", b"")
        assert link.full
        numbers = set(link._waiting)
        assert (len(numbers), {65535, 2} <= numbers, 1 in numbers) == (link.limit, True, False)
        for _ in range(3):
            more = asyncio.create_task(link.subscribe({"b": 0}))
            await asyncio.sleep(0)
            assert not set(link._waits.wishes) & numbers
            more.cancel()
        talk.say(b"\x90\x04\x00\x01\x00\x00", puback(2))
        await within(asked)
        await within(link.room())


async def test_one_refused_message_is_told_and_the_others_go_on() -> None:
    """Nothing is passed over unnoticed: who sends hears of it, and the connection stands."""
    async with joined() as (link, talk):
        told: list[MessageRefused | str] = []
        link.publish("a/b", b"1", on_ack=lambda: told.append("no"), on_refused=told.append)
        link.publish("c", b"2", on_ack=partial(told.append, "c"))
        link.publish("d", b"3", qos=2, on_refused=told.append)
        reason = b"\x1f\x00\x09full moon"
        talk.say(b"\x40\x10\x00\x01\x97\x0c" + reason, puback(2), ack(0x50, 3, 0x87))
        await within(link.room(1))
        assert (link.acknowledged, link.refused, link.in_flight) == (1, 2, 0)
        quota, c, rights = told
        assert isinstance(quota, MessageRefused)
        assert isinstance(rights, MessageRefused)
        assert (quota.topic, quota.code, c, rights.topic, rights.code) == ("a/b", 0x97, "c", "d", 0x87)
        assert "full moon" in quota.reason
        assert 'on "d": not authorised' in rights.reason
        assert "access rules" in rights.hint
        link.publish("e", b"4")
        for _ in range(3):
            await talk.packet()
        assert (await talk.packet())[-1:] == b"4", "no PUBREL after a refusal"


async def test_a_number_out_of_step_is_not_blamed_on_the_message() -> None:
    async with joined() as (link, talk):
        told: list[MessageRefused] = []
        link.publish("a/b", b"1", on_refused=told.append)
        talk.say(puback(1, 0x91))
        with pytest.raises(SinkUnavailable, match="identifier in use"):
            await within(link.ended())
        assert told == []


async def test_properties_go_with_a_message_of_mqtt_5_only() -> None:
    packed = pack(expiry_s=60, user=[("a", "b")])
    async with joined() as (link, talk):
        link.publish("t", b"x", properties=packed)
        assert (
            await talk.packet() == b"\x32\x13\x00\x01t\x00\x01\x0c\x02\x00\x00\x00\x3c\x26\x00\x01a\x00\x01bx"
        )
    async with joined(protocol="3.1.1") as (link, talk):
        link.publish("t", b"x", properties=packed)
        assert await talk.packet() == b"\x32\x06\x00\x01t\x00\x01x"


# --- what the broker has read


async def test_a_barrier_follows_what_was_said_and_many_share_one() -> None:
    async with joined() as (link, talk):
        await within(link.taken())
        link.publish("a", b"", qos=0)
        first = [asyncio.create_task(link.taken()) for _ in range(3)]
        assert (await talk.packet())[0] == 0x30
        assert await talk.packet() == PING
        link.publish("b", b"", qos=0)
        second = [asyncio.create_task(link.taken()) for _ in range(3)]
        assert (await talk.packet())[0] == 0x30
        assert await talk.quiet(), "one ping at a time"
        talk.say(PONG)
        await within(asyncio.gather(*first))
        assert not any(waiting.done() for waiting in second)
        assert await talk.packet() == PING
        talk.say(PONG)
        await within(asyncio.gather(*second))
        await within(link.taken())
        assert await talk.quiet(), "what was read needs no ping"


async def test_a_barrier_ends_with_the_connection() -> None:
    async with joined() as (link, talk):
        link.publish("a", b"", qos=0)
        waiting = asyncio.create_task(link.taken())
        await talk.packet()
        talk.hang_up()
        with pytest.raises(SinkUnavailable):
            await within(waiting)
        with pytest.raises(SinkUnavailable):
            await link.taken()


async def test_one_who_gives_up_waiting_disturbs_nobody() -> None:
    async with joined() as (link, talk):
        link.publish("a", b"", qos=0)
        given_up, waiting = asyncio.create_task(link.taken()), asyncio.create_task(link.taken())
        await talk.packet()
        given_up.cancel()
        talk.say(PONG)
        await within(waiting)


async def test_a_broker_that_answers_no_ping_is_left() -> None:
    async with joined(keep_alive_s=60, ack_timeout_s=0.3) as (link, _):
        link.publish("a", b"", qos=0)
        with pytest.raises(SinkUnavailable, match="ping"):
            await within(link.taken())


async def test_silence_is_broken_in_time_and_answers_keep_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "TICK_S", 0.01)
    clock = ManualClock()
    async with joined(keep_alive_s=60, clock=clock) as (link, talk):
        for number in range(1, 4):
            clock.advance(60.0)
            assert await talk.packet() == PING
            talk.say(PONG)
            await until(lambda number=number: link._pings.answered == number, "an answer")  # type: ignore[misc]
            clock.advance(59.0)
            assert await talk.quiet(), "no sooner than it has to"
        assert not link._ended.done()


async def test_bytes_that_nobody_takes_leave_no_room() -> None:
    """QoS 0 has no acknowledgement to wait for, so the way itself tells when it is full."""
    async with joined() as (link, talk):
        sent = 0
        while not link.full:
            link.publish("t", b"x" * 60_000, qos=0)
            sent += 1
            assert sent < 1000, "never full"
        waiting = asyncio.create_task(link.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        for _ in range(sent):
            await talk.packet()
        await within(waiting)


# --- what comes in


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_comes_in_is_handed_on_once_in_order_and_acknowledged(protocol: str) -> None:
    got: list[Message] = []
    v5 = protocol == "5"
    async with joined(on_message=got.append, protocol=protocol) as (link, talk):
        talk.say(
            message("a", b"0", v5=v5, retain=True),
            message("b", b"1", qos=1, number=7, v5=v5),
            message("c", b"2", qos=2, number=8, v5=v5),
            message("c", b"2", qos=2, number=8, v5=v5),
        )
        assert [await talk.packet() for _ in range(3)] == [ack(0x40, 7), ack(0x50, 8), ack(0x50, 8)]
        talk.say(ack(0x62, 8))
        assert await talk.packet() == ack(0x70, 8)
        talk.say(message("c", b"3", qos=2, number=8, v5=v5))
        assert await talk.packet() == ack(0x50, 8)
        talk.say(ack(0x62, 99))
        assert await talk.packet() == ack(0x70, 99), "whatever it knows, it can go on"
        talk.say(ack(0x62, 8))
        assert await talk.packet() == ack(0x70, 8)
        talk.say(ack(0x62, 8))
        assert await talk.packet() == ack(0x70, 8), "its answer may have been lost"
        assert got == [
            Message("a", b"0", 0, True),
            Message("b", b"1", 1, False),
            Message("c", b"2", 2, False),
            Message("c", b"3", 2, False),
        ]
        assert link.heard == 4


async def test_more_open_messages_than_allowed_end_the_connection() -> None:
    async with joined(on_message=lambda _: None) as (link, talk):
        assert talk.connect[-40:].count(b"\x21" + RECEIVE_MAX.to_bytes(2, "big")) == 1, "the broker was told"
        talk.say(*(message("t", b"", qos=2, number=n) for n in range(1, RECEIVE_MAX + 2)))
        with pytest.raises(SinkUnavailable, match="more messages at once"):
            await within(link.ended())


async def test_open_messages_of_an_old_broker_are_bounded_by_their_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot be told how many we take. Those it has released count no more."""
    monkeypatch.setattr(session, "_OPEN_BYTES_MAX", 2_000)
    got: list[Message] = []
    async with joined(on_message=got.append, protocol="3.1.1") as (link, talk):
        for number in range(1, 101):
            talk.say(message("t", b"x" * 100, qos=2, number=number, v5=False))
            if number > 10:
                talk.say(ack(0x62, number - 10))
        for number in range(91, 101):
            talk.say(ack(0x62, number))
        for _ in range(200):
            await talk.packet()
        assert len(got) == 100
        talk.say(*(message("t", b"x" * 100, qos=2, number=n, v5=False) for n in range(1, 30)))
        with pytest.raises(SinkUnavailable, match="more messages at once"):
            await within(link.ended())


async def test_properties_nobody_asks_for_take_no_time() -> None:
    """A message of a megabyte of them would hold up all else for many seconds."""
    got: list[Message] = []
    async with joined(on_message=got.append) as (link, _):
        assert link._wire is not None
        for qos, number in ((0, b""), (1, b"\x00\x07"), (2, b"\x00\x08")):
            said = b"\x26\x00\x01a\x00\x01b" * 140_000
            body = b"\x00\x03t/1" + number + packed_number(len(said)) + said + b"payload"
            began = time.process_time()
            link._wire.data_received(bytes([0x30 | qos << 1]) + packed_number(len(body)) + body)
            assert time.process_time() - began < 4.0
        link._wire.data_received(ack(0x62, 8))
        assert got == [Message("t/1", b"payload", qos, False) for qos in range(3)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("earlier", [0, 3 * TURN_PACKETS])
async def test_whoever_fails_on_a_message_is_heard_and_it_is_not_acknowledged(
    protocol: str, earlier: int
) -> None:
    """Also in a later turn of a flood."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    got: list[Message] = []

    def came(message: Message) -> None:
        got.append(message)
        if message.qos:
            raise ValueError("no such tag")

    async with joined(on_message=came, protocol=protocol) as (link, talk):
        v5 = protocol == "5"
        talk.say(*[message("t", b"", v5=v5)] * earlier, message("t", b"", qos=1, number=7, v5=v5))
        talk.say(*[message("t", b"late", v5=v5)] * 5)
        with pytest.raises(SinkUnavailable, match="could not be dealt with"):
            await within(link.ended())
        assert await talk.rest() == b"", "no acknowledgement"
    assert [str(context["exception"]) for context in failures] == ["no such tag"]
    assert len(got) == earlier + 1


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x04\x00\x01t\x09",
        b"\x30\x06\x00\x01t\xd8\x04\x00",
        b"\x30\x07\x00\x01t\x03\x77\x01\x01",
        b"\xc0\x00",
        b"\xf0\x02\x00\x00",
        b"\x90\x04\x00\x01\x00\x7f",
        message("t", b"", qos=3, number=1),
        message("t", b"", qos=1, number=0),
        message("", b""),
        message("a/+", b""),
        message("a\0", b""),
        b"\x30\x04\x00\x02\xff\xfe",
        b"\x30\x01\x00",
        b"\x90\x02\x00\x01",
        b"\xd0\x01\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x10\x02\x00\x01",
    ],
)
async def test_a_message_that_is_none_ends_the_connection(packet: bytes) -> None:
    got: list[Message] = []
    async with joined(on_message=got.append) as (link, talk):
        talk.say(packet)
        with pytest.raises(SinkUnavailable, match="does not speak MQTT"):
            await within(link.ended())
    assert got == []


async def test_a_flood_leaves_the_loop_to_others_and_loses_nothing() -> None:
    got: list[int] = []
    turns: list[int] = []
    count = 20_000

    async def beats() -> None:
        """What else the loop has to do."""
        while len(got) < count:
            turns.append(len(got))
            await asyncio.sleep(0)

    async with joined(on_message=lambda m: got.append(int(m.payload))) as (link, talk):
        beating = asyncio.create_task(beats())
        talk.say(*(message("t", b"%d" % number) for number in range(count)))
        link.publish("t", b"x")
        await within(beating)
        assert got == list(range(count))
        # What is left of the last turn and what has just arrived may fall into one.
        assert max(after - before for before, after in pairwise(turns)) <= 2 * TURN_PACKETS
        assert (await talk.packet())[-1:] == b"x"
        talk.say(puback(1))
        await within(link.room(1))


async def test_what_a_message_sets_off_can_end_the_connection() -> None:
    async with joined(on_message=lambda _: link.abort()) as (link, talk):
        talk.say(message("t", b"", qos=1, number=1), message("t", b"", qos=1, number=2))
        with pytest.raises(SinkUnavailable, match="given up"):
            await within(link.ended())
        assert link.heard == 1


# --- wishes


async def test_a_wish_is_granted_or_names_what_was_refused() -> None:
    async with joined() as (link, talk):
        asked = asyncio.create_task(link.subscribe({"a/+": 1, "b": 2}))
        assert await talk.packet() == b"\x82\x0d\x00\x01\x00\x00\x03a/+\x01\x00\x01b\x02"
        talk.say(b"\x90\x05\x00\x01\x00\x01\x01")
        await within(asked)
        asked = asyncio.create_task(link.subscribe({"a": 1, "b/#": 1}))
        await talk.packet()
        talk.say(b"\x90\x05\x00\x02\x00\x00\x87")
        with pytest.raises(SinkRefused, match='"b/#": not authorised') as refused:
            await within(asked)
        assert "access rules" in refused.value.hint
        link.publish("t", b"the connection stands")


@pytest.mark.parametrize(
    ("codes", "kind", "words"),
    [
        (b"\x8f", SinkRefused, "topic filter"),
        (b"\xa2", SinkRefused, "wildcard"),
        (b"\x80", SinkRefused, "not authorised"),
        (b"\x97", SinkUnavailable, "quota"),
        (b"\x00\x00", SinkUnavailable, "2 of 1"),
    ],
)
async def test_a_refused_wish_is_told_by_its_reason(codes: bytes, kind: type[Exception], words: str) -> None:
    async with joined() as (link, talk):
        asked = asyncio.create_task(link.subscribe({"a/#": 1}))
        await talk.packet()
        talk.say(bytes([0x90, 3 + len(codes), 0, 1, 0]) + codes)
        with pytest.raises(kind, match=words):
            await within(asked)


async def test_an_old_broker_refuses_in_its_own_form() -> None:
    async with joined(protocol="3.1.1") as (link, talk):
        asked = asyncio.create_task(link.subscribe({"a/#": 0}))
        assert await talk.packet() == b"\x82\x08\x00\x01\x00\x03a/#\x00"
        talk.say(b"\x90\x03\x00\x01\x80")
        with pytest.raises(SinkRefused, match="a/#"):
            await within(asked)


async def test_many_wishes_come_in_packets_the_broker_takes() -> None:
    async with joined(accepted(b"\x27" + (300).to_bytes(4, "big"))) as (link, talk):
        wishes = {f"some/topic/{number}": 0 for number in range(120)}
        asked, seen = asyncio.create_task(link.subscribe(wishes)), b""
        number = 0
        while not asked.done() and number < 50:
            packet = await talk.packet()
            assert len(packet) <= 300
            seen += packet
            number += 1
            count = packet.count(b"some/topic/")
            talk.say(bytes([0x90, 3 + count, 0, number, 0]) + bytes(count))
            if seen.count(b"some/topic/") == 120:
                break
        await within(asked)
        assert all(wish.encode() in seen for wish in wishes)
        with pytest.raises(SinkRefused, match="large enough"):
            await link.subscribe({"x" * 300: 0})


async def test_no_packet_asks_for_so_much_that_a_broker_is_busy_for_long() -> None:
    async with joined() as (link, talk):
        asked = asyncio.create_task(link.subscribe({f"t/{number}": 0 for number in range(110)}))
        for number, count in ((1, 50), (2, 50), (3, 10)):
            assert (await talk.packet()).count(b"t/") == count
            talk.say(bytes([0x90, 3 + count, 0, number, 0]) + bytes(count))
        await within(asked)


async def test_a_wish_ends_with_the_connection_and_is_not_waited_for_for_ever() -> None:
    async with joined(ack_timeout_s=0.2) as (link, _):
        with pytest.raises(SinkUnavailable, match="not acknowledged"):
            await within(link.subscribe({"a": 0}))


# --- leaving


@pytest.mark.parametrize(
    ("connack", "protocol", "with_will", "farewell"),
    [
        (None, "5", False, b"\xe0\x00"),
        (None, "5", True, b"\xe0\x01\x04"),
        (accepted(b"\x11\x00\x00\x0e\x10"), "5", True, b"\xe0\x07\x04\x05\x11\x00\x00\x00\x00"),
        (accepted(b"\x11\x00\x00\x0e\x10"), "5", False, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00"),
        (None, "3.1.1", False, b"\xe0\x00"),
        (None, "3.1.1", True, b""),
    ],
)
async def test_leaving_says_the_last_words_and_then_good_bye(
    connack: bytes | None, protocol: str, with_will: bool, farewell: bytes
) -> None:
    async with joined(connack, protocol=protocol) as (link, talk):
        last = [Will("a", b"1", 1, True), Will("b", b"2", 0)]
        leaving = asyncio.create_task(link.stop(WAIT_S, last=last, with_will=with_will))
        assert (await talk.packet())[0] == 0x33
        assert (await talk.packet())[0] == 0x30
        assert await talk.quiet(), "the last words have to arrive"
        talk.say(puback(1))
        assert await talk.packet() == PING, "also what has no acknowledgement was read"
        talk.say(PONG)
        if farewell:
            assert await talk.packet() == farewell
        await within(talk.until_closed())
        talk.hang_up()
        assert await within(leaving)


# --- every way of cutting bytes


SAID = [
    message("a/b", b"payload", qos=1, number=300),
    puback(1),
    message("a/b", b"x", qos=2, number=5),
    puback(2, 0x10),
    ack(0x62, 5),
    ack(0x50, 3),
    message("c", b"y" * 100),
    ack(0x70, 3),
    b"\xd0\x00",
    message("z", b"the end"),
]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, 300), max_size=40, unique=True))
def test_bytes_mean_the_same_however_they_are_cut(cuts: list[int]) -> None:
    asyncio.run(cut_at(sorted(cuts)))


def test_bytes_mean_the_same_when_they_come_one_by_one() -> None:
    asyncio.run(cut_at(list(range(1, 400))))


async def cut_at(cuts: list[int]) -> None:
    said = b"".join(SAID)
    got: list[Message] = []
    told: list[int] = []
    async with joined(on_message=got.append) as (link, _):
        for number, qos in ((1, 1), (2, 1), (3, 2)):
            link.publish("t", b"", qos=qos, on_ack=partial(told.append, number))
        assert link._wire is not None
        at = 0
        for cut in [*cuts, len(said)]:
            link._wire.data_received(said[at:cut])
            at = cut
        assert [m.payload for m in got] == [b"payload", b"x", b"y" * 100, b"the end"]
        assert told == [1, 2, 3]
        assert (link.in_flight, link.acknowledged) == (0, 3)
        assert not link._wire.received


@pytest.mark.parametrize(
    "scenario",
    [
        test_a_flood_leaves_the_loop_to_others_and_loses_nothing,
        test_bytes_that_nobody_takes_leave_no_room,
        test_a_barrier_follows_what_was_said_and_many_share_one,
        test_what_a_message_sets_off_can_end_the_connection,
    ],
)
def test_the_loop_of_the_gateway_does_as_that_of_the_tests(
    scenario: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
