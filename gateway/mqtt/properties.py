"""The properties of MQTT 5 messages, packed once and used often. Pure.

After MQTT 5.0 section 2.2.2: a length, then identifiers with values. What is packed here goes into a message
as it is, so whoever says the same thing many times packs once. Knows no packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

#: No properties at all: their length only.
NONE = b"\x00"

_TEXT_BYTES_MAX = 0xFFFF


class NotMqtt(Exception):
    """Bytes that are no packet, or that no packet can be made of."""


class Id(IntEnum):
    """Identifiers (section 2.2.2.2) of those that are used by name."""

    PAYLOAD_FORMAT = 1
    MESSAGE_EXPIRY = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    TOPIC_ALIAS = 35
    USER = 38


def pack(
    *,
    expiry_s: int | None = None,
    content_type: str | None = None,
    text: bool = False,
    user: Iterable[tuple[str, str]] = (),
    response_topic: str | None = None,
    correlation: bytes | None = None,
) -> bytes:
    """The properties of a message, as `Link.publish` takes them.

    `expiry_s` is the Message Expiry Interval in seconds, after which a broker passes it on no more; `text`
    says that the payload is UTF-8; `user` are user properties, in this order.

    Raises:
        ValueError: a text is longer than 65535 bytes or has a NUL, or the expiry is no 32-bit number.
    """
    parts = bytearray()
    if text:
        parts += bytes((Id.PAYLOAD_FORMAT, 1))
    if expiry_s is not None:
        if not 0 <= expiry_s <= 0xFFFF_FFFF:
            raise ValueError(f"an expiry of {expiry_s} s is none that MQTT can say")
        parts += bytes((Id.MESSAGE_EXPIRY,)) + expiry_s.to_bytes(4, "big")
    if content_type is not None:
        parts += bytes((Id.CONTENT_TYPE,)) + packed_text(content_type)
    if response_topic is not None:
        parts += bytes((Id.RESPONSE_TOPIC,)) + packed_text(response_topic)
    if correlation is not None:
        parts += bytes((Id.CORRELATION_DATA,)) + packed_bytes(correlation)
    for name, value in user:
        parts += bytes((Id.USER,)) + packed_text(name) + packed_text(value)
    return packed_number(len(parts)) + parts


def with_alias(properties: bytes, alias: bytes) -> bytes:
    """`properties` and one more: `alias` as `aliases` packs it, without a length."""
    if properties[0] < 0x7D:  # the common one: the length stays one byte
        return bytes((properties[0] + len(alias),)) + properties[1:] + alias
    size, at = number(properties, 0)
    return packed_number(size + len(alias)) + properties[at:] + alias


# --- the forms of values (section 1.5)


def number(packet: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer (section 1.5.5), and where it ends.

    Raises:
        NotMqtt: it is longer than four bytes, or than the packet.
    """
    value = shift = 0
    for byte in packet[at : at + 4]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotMqtt("a number that does not end")


def packed_number(value: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    if value < 0x80:
        return bytes((value,))
    packed = bytearray()
    while value > 0x7F:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def packed_text(value: str) -> bytes:
    """A text with its length before it.

    Raises:
        ValueError: it is longer than 65535 bytes, or has a NUL.
    """
    if "\0" in value:
        raise ValueError("a text of MQTT has no NUL")
    return packed_bytes(value.encode())


def packed_bytes(value: bytes) -> bytes:
    """Bytes with their length before them.

    Raises:
        ValueError: there are more than 65535.
    """
    if len(value) > _TEXT_BYTES_MAX:
        raise ValueError(f"{len(value)} bytes are more than a text of MQTT may have ({_TEXT_BYTES_MAX})")
    return len(value).to_bytes(2, "big") + value
