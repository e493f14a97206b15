"""The packets that nearly all traffic is made of, as bytes: messages we send, and what becomes of them. Pure.

After MQTT 5.0 chapters 2 and 3; the forms of 3.1.1 are the same without properties. A general client spends
ten times as long on a message as all the rest of the gateway does, and a fleet says thousands a second. All
other packets are the client library's (`session`).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from paho.mqtt import MQTTException
from paho.mqtt.properties import Properties

from gateway.mqtt.properties import NotMqtt, number, packed_number

#: First bytes of packets. The four low bits are flags, which all but PUBLISH have fixed.
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x90, 0xC0, 0xD0, 0xE0

PING = bytes((PINGREQ, 0))

_RETAIN = 0x01
_TEXT_BYTES_MAX = 0xFFFF
#: Largest remaining length of a packet (section 2.1.4).
REST_MAX = 268_435_455
#: A remaining length takes so many bytes at most.
_LENGTH_BYTES_MAX = 4
#: First byte and the longest remaining length: what `packet_bytes` needs to see at most.
HEAD_BYTES = 1 + _LENGTH_BYTES_MAX


class Said(NamedTuple):
    """The reason code of an acknowledgement, and the broker's own words; empty when it gives none."""

    code: int
    words: str = ""


def publish(
    topic: str, payload: bytes, number: int, *, qos: int = 1, retain: bool = False, properties: bytes = b""
) -> bytes | None:
    """A PUBLISH, or None when no packet can be that large.

    `number` is its packet identifier, which one of QoS 0 does not have. `properties` are those of MQTT 5
    as `properties.pack` gives them (`NONE`: none), empty for 3.1.1.
    """
    name = topic.encode()
    rest = (4 if qos else 2) + len(name) + len(properties) + len(payload)
    if rest > REST_MAX or len(name) > _TEXT_BYTES_MAX:
        return None
    first = PUBLISH | qos << 1 | _RETAIN if retain else PUBLISH | qos << 1
    if rest < 0x80:
        head = bytes((first, rest, len(name) >> 8, len(name) & 0xFF))
    elif rest < 0x4000:
        head = bytes((first, rest & 0x7F | 0x80, rest >> 7, len(name) >> 8, len(name) & 0xFF))
    else:
        head = bytes((first,)) + packed_number(rest) + len(name).to_bytes(2, "big")
    if not qos:
        return b"".join((head, name, properties, payload))
    return b"".join((head, name, number.to_bytes(2, "big"), properties, payload))


def release(number: int, reason: int = 0) -> bytes:
    """A PUBREL; a reason other than 0 is for MQTT 5 only (section 3.6)."""
    if reason:
        return bytes((PUBREL, 3, number >> 8, number & 0xFF, reason))
    return bytes((PUBREL, 2, number >> 8, number & 0xFF))


def acknowledged(packet: bytes) -> tuple[int, Said]:
    """Number and reason of a whole PUBACK, PUBREC or PUBCOMP; what is left out is 0 and nothing.

    Raises:
        NotMqtt: it is too short to be one, or longer than it says.
    """
    _, at = number(packet, 1)
    body = packet[at:]
    if len(body) < 2:
        raise NotMqtt("an acknowledgement without a number")
    code = body[2] if len(body) > 2 else 0
    words = _words(packet[0] >> 4, body[3:]) if len(body) > 3 and body[3:] != b"\x00" else ""
    return body[0] << 8 | body[1], Said(code, words)


def _words(kind: int, packed: bytes) -> str:
    """The reason string among packed properties."""
    said = Properties(kind)  # type: ignore[no-untyped-call]
    try:
        _, size = said.unpack(packed)  # type: ignore[no-untyped-call]
    except (MQTTException, struct.error, LookupError, ValueError) as error:
        raise NotMqtt(f"an acknowledgement that cannot be read ({error})") from error
    if size > len(packed):
        raise NotMqtt("an acknowledgement longer than its packet")
    return str(getattr(said, "ReasonString", ""))


def packet_bytes(data: bytes | bytearray, at: int = 0) -> int | None:
    """Length of the packet that begins at `at`, or None while too little of it is there to say.

    Raises:
        NotMqtt: its length is not one.
    """
    left = len(data) - at
    if left > 1 and data[at + 1] < 0x80:
        return 2 + data[at + 1]
    rest = shift = 0
    for size, byte in enumerate(data[at + 1 : at + HEAD_BYTES], 2):
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size + rest
        shift += 7
    if left >= HEAD_BYTES:
        raise NotMqtt("a packet claims a length that no packet has")
    return None
