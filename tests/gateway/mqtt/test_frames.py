"""The bytes of messages and acknowledgements, held against the standard and against paho's own."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt import frames, properties
from gateway.mqtt.properties import NotMqtt, pack

TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=40)


class _Caught:
    """A socket that keeps what paho sends."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, buffer: bytes) -> int:
        self.sent += buffer
        return len(buffer)


def paho(version: int) -> tuple[Client, _Caught]:
    """Its client, and what that sends."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="me", protocol=version)  # type: ignore[arg-type]
    caught = _Caught()
    client._sock = caught  # type: ignore[assignment]
    return client, caught


def said_by(client: Client, caught: _Caught) -> bytes:
    client._sock = None
    return caught.sent


def property_set(kind: int, **values: object) -> Properties:
    made = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None and value != []:
            setattr(made, name, value)
    return made


@given(
    topic=TOPICS,
    payload=st.one_of(st.binary(max_size=200), st.sampled_from([b"x" * 16_300, b"x" * 16_400])),
    number=st.integers(1, 65535),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    form=st.sampled_from([(MQTTv311, False), (MQTTv5, False), (MQTTv5, True)]),
)
def test_a_message_is_what_paho_would_send(
    topic: str, payload: bytes, number: int, qos: int, retain: bool, form: tuple[int, bool]
) -> None:
    version, late = form
    properties = b"" if version == MQTTv311 else pack(user=[("late", "true")] if late else [])
    client, caught = paho(version)
    client._last_mid = number - 1
    theirs = property_set(PacketTypes.PUBLISH, UserProperty=("late", "true")) if late else None
    client.publish(topic, payload, qos=qos, retain=retain, properties=theirs)

    packet = frames.publish(topic, payload, number, qos=qos, retain=retain, properties=properties)

    assert packet == said_by(client, caught)
    assert packet is not None
    assert frames.packet_bytes(packet[: frames.HEAD_BYTES]) == len(packet)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@given(
    expiry_s=st.none() | st.integers(0, 0xFFFF_FFFF),
    content_type=st.none() | TEXTS,
    response_topic=st.none() | TEXTS,
    correlation=st.none() | st.binary(min_size=1, max_size=60),
    text=st.booleans(),
    user=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
)
def test_properties_are_what_paho_would_send(
    expiry_s: int | None,
    content_type: str | None,
    response_topic: str | None,
    correlation: bytes | None,
    text: bool,
    user: list[tuple[str, str]],
) -> None:
    packed = pack(
        expiry_s=expiry_s,
        content_type=content_type,
        response_topic=response_topic,
        correlation=correlation,
        text=text,
        user=user,
    )
    theirs = property_set(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1 if text else None,
        MessageExpiryInterval=expiry_s,
        ContentType=content_type,
        ResponseTopic=response_topic,
        CorrelationData=correlation,
        UserProperty=user,
    )
    assert packed == theirs.pack()  # type: ignore[no-untyped-call]
    theirs.TopicAlias = 0x0102
    read = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    read.unpack(properties.with_alias(packed, b"\x23\x01\x02"))  # type: ignore[no-untyped-call]
    assert read.json() == theirs.json()  # type: ignore[no-untyped-call]


@given(st.sampled_from([0x40, 0x50, 0x70]), st.binary(max_size=40))
def test_any_acknowledgement_is_read_or_refused(kind: int, body: bytes) -> None:
    with contextlib.suppress(NotMqtt):
        number, said = frames.acknowledged(bytes([kind, len(body)]) + body)
        assert number == int.from_bytes(body[:2], "big")
        assert said.code == (body[2] if len(body) > 2 else 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"expiry_s": -1},
        {"expiry_s": 2**32},
        {"content_type": "a\0b"},
        {"content_type": "x" * 65536},
        {"correlation": b"x" * 65536},
        {"user": [("a", "x" * 65536)]},
    ],
)
def test_what_cannot_be_said_is_not_packed(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"MQTT|NUL|expiry"):
        pack(**wrong)


def test_what_no_packet_can_hold_is_not_made() -> None:
    assert frames.publish("t" * 65536, b"", 1, retain=False, properties=b"") is None
    assert frames.publish("t" * 65535, b"", 1, retain=False, properties=b"") is not None


@pytest.mark.parametrize("rest", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, frames.REST_MAX])
def test_the_length_of_a_packet_is_known_as_soon_as_it_can_be(rest: int) -> None:
    head, left = bytearray([0x30]), rest
    while True:
        head.append(left & 0x7F | (0x80 if left > 0x7F else 0))
        left >>= 7
        if not left:
            break

    assert frames.packet_bytes(bytes(head)) == len(head) + rest
    assert frames.packet_bytes(bytes(head) + b"\xff\xff\xff\xff"[: 5 - len(head)]) == len(head) + rest
    assert [frames.packet_bytes(bytes(head[:size])) for size in range(len(head))] == [None] * len(head)


def test_a_length_of_five_bytes_is_none() -> None:
    with pytest.raises(NotMqtt):
        frames.packet_bytes(b"\x40\xff\xff\xff\xff")


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"\x40\x02\x12\x34", (0x1234, 0, "")),
        (b"\x40\x03\x00\x07\x10", (7, 0x10, "")),
        (b"\x40\x04\x00\x07\x87\x00", (7, 0x87, "")),
        (b"\x40\x82\x00\x00\x07", (7, 0, "")),
        (b"\x40\x84\x01\x00\x07\x97\x80\x01" + b"\x1f\x00\x7d" + b"w" * 125, (7, 0x97, "w" * 125)),
    ],
)
def test_an_acknowledgement_is_read(packet: bytes, said: tuple[int, int, str]) -> None:
    number, found = frames.acknowledged(packet)

    assert (number, found.code, found.words) == said


@pytest.mark.parametrize(
    "packet",
    [
        b"\x40\x00",
        b"\x40\x01\x00",
        b"\x40\x04\x00\x07\x87\x01",
        b"\x40\x08\x00\x07\x87\x06\x1f\x00\x03a",
    ],
)
def test_an_acknowledgement_without_its_parts_is_none(packet: bytes) -> None:
    with pytest.raises(NotMqtt):
        frames.acknowledged(packet)
