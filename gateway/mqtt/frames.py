"""The two packets that nearly all traffic is made of, PUBLISH with QoS 1 and its PUBACK, as bytes. Pure.

paho keeps the session; but it spends ten times as long on a message as all the rest of the gateway does, and
a fleet says thousands a second. After MQTT 5.0 sections 2.1, 3.3 and 3.4; the forms of 3.1.1 are the same
without properties.
"""

from __future__ import annotations

#: Head of a PUBACK. The other four bits of the first byte are always 0.
PUBACK = 0x40
_PUBLISH_QOS_1, _RETAIN = 0x32, 0x01
_TEXT_BYTES_MAX = 0xFFFF
#: Largest remaining length of a packet (section 2.1.4).
REST_MAX = 268_435_455
#: A remaining length takes so many bytes at most.
_LENGTH_BYTES_MAX = 4
#: First byte and the longest remaining length: what `packet_bytes` needs to see at most.
HEAD_BYTES = 1 + _LENGTH_BYTES_MAX


class NotMqtt(Exception):
    """Bytes that are no packet."""


def publish(topic: str, payload: bytes, number: int, *, retain: bool, properties: bytes) -> bytes | None:
    """A PUBLISH with QoS 1, or None when no packet can be that large.

    `properties` are those of MQTT 5 with their length before them (`b"\\x00"`: none), empty for 3.1.1.
    """
    name = topic.encode()
    rest = 4 + len(name) + len(properties) + len(payload)
    if rest > REST_MAX or len(name) > _TEXT_BYTES_MAX:
        return None
    head = bytearray((_PUBLISH_QOS_1 | _RETAIN if retain else _PUBLISH_QOS_1,))
    while rest > 0x7F:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    head += len(name).to_bytes(2, "big")
    return b"".join((head, name, number.to_bytes(2, "big"), properties, payload))


def packet_bytes(head: bytes) -> int | None:
    """Length of the packet that begins with `head`, or None while too little of it is there to say.

    Raises:
        NotMqtt: its length is not one.
    """
    if len(head) > 1 and head[1] < 0x80:
        return 2 + head[1]
    rest = shift = 0
    for at, byte in enumerate(head[1:HEAD_BYTES], 2):
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at + rest
        shift += 7
    if len(head) >= HEAD_BYTES:
        raise NotMqtt("a packet claims a length that no packet has")
    return None


def acknowledged(packet: bytes) -> tuple[int, int, bytes]:
    """Number, reason and packed properties of a whole PUBACK; what is left out is 0 and nothing.

    Raises:
        NotMqtt: it is too short to be one.
    """
    if len(packet) == 4:  # the common one: no complaint
        return packet[2] << 8 | packet[3], 0, b""
    if len(packet) < 4:
        raise NotMqtt("an acknowledgement without a number")
    body = packet[2 if packet[1] < 0x80 else 3 :]  # none is longer than two bytes of length can say
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0, body[3:]
