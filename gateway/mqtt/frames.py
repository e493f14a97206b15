"""The packets we send, as bytes, and how long a packet is. Pure.

After MQTT 5.0 chapters 2 and 3; the forms of 3.1.1 are the same without properties. A general client spends
ten times as long on a message as all the rest of the gateway does, and a fleet says thousands a second. What
brokers say is read in `heard`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.mqtt.properties import NONE, Id, NotMqtt, packed_bytes, packed_number, packed_text

#: First bytes of packets. The four low bits are flags, which all but PUBLISH have fixed.
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x82, 0x90, 0xC0, 0xD0, 0xE0

PING = bytes((PINGREQ, 0))
GOOD_BYE = bytes((DISCONNECT, 0))
#: DISCONNECT of MQTT 5 after which the broker publishes the will all the same (section 3.14.2.1).
GOOD_BYE_WITH_WILL = bytes((DISCONNECT, 1, 0x04))
#: The same two, where the broker wanted to keep our session: it ends now (section 3.14.2.2.2).
_FORGET_US = bytes((5, Id.SESSION_EXPIRY, 0, 0, 0, 0))
GOOD_BYE_FOR_GOOD = bytes((DISCONNECT, 7, 0x00)) + _FORGET_US
GOOD_BYE_FOR_GOOD_WITH_WILL = bytes((DISCONNECT, 7, 0x04)) + _FORGET_US

_RETAIN = 0x01
_TEXT_BYTES_MAX = 0xFFFF
#: Largest remaining length of a packet (section 2.1.4).
REST_MAX = 268_435_455
#: A remaining length takes so many bytes at most.
_LENGTH_BYTES_MAX = 4
#: First byte and the longest remaining length: what `packet_bytes` needs to see at most.
HEAD_BYTES = 1 + _LENGTH_BYTES_MAX


class Will(NamedTuple):
    """A message the broker says in our place when the connection ends without a good-bye."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


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


def connect(
    client_id: str,
    *,
    v5: bool,
    keep_alive_s: int,
    user: str | None = None,
    password: str | None = None,
    will: Will | None = None,
    receive_max: int | None = None,
    packet_max: int | None = None,
) -> bytes:
    """A CONNECT with a clean start (section 3.1). The session ends with the connection.

    `receive_max` and `packet_max` bound what the broker may send us (MQTT 5 only).

    Raises:
        ValueError: a text of it is longer than MQTT allows, or has a NUL.
    """
    flags = 0x02  # clean start
    own = bytearray()
    if v5 and receive_max is not None:
        own += bytes((Id.RECEIVE_MAXIMUM,)) + receive_max.to_bytes(2, "big")
    if v5 and packet_max is not None:
        own += bytes((Id.MAXIMUM_PACKET_SIZE,)) + packet_max.to_bytes(4, "big")
    body = [packed_text(client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        body += [NONE if v5 else b"", packed_text(will.topic), packed_bytes(will.payload)]
    if user is not None:
        flags |= 0x80
        body.append(packed_text(user))
    if password is not None and (v5 or user is not None):  # 3.1.1 has no password without a user
        flags |= 0x40
        body.append(packed_bytes(password.encode()))
    head = b"\x00\x04MQTT" + bytes((5 if v5 else 4, flags)) + keep_alive_s.to_bytes(2, "big")
    properties = packed_number(len(own)) + own if v5 else b""
    rest = b"".join((head, properties, *body))
    return bytes((CONNECT,)) + packed_number(len(rest)) + rest


def subscribe(filters: Mapping[str, int], number: int, *, v5: bool) -> bytes:
    """A SUBSCRIBE for filters with the QoS each may have (section 3.8).

    Raises:
        ValueError: a filter is longer than MQTT allows, or has a NUL.
    """
    wishes = b"".join(packed_text(wish) + bytes((qos,)) for wish, qos in filters.items())
    rest = number.to_bytes(2, "big") + (NONE if v5 else b"") + wishes
    return bytes((SUBSCRIBE,)) + packed_number(len(rest)) + rest


def answer(kind: int, number: int, reason: int = 0) -> bytes:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP; a reason other than 0 is for MQTT 5 only (section 3.4)."""
    if reason:
        return bytes((kind, 3, number >> 8, number & 0xFF, reason))
    return bytes((kind, 2, number >> 8, number & 0xFF))


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
