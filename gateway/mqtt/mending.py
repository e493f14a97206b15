"""Packets of a broker in a form that paho reads, where the standard allows more than paho does. Pure.

Nothing is mended that the standard forbids: that is paho's to refuse.
"""

from __future__ import annotations

import struct

from paho.mqtt import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt.properties import NONE, NotMqtt, number, packed_number

#: How paho fails on bytes it does not expect, besides its own return codes.
PAHO_FAILURES = (
    MQTTException,
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

#: Properties of a message that paho is to read, in bytes: many take it seconds, and anybody can say them.
_PROPERTIES_BYTES_MAX = 256

#: Largest Maximum Packet Size paho takes, packed, and identifier of that property.
_PACKET_MAX, _PACKET_MAX_ID = b"\x0f\xff\xff\xff", 39


def without_many_properties(message: bytes) -> bytes:
    """The message, without its properties where there are many of them; nobody here asks for them.

    Raises:
        NotMqtt: they are longer than their packet.
    """
    _, start = number(message, 1)
    at = start + 2 + int.from_bytes(message[start : start + 2], "big") + (2 if message[0] & 0x06 else 0)
    size, end = number(message, at)
    if end + size > len(message):
        raise NotMqtt("properties longer than their packet")
    if size <= _PROPERTIES_BYTES_MAX:
        return message
    rest = message[start:at] + NONE + message[end + size :]
    return message[:1] + packed_number(len(rest)) + rest


def within_paho(connack: bytes) -> bytes:
    """The CONNACK with a Maximum Packet Size that paho takes.

    Brokers announce more than the largest packet there can be, which is no error by the standard, and paho
    then takes nothing of their answer. What to mend is where the whole can be read once it is mended.
    """
    if connack[1] > 0x7F or _readable(connack):
        return connack
    for at in range(5, len(connack) - 4):
        if connack[at] == _PACKET_MAX_ID and connack[at + 1 : at + 5] > _PACKET_MAX:
            mended = connack[: at + 1] + _PACKET_MAX + connack[at + 5 :]
            if _readable(mended):
                return mended
    return connack


def _readable(connack: bytes) -> bool:
    try:
        Properties(PacketTypes.CONNACK).unpack(connack[4:])  # type: ignore[no-untyped-call]
    except PAHO_FAILURES:
        return False
    return True
