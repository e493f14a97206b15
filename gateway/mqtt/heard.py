"""What a broker says, from bytes to values: its acceptance, acknowledgements, messages and good-bye. Pure.

After MQTT 5.0 chapter 3 and the forms of 3.1.1. Strict: what is not as the standard has it is no packet,
and the connection it came on is of no use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.mqtt import properties
from gateway.mqtt.properties import Id, NotMqtt, Value

#: Return codes of a CONNACK of 3.1.1 (its section 3.2.2.3) as the reason codes of MQTT 5.
_OLD_CODES = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}


class Message(NamedTuple):
    """A message that came in. `retained`: it was kept by the broker, and is not news."""

    topic: str
    payload: bytes
    qos: int
    retained: bool


class Said(NamedTuple):
    """A reason code and what comes with it."""

    code: int
    properties: Mapping[int, Value]

    @property
    def words(self) -> str:
        """The broker's own reason string; empty when it gives none."""
        return str(self.properties.get(Id.REASON_STRING, ""))

    @property
    def elsewhere(self) -> str:
        """The server it names instead of itself, or nothing."""
        return str(self.properties.get(Id.SERVER_REFERENCE, ""))


class Limits(NamedTuple):
    """What a broker lets us do (section 3.2.2.3), as its CONNACK says. One of 3.1.1 says nothing."""

    receive_max: int = 65535
    packet_max: int | None = None
    alias_max: int = 0
    qos_max: int = 2
    retains: bool = True
    keep_alive_s: int | None = None
    """Its own keep-alive, to be used instead of ours; 0 is none."""
    client_id: str | None = None
    """The one it gave us."""
    session_expiry_s: int = 0
    """So long it would keep our session, if it insists on it."""

    @classmethod
    def of(cls, said: Mapping[int, Value]) -> Limits:
        """Those of a CONNACK.

        Raises:
            NotMqtt: a Receive Maximum or Maximum Packet Size of 0.
        """
        none = cls()
        for identifier, name in (
            (Id.RECEIVE_MAXIMUM, "Receive Maximum"),
            (Id.MAXIMUM_PACKET_SIZE, "Maximum Packet Size"),
        ):
            if said.get(identifier) == 0:
                raise NotMqtt(f"a {name} of 0, which MQTT forbids")
        packet_max, keep_alive_s = said.get(Id.MAXIMUM_PACKET_SIZE), said.get(Id.SERVER_KEEP_ALIVE)
        client_id = said.get(Id.ASSIGNED_CLIENT_ID)
        return cls(
            receive_max=_int(said, Id.RECEIVE_MAXIMUM, none.receive_max),
            packet_max=packet_max if isinstance(packet_max, int) else None,
            alias_max=_int(said, Id.TOPIC_ALIAS_MAXIMUM, none.alias_max),
            qos_max=_int(said, Id.MAXIMUM_QOS, none.qos_max),
            retains=bool(said.get(Id.RETAIN_AVAILABLE, 1)),
            keep_alive_s=keep_alive_s if isinstance(keep_alive_s, int) else None,
            client_id=client_id if isinstance(client_id, str) else None,
            session_expiry_s=_int(said, Id.SESSION_EXPIRY, none.session_expiry_s),
        )


def accepted(packet: bytes, *, v5: bool) -> Said:
    """A whole CONNACK; code 0 lets us in. A broker of 3.1.1 answers in its own form whoever asks.

    Raises:
        NotMqtt: it is none.
    """
    _, at = properties.number(packet, 1)
    body = packet[at:]
    if len(body) < 2 or body[0] > 1:
        raise NotMqtt("an answer to CONNECT that is none")
    if body[0] and not body[1]:  # every CONNECT of ours has a clean start (section 3.2.2.1.1)
        raise NotMqtt("it goes on with a session that it was to forget")
    if len(body) == 2:
        code = body[1]
        if code < 0x80 and code:
            code = _OLD_CODES.get(code, 0x80)
        return Said(code or (0x84 if v5 else 0), {})  # who lets MQTT 5 in like this does not speak it
    return Said(body[1], properties.read(body, 2)[0])


def acknowledged(packet: bytes) -> tuple[int, Said]:
    """Number and reason of a whole PUBACK, PUBREC, PUBREL or PUBCOMP; what is left out is 0 and nothing.

    Raises:
        NotMqtt: it is too short to be one, or longer than it says.
    """
    _, at = properties.number(packet, 1)
    body = packet[at:]
    if len(body) < 2:
        raise NotMqtt("an acknowledgement without a number")
    said = properties.read(body, 3)[0] if len(body) > 3 else {}
    return body[0] << 8 | body[1], Said(body[2] if len(body) > 2 else 0, said)


def granted(packet: bytes, *, v5: bool) -> tuple[int, bytes, str]:
    """Number, one code for each filter, and words of a whole SUBACK.

    Raises:
        NotMqtt: it is none.
    """
    _, at = properties.number(packet, 1)
    body = packet[at:]
    if len(body) < 3:
        raise NotMqtt("an answer to SUBSCRIBE that is none")
    said, end = properties.read(body, 2) if v5 else ({}, 2)
    return body[0] << 8 | body[1], body[end:], Said(0, said).words


def message(packet: bytes, *, v5: bool) -> tuple[Message, int]:
    """The message of a whole PUBLISH, and its number (0 with QoS 0).

    Raises:
        NotMqtt: it is none; that includes an alias, of which we allowed none.
    """
    qos = packet[0] >> 1 & 3
    if qos == 3:
        raise NotMqtt("a message with QoS 3")
    _, at = properties.number(packet, 1)
    topic, at = properties.text(packet, at)
    if not topic or "+" in topic or "#" in topic:
        raise NotMqtt("a message without a topic")
    number = 0
    if qos:
        number, at = int.from_bytes(packet[at : at + 2], "big"), at + 2
        if not number or at > len(packet):
            raise NotMqtt("a message without a number")
    if v5:
        _, at = properties.read(packet, at)
    return Message(topic, packet[at:], qos, bool(packet[0] & 1)), number


def ended(packet: bytes) -> Said:
    """A whole DISCONNECT, which only brokers of MQTT 5 say.

    Raises:
        NotMqtt: it is none.
    """
    _, at = properties.number(packet, 1)
    body = packet[at:]
    said = properties.read(body, 1)[0] if len(body) > 1 else {}
    return Said(body[0] if body else 0, said)


def _int(said: Mapping[int, Value], identifier: int, default: int) -> int:
    value = said.get(identifier, default)
    return value if isinstance(value, int) else default
