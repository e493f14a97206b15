"""What a broker allows when it lets us in, and what we do about it: scripted ones, then Mosquitto."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.aliases import ALIASES_MAX, Aliases
from gateway.mqtt.link import Link, Message, MessageRefused, Will
from gateway.mqtt.options import link_options
from gateway.mqtt.properties import pack
from gateway.mqtt.reasons import Overloaded, TakenOver
from gateway.mqtt.retained import read_retained
from tests.gateway.mqtt.support import accepted, joined, puback, says, scripted
from tests.gateway.publish.support import GATEWAY, WAIT_S, BrokerUnderTest, Mosquitto, Subscriber, within


def two(identifier: int, value: int) -> bytes:
    return bytes([identifier]) + value.to_bytes(2, "big")


def four(identifier: int, value: int) -> bytes:
    return bytes([identifier]) + value.to_bytes(4, "big")


def told(identifier: int, text: str) -> bytes:
    return bytes([identifier]) + len(text.encode()).to_bytes(2, "big") + text.encode()


# --- CONNACK


async def refusal(connack: bytes, **more: Any) -> SinkRefused | SinkUnavailable:
    async with scripted(says(connack), **more) as options:
        with pytest.raises((SinkRefused, SinkUnavailable)) as refused:
            await within(Link.open(options, SystemClock(), will=None))
    assert isinstance(refused.value, SinkRefused | SinkUnavailable)
    return refused.value


async def test_what_the_broker_allows_is_known() -> None:
    connack = accepted(
        two(33, 7),
        four(39, 5000),
        two(34, 3),
        two(19, 44),
        told(18, "you"),
        four(17, 9),
        b"\x24\x01",
        b"\x25\x01",
    )
    async with joined(connack) as (link, _):
        limits = link.limits
        assert (limits.receive_max, limits.packet_max, limits.alias_max, limits.qos_max) == (7, 5000, 3, 1)
        assert (limits.keep_alive_s, limits.client_id, limits.session_expiry_s) == (44, "you", 9)
        assert (link.limit, link.protocol) == (7, "5")
        with pytest.raises(SinkRefused, match="does not support"):
            link.publish("t", b"", qos=2)
        assert link.publish("t", b"", qos=1)


@pytest.mark.parametrize(("identifier", "size"), [(33, 2), (39, 4)])
async def test_a_limit_of_nothing_is_refused(identifier: int, size: int) -> None:
    refused = await refusal(accepted(bytes([identifier]) + bytes(size)))
    assert isinstance(refused, SinkRefused)
    assert "which MQTT forbids" in refused.reason
    assert "limits" in refused.hint


@pytest.mark.parametrize(
    ("properties", "options", "accepts"),
    [
        (b"\x24\x00", {}, False),
        (b"\x24\x00", {"qos_needed": 0}, True),
        (b"\x24\x01", {"qos_needed": 2}, False),
        (b"\x25\x00", {}, False),
        (b"\x25\x00", {"retain_needed": False}, True),
    ],
)
async def test_less_than_is_needed_is_refused_with_what_to_do(
    properties: bytes, options: dict[str, Any], accepts: bool
) -> None:
    if accepts:
        async with joined(accepted(properties), **options) as (link, _):
            assert link.publish("t", b"", qos=0)
        return
    refused = await refusal(accepted(properties), **options)
    assert isinstance(refused, SinkRefused)
    assert "allow" in refused.hint


async def test_the_brokers_keep_alive_is_kept() -> None:
    async with joined(accepted(two(19, 1)), keep_alive_s=3600) as (_, talk):
        assert await talk.packet() == b"\xc0\x00"
    async with joined(accepted(two(19, 0)), keep_alive_s=1) as (_, talk):
        assert await talk.packet() == b"\xc0\x00", "it does not ask, but we want to know"


async def test_a_packet_of_exactly_the_allowed_size_is_sent_and_no_larger() -> None:
    async with joined(accepted(four(39, 20))) as (link, talk):
        assert link.publish("t", b"x" * 12, qos=1)
        assert len(await talk.packet()) == 20
        assert not link.publish("t", b"x" * 13, qos=1)
        assert link.publish("t", b"x" * 14, qos=0)
        assert len(await talk.packet()) == 20
        assert not link.publish("t", b"x" * 15, qos=0)
        assert (link.too_large, link.in_flight) == (2, 1)


@pytest.mark.parametrize(
    ("connack", "kind", "words"),
    [
        (b"\x20\x10\x00\x9d\x0d" + told(28, "other:8883"), SinkRefused, 'moved: "other:8883"'),
        (b"\x20\x0b\x00\x9c\x08" + told(28, "b:188"), SinkRefused, 'another server: "b:188"'),
        (b"\x20\x0c\x00\x97\x09" + told(31, "no way"), Overloaded, '("no way")'),
        (b"\x20\x03\x00\x89\x00", Overloaded, "busy"),
        (b"\x20\x03\x00\x9f\x00", Overloaded, "rate"),
        (b"\x20\x03\x00\x8e\x00", TakenOver, "client id"),
        (b"\x20\x03\x00\x01\x00", SinkRefused, "this version of MQTT"),
        (b"\x20\x03\x00\x02\x00", SinkUnavailable, "does not speak MQTT"),
        (b"\x20\x02\x00\x87", SinkRefused, "not authorised"),
        (b"\x20\x02\x00\x05", SinkRefused, "this version of MQTT"),
        (b"\x20\x03\x01\x00\x00", SinkUnavailable, "was to forget"),
        (b"\x20\x02\x00\x00", SinkRefused, "this version of MQTT"),
        (b"\x20\x09\x00\x00\x06\x21\x00\x01\x21\x00\x01", SinkUnavailable, "more than once"),
        (b"\x20\x05\x00\x00\x02\x77\x00", SinkUnavailable, "cannot be read (119)"),
        (b"\x20\x04\x00\x00\x05\x21", SinkUnavailable, "cannot be read"),
        (b"\x30\x03\x00\x01tx", SinkUnavailable, "before it accepts"),
        (b"\x20\xff\xff\xff\xff", SinkUnavailable, "length that no packet has"),
        (b"\x20\xff\xff\xff\x7f", SinkUnavailable, "claims"),
    ],
)
async def test_what_a_broker_says_instead_is_told(connack: bytes, kind: type[Exception], words: str) -> None:
    refused = await refusal(connack)
    assert type(refused) is kind
    assert words in refused.reason


@pytest.mark.parametrize("size", [268_435_455, 268_435_460, 0xFFFF_FFFF])
async def test_a_broker_may_announce_more_than_the_largest_packet(size: int) -> None:
    """Also with words beside it that look like the beginning of that limit."""
    connack = accepted(told(31, "'zzzz'yyyy"), four(39, size), told(28, "'xxxx"), two(33, 9))
    async with joined(connack) as (link, _):
        assert (link.limits.packet_max, link.limits.receive_max) == (268_435_455, 9)
        assert link.publish("t", b"x")


@pytest.mark.parametrize(
    ("client_id", "will"),
    [("a\0", None), ("a" * 65536, None), ("a", Will("w\0", b"")), ("a", Will("w", b"x" * 65536))],
)
async def test_what_cannot_be_said_in_a_connect_is_refused_before_anybody_hears(
    client_id: str, will: Will | None
) -> None:
    heard = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(65536):
            heard.set()

    async with scripted(listen, client_id=client_id) as options:
        with pytest.raises(SinkRefused, match="cannot be said in MQTT") as refused:
            await within(Link.open(options, SystemClock(), will=will))
        assert "in [mqtt]" in refused.value.hint
    assert not heard.is_set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, SinkRefused), (2, SinkRefused), (3, Overloaded), (4, SinkRefused), (5, SinkRefused)],
)
async def test_the_codes_of_3_1_1_mean_the_same(code: int, kind: type[Exception]) -> None:
    refused = await refusal(bytes([0x20, 2, 0, code]), protocol="3.1.1")
    assert type(refused) is kind


@pytest.mark.parametrize("section", ["[sparkplug]", '[[mqtt]] "cloud"', '[[sparkplug]] "cloud"'])
async def test_hints_name_the_section_they_are_about_once(section: str) -> None:
    for code, words in ((0x86, "check user and password in {}, and"), (0x8E, "or set client_id in {}")):
        refused = await refusal(bytes([0x20, 3, 0, code, 0]), section=section)
        assert words.format(section) in refused.hint
    async with scripted(says(), section=section) as options:
        pass
    with pytest.raises(SinkUnavailable, match="cannot be reached") as away:
        await Link.open(options, SystemClock(), will=None)
    assert away.value.hint == f"check that it runs, and the address in {section}"


async def test_hints_of_one_message_or_wish_name_the_section_too() -> None:
    section = '[[mqtt]] "cloud"'
    async with joined(section=section) as (link, talk):
        told: list[MessageRefused] = []
        link.publish("t", b"", on_refused=told.append)
        await talk.packet()
        talk.say(puback(1, 0x86))
        await within(link.room(1))
        assert [why.hint for why in told] == [
            f"check user and password in {section}, and who the broker lets in"
        ]
        with pytest.raises(SinkRefused) as none:
            await link.subscribe({"a+": 0})
        assert none.value.hint == f"check the topics in {section}"


# --- aliases


async def test_a_topic_said_again_gets_an_alias_and_then_only_that() -> None:
    async with joined(accepted(two(34, 1))) as (link, talk):
        packed = pack(expiry_s=1)
        for topic in ("a", "b", "b", "b", "a", "a", "b"):
            link.publish(topic, b"", qos=0)
        link.publish("b", b"", qos=0, properties=packed)
        alias = b"\x03\x23\x00\x01"
        wanted = [
            b"\x00\x01a\x00",
            b"\x00\x01b\x00",
            b"\x00\x01b" + alias,
            b"\x00\x00" + alias,
            b"\x00\x01a\x00",
            b"\x00\x01a\x00",
            b"\x00\x00" + alias,
            b"\x00\x00\x08\x02\x00\x00\x00\x01\x23\x00\x01",
        ]
        assert [(await talk.packet())[2:] for _ in wanted] == wanted


async def test_an_alias_that_never_went_out_is_not_used() -> None:
    async with joined(accepted(two(34, 5), four(39, 20))) as (link, talk):
        link.publish("some/topic", b"", qos=0)
        assert not link.publish("some/topic", b"x" * 30, qos=0)
        link.publish("some/topic", b"", qos=0)
        link.publish("some/topic", b"", qos=0)
        sizes = [(await talk.packet())[2:4] for _ in range(3)]
        assert sizes == [b"\x00\x0a", b"\x00\x0a", b"\x00\x00"]


async def test_a_broker_that_takes_no_alias_gets_none() -> None:
    async with joined() as (link, talk):
        for _ in range(3):
            link.publish("a", b"", qos=0)
            assert (await talk.packet())[2:] == b"\x00\x01a\x00"


def test_aliases_are_bounded_in_number_and_memory() -> None:
    aliases = Aliases(2)
    for number in range(1000):
        assert aliases.offer(f"once/{number}") is None
    assert len(aliases._once) <= 32
    given: list[bytes] = []
    for topic in ("a", "a", "b", "b", "c", "c", "c"):
        if topic not in aliases.known and (alias := aliases.offer(topic)) is not None:
            aliases.given(topic, alias)
            given.append(alias)
    assert given == [b"\x23\x00\x01", b"\x23\x00\x02"]
    assert set(aliases.known) == {"a", "b"}
    assert not aliases._once
    assert Aliases(65535).left == ALIASES_MAX


# --- Mosquitto


async def open_at(mosquitto: Mosquitto, **more: Any) -> Link:
    options = replace(link_options(mosquitto.settings(), GATEWAY), **more)
    return await within(Link.open(options, SystemClock(), will=None))


def mosquitto_with(mosquitto: Mosquitto, *lines: str) -> Mosquitto:
    mosquitto.lines += lines
    return mosquitto


@pytest.mark.real
async def test_mosquitto_says_its_limits_and_they_are_kept(mosquitto: Mosquitto) -> None:
    lines = ("max_packet_size 1000", "max_topic_alias 3", "max_keepalive 17", "max_inflight_messages 4")
    await mosquitto_with(mosquitto, *lines).start()
    async with Subscriber(mosquitto.port, "t/#") as subscriber:
        link = await open_at(mosquitto, keep_alive_s=60)
        limits = link.limits
        assert (limits.packet_max, limits.alias_max, limits.keep_alive_s) == (1000, 3, 17)
        assert link.limit == 4
        for number in range(200):
            for topic in range(5):
                await within(link.room())
                assert link.publish(f"t/{topic}", b"%d" % number)
        await within(link.room(1))
        assert await link.stop(WAIT_S)
        await subscriber.wait(lambda: len(subscriber.heard) == 1000, "all")
    for topic in range(5):
        said = [int(heard.payload) for heard in subscriber.heard if heard.topic == f"t/{topic}"]
        assert said == list(range(200)), "every alias stands for its own topic"


@pytest.mark.real
@pytest.mark.parametrize(
    ("line", "needs", "words"),
    [
        ("retain_available false", {"qos_needed": 0}, "retained"),
        ("max_qos 0", {"retain_needed": False}, "QoS 1"),
        ("max_qos 1", {"qos_needed": 2}, "QoS"),
    ],
)
async def test_mosquitto_that_offers_less_is_refused_only_where_it_is_needed(
    mosquitto: Mosquitto, line: str, needs: dict[str, Any], words: str
) -> None:
    # Both are of a listener, so they come right behind it.
    mosquitto.listener += f"\n{line}"
    await mosquitto.start()
    with pytest.raises(SinkRefused, match=words):
        await open_at(mosquitto, **needs)
    link = await open_at(mosquitto, qos_needed=0, retain_needed=False)
    assert link.publish("t", b"", qos=0)
    await within(link.taken())
    assert await link.stop(WAIT_S)


async def test_every_qos_arrives_and_comes_back(broker: BrokerUnderTest) -> None:
    got: list[Message] = []
    everything = asyncio.Event()

    def came(message: Message) -> None:
        got.append(message)
        if len(got) == 29:
            everything.set()

    options = link_options(broker.settings(), GATEWAY)
    listening = await within(
        Link.open(replace(options, client_id="ear"), SystemClock(), will=None, on_message=came)
    )
    await within(listening.subscribe({"q/#": 2}))
    link = await within(Link.open(options, SystemClock(), will=Will("q/will", b"gone", 2)))
    for number in range(27):  # more than 20 on their way to one listener get mixed up in Mosquitto itself
        await within(link.room())
        link.publish(f"q/{number % 3}", b"%d" % number, qos=number % 3)
    await within(link.taken())
    await within(link.room(1))
    assert link.acknowledged == 18
    assert await link.stop(WAIT_S, last=[Will("q/0", b"last", 0)], with_will=True)
    await within(everything.wait())
    assert {b"last", b"gone"} <= {message.payload for message in got}
    for qos in range(3):
        said = [int(m.payload) for m in got if m.topic == f"q/{qos}" and m.payload.isdigit()]
        assert said == list(range(qos, 27, 3))
        if isinstance(broker, Mosquitto):  # the embedded one passes all on as it was asked for
            assert {m.qos for m in got if m.topic == f"q/{qos}"} == {qos}
    assert await listening.stop(WAIT_S)


@pytest.mark.real
async def test_what_the_rules_of_mosquitto_forbid_is_told_and_the_rest_arrives(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite ok/#\ntopic write mine/#\n")
    rules.chmod(0o600)
    await mosquitto_with(mosquitto, f"acl_file {rules}").start()
    link = await open_at(mosquitto)
    refused: list[MessageRefused] = []
    arrived: list[str] = []
    for number in range(20):
        for qos in (1, 2):
            for topic in ("ok/a", "secret/b"):
                await within(link.room())
                link.publish(
                    topic,
                    b"%d" % number,
                    qos=qos,
                    retain=True,
                    on_ack=partial(arrived.append, topic),
                    on_refused=refused.append,
                )
    await within(link.room(1))
    assert arrived == ["ok/a"] * 40
    assert [(told.topic, told.code) for told in refused] == [("secret/b", 0x87)] * 40
    assert (link.acknowledged, link.refused) == (40, 40)
    assert await link.stop(WAIT_S)
    options = link_options(mosquitto.settings(), GATEWAY)
    assert await within(read_retained(options, ["ok/a", "ok/none"], quiet_s=3.0)) == {"ok/a": b"19"}


@pytest.mark.real
async def test_the_will_comes_after_a_crash_and_not_after_a_good_bye(mosquitto: Mosquitto) -> None:
    await mosquitto.start()
    options = link_options(mosquitto.settings(), GATEWAY)
    async with Subscriber(mosquitto.port, "w/#") as subscriber:
        for name, ends in (("stopped", "stop"), ("crashed", "abort")):
            will = Will(f"w/{name}", b"gone", retain=True)
            link = await within(Link.open(options, SystemClock(), will=will))
            if ends == "stop":
                assert await link.stop(WAIT_S, last=[Will("w/last", b"word")])
            else:
                link.abort()
        await subscriber.wait(lambda: any(h.topic == "w/crashed" for h in subscriber.heard), "the will")
    assert [(heard.topic, heard.payload) for heard in subscriber.heard] == [
        ("w/last", b"word"),
        ("w/crashed", b"gone"),
    ]


async def test_numbers_go_round() -> None:
    async with joined(inflight_max=2) as (link, talk):
        link._out._number = 65534
        for wanted in (65535, 1, 2):
            link.publish("t", b"")
            assert (await talk.packet())[5:7] == wanted.to_bytes(2, "big")
            talk.say(puback(wanted))
            await within(link.room(1))
