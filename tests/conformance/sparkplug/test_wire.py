"""The tap understands what two other implementations say to each other, and the bytes of the standard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.conformance.sparkplug import decoder
from tests.conformance.sparkplug.wire import (
    Body,
    Closed,
    Connack,
    Connect,
    Conversation,
    Disconnect,
    NotMqtt,
    Packet,
    Publish,
    Record,
    Suback,
    Subscribe,
    Tap,
    packets,
)
from tests.gateway.publish.support import find_mosquitto
from tests.support.processes import Mosquitto


def parsed(data: bytes, protocol: str = "5") -> list[Body]:
    conversation = Conversation(protocol)
    return [conversation.parse(first, body, up=True) for first, body in packets(bytearray(data))]


def test_connect_with_a_will_by_the_bytes() -> None:
    data = bytes.fromhex(
        "10 1f 00 04 4d515454 05 0e 003c"  # MQTT 5; clean start, will, QoS 1
        "05 11 00000000"  # session expiry 0
        "0002 6964"  # id
        "00"
        "0003 612f62"  # a/b
        "0003 010203".replace(" ", "")
    )
    (found,) = parsed(bytes([data[0], len(data) - 2]) + data[2:])

    assert found == Connect("5", "id", True, Publish("a/b", b"\x01\x02\x03", 1, False), 60, 0)


def test_a_topic_alias_stands_for_its_topic() -> None:
    first = b"\x30\x08\x00\x01t\x03\x23\x00\x07x"
    second = b"\x30\x07\x00\x00\x03\x23\x00\x07y"

    assert parsed(first + second) == [Publish("t", b"x"), Publish("t", b"y")]


def test_a_packet_in_pieces_is_one_packet() -> None:
    buffer = bytearray()
    found = []
    for byte in b"\x30\x04\x00\x01tx\xc0\x00":
        buffer.append(byte)
        found += list(packets(buffer))

    assert found == [(0x30, b"\x00\x01tx"), (0xC0, b"")]


@pytest.mark.parametrize("data", [b"\x30\x02\x00\x09", b"\x30" + b"\xff" * 4, b"\x10\x04\x00\x02\xff\xff"])
def test_what_is_no_mqtt_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotMqtt):
        parsed(data)


def up(record: Record) -> Iterable[Packet]:
    return (packet for packet in record.packets if packet.up)


@pytest.mark.real
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_paho_and_mosquitto_are_overheard(protocol: str, tmp_path: Path) -> None:
    find_mosquitto()
    record = Record()
    five = protocol == "5"
    async with Mosquitto(tmp_path) as broker, Tap(record, "one", broker.port) as tap:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="heard",
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            clean_session=None if five else True,
        )
        client.will_set("will", b"gone", qos=1, retain=True)
        client.connect_async("127.0.0.1", tap.port, keepalive=17)
        client.loop_start()
        await record.until(lambda seen: any(isinstance(p.body, Connack) for p in seen), "CONNACK")
        client.subscribe([("a/+", 1), ("b", 0)])
        await record.until(lambda seen: any(isinstance(p.body, Suback) for p in seen), "SUBACK")
        properties = Properties(PacketTypes.PUBLISH) if five else None  # type: ignore[no-untyped-call]
        if properties is not None:
            properties.TopicAlias = 3
            properties.UserProperty = [("k", "v")]
        client.publish("a/x", b"1" * 300, qos=1, properties=properties)
        client.publish("b", b"2", retain=True)
        await record.until(
            lambda seen: sum(isinstance(p.body, Publish) and not p.up for p in seen) == 2, "both come back"
        )
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=4) if five else None
        client.disconnect(reason)
        await record.until(lambda seen: any(isinstance(p.body, Closed) for p in seen), "the end")
        client.loop_stop()

    bodies = [packet.body for packet in up(record)]
    assert bodies[0] == Connect(protocol, "heard", True, Publish("will", b"gone", 1, True), 17, 0)
    assert next(body for body in bodies if isinstance(body, Subscribe)).filters == (("a/+", 1), ("b", 0))
    assert [body for body in bodies if isinstance(body, Publish)] == [
        Publish("a/x", b"1" * 300, 1),
        Publish("b", b"2", 0, True),
    ]
    assert Disconnect(4 if five else 0) in bodies
    down = [p.body for p in record.packets if not p.up and isinstance(p.body, Publish)]
    assert sorted(body.topic for body in down) == ["a/x", "b"]


def test_a_payload_by_its_bytes() -> None:
    """The fields by their numbers (6.4.1): timestamp 1, metric 2 with name 1, type 4, int 10; seq 3."""
    data = bytes.fromhex("08 8827 12 07 0a 01 78 20 03 50 05 18 07".replace(" ", ""))

    payload = decoder.decode(data)

    assert (payload.timestamp, payload.seq) == (5000, 7)
    (metric,) = payload.metrics
    assert (metric.name, metric.datatype, metric.int_value) == ("x", 3, 5)
    assert not metric.HasField("alias")


@pytest.mark.parametrize("data", [b"\xff", b"\x12\x03\x0a\x01\xff", b"\x32\x01x", b"\x28\x01"])
def test_what_is_no_payload_is_said_to_be_none(data: bytes) -> None:
    """No protobuf, text that is not UTF-8, a field with a number nobody has, one of another kind."""
    with pytest.raises(decoder.NotSparkplug):
        decoder.decode(data)


@pytest.mark.parametrize(
    ("datatype", "field", "value", "wrong"),
    [
        (2, "int_value", 0xFFFF8000, False),
        (2, "int_value", 0x8000, False),
        (2, "int_value", 0x1_8000, True),
        (5, "int_value", 256, True),
        (8, "long_value", 2**64 - 1, False),
        (3, "long_value", 3, True),
        (30, "bytes_value", b"12345678", False),
        (30, "bytes_value", b"1234567", True),
    ],
)
def test_values_have_to_fit_their_type(datatype: int, field: str, value: object, wrong: bool) -> None:
    metric = decoder.empty().metrics.add(**{field: value})

    assert (decoder.wrong_value(metric, datatype) is not None) == wrong
