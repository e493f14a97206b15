"""The bytes of messages and acknowledgements, held against the standard and against paho's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt import frames, heard
from gateway.mqtt.properties import NotMqtt

TOPICS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="+#\0"), min_size=1, max_size=40)


class _Caught:
    """A socket that keeps what paho sends."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, buffer: bytes) -> int:
        self.sent += buffer
        return len(buffer)


def as_paho(topic: str, payload: bytes, number: int, *, retain: bool, version: int, late: bool) -> bytes:
    """The packet paho makes of a message."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=version)  # type: ignore[arg-type]
    caught = _Caught()
    client._sock = caught  # type: ignore[assignment]
    client._last_mid = number - 1
    properties = None
    if late:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("late", "true")
    client.publish(topic, payload, qos=1, retain=retain, properties=properties)
    client._sock = None
    return caught.sent


@given(
    topic=TOPICS,
    payload=st.one_of(st.binary(max_size=200), st.sampled_from([b"x" * 16_300, b"x" * 16_400])),
    number=st.integers(1, 65535),
    retain=st.booleans(),
    form=st.sampled_from([(MQTTv311, False), (MQTTv5, False), (MQTTv5, True)]),
)
def test_a_message_is_what_paho_would_send(
    topic: str, payload: bytes, number: int, retain: bool, form: tuple[int, bool]
) -> None:
    version, late = form
    properties = b"" if version == MQTTv311 else b"\x00"
    if late:
        properties = b"\x0d\x26\x00\x04late\x00\x04true"

    packet = frames.publish(topic, payload, number, retain=retain, properties=properties)

    assert packet == as_paho(topic, payload, number, retain=retain, version=version, late=late)
    assert packet is not None
    assert frames.packet_bytes(packet[: frames.HEAD_BYTES]) == len(packet)


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
    number, found = heard.acknowledged(packet)

    assert (number, found.code, found.words) == said


@pytest.mark.parametrize("packet", [b"\x40\x00", b"\x40\x01\x00", b"\x40\x04\x00\x07\x87\x01"])
def test_an_acknowledgement_without_its_parts_is_none(packet: bytes) -> None:
    with pytest.raises(NotMqtt):
        heard.acknowledged(packet)
