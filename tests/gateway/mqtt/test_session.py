"""What paho says for us and reads for us: whole packets in and out, and no failure but ours."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.schema import MqttSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt import frames
from gateway.mqtt.options import LinkOptions, link_options
from gateway.mqtt.properties import NotMqtt
from gateway.mqtt.session import Session
from gateway.mqtt.terms import Granted, Limits, Message, Will
from tests.gateway.mqtt.support import ACCEPTED_3, ACCEPTED_5
from tests.gateway.publish.support import GATEWAY

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=40)


def options(version: str = "5", **more: object) -> LinkOptions:
    made = link_options(MqttSettings(broker="mqtt://h:1"), GATEWAY)
    return replace(made, protocol=version, client_id="me", keep_alive_s=60, **more)  # type: ignore[arg-type]


def session(version: str, *, accepted: bool = True) -> Session:
    numbers = count(1)
    made = Session(options(version), None, lambda: next(numbers))
    made.hello()
    if accepted:
        assert isinstance(made.read(ACCEPTED_5 if version == "5" else ACCEPTED_3), Limits)
    return made


@pytest.mark.parametrize(
    ("said", "will", "wanted"),
    [
        ({}, None, "10 17 0004 4d515454 05 02 003c 08 210064 2700100000 0002 6d65"),
        ({"protocol": "3.1.1"}, None, "10 0e 0004 4d515454 04 02 003c 0002 6d65"),
        (
            {"protocol": "3.1.1", "user": "u", "password": "p"},
            Will("w", b"x", 1, True),
            "10 1a 0004 4d515454 04 ee 003c 0002 6d65 0001 77 0001 78 0001 75 0001 70",
        ),
        (
            {"user": "u"},
            Will("w", b"x", 2),
            "10 21 0004 4d515454 05 96 003c 08 210064 2700100000 0002 6d65 00 0001 77 0001 78 0001 75",
        ),
        (
            {"password": "p"},
            None,
            "10 1c 0004 4d515454 05 c2 003c 08 210064 2700100000 0002 6d65 0000 0001 70",
        ),
    ],
)
def test_the_first_word_is_what_the_settings_say(
    said: dict[str, str], will: Will | None, wanted: str
) -> None:
    """Clean start, session that ends with the connection, what we take at once; bytes after the standard."""
    version = said.pop("protocol", "5")
    assert Session(options(version, **said), will, lambda: 1).hello() == bytes.fromhex(wanted)


@pytest.mark.parametrize("filters", [{"a/#/b": 0}, {"a+": 0}, {"ok": 1, "a\0": 0}])
def test_a_wish_that_is_none_is_named(filters: dict[str, int]) -> None:
    with pytest.raises(SinkRefused, match="no topic of MQTT, among"):
        session("5").subscribe(filters)


@given(
    version=st.sampled_from(["5", "3.1.1"]),
    topic=TEXTS,
    payload=st.binary(max_size=200),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    properties=st.sampled_from(
        [b"\x00", b"\x05\x02\x00\x00\x00\x09", b"\xd8\x04" + b"\x26\x00\x01a\x00\x00" * 100]
    ),
)
@settings(deadline=None)
def test_any_message_is_read_as_it_was_said(
    version: str, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes
) -> None:
    side = session(version)
    if version != "5":
        properties = b""
    packet = frames.publish(topic, payload, 9, qos=qos, retain=retain, properties=properties)
    assert packet is not None
    read = side.read(packet)
    assert side.answer() == (b"", b"\x40\x02\x00\x09", b"\x50\x02\x00\x09")[qos]
    if qos == 2:
        assert read is None
        read = side.read(b"\x62\x02\x00\x09")
        assert side.answer() == b"\x70\x02\x00\x09"
    assert read == Message(topic, payload, qos, retain)
    assert side.answer() == b""


@given(
    version=st.sampled_from(["5", "3.1.1"]),
    accepted=st.booleans(),
    packets=st.lists(
        st.tuples(
            st.sampled_from([0x20, 0x30, 0x31, 0x32, 0x34, 0x36, 0x3D, 0x62, 0x90, 0xB0, 0xC0, 0xE0, 0xF0]),
            st.binary(max_size=40)
            | st.lists(
                st.sampled_from(
                    [0, 0, 0, 1, 2, 3, 8, 9, 11, 17, 18, 19, 21, 22, 31, 33, 36, 37, 38, 39, 0x87]
                ),
                max_size=20,
            ).map(bytes),
        ),
        max_size=4,
    ),
)
@settings(max_examples=600, deadline=None)
def test_any_packet_is_read_or_refused(
    version: str, accepted: bool, packets: list[tuple[int, bytes]]
) -> None:
    side = session(version, accepted=accepted)
    with contextlib.suppress(NotMqtt, SinkRefused, SinkUnavailable):
        for kind, body in packets:
            read = side.read(bytes([kind, len(body)]) + body)
            assert read is None or isinstance(read, Limits | Message | Granted)
            side.answer()
