"""What is owed to a broker for the messages it sends us: acknowledgements, and each of QoS 2 only once. Pure.

Messages are handed on when they come, in order, and acknowledged right after (MQTT 5.0 sections 4.3, 4.4).
"""

from __future__ import annotations

from gateway.mqtt import frames
from gateway.mqtt.heard import Message
from gateway.mqtt.properties import NotMqtt

#: Most messages of QoS 1 and 2 a broker may send without our acknowledgement; it is told so in CONNECT.
RECEIVE_MAX = 100
#: The same for a broker of 3.1.1, which cannot be told: every number there is.
_NUMBERS_MAX = 0xFFFF


class Inbound:
    """The messages of one connection."""

    def __init__(self, *, v5: bool) -> None:
        self._open: set[int] = set()
        self._most = RECEIVE_MAX if v5 else _NUMBERS_MAX
        self._v5 = v5

    def came(self, message: Message, number: int) -> tuple[bool, bytes | None]:
        """Whether this is the first time it comes, and what to answer once it was handed on.

        Raises:
            NotMqtt: more messages of QoS 2 are open than we allowed.
        """
        if message.qos == 0:
            return True, None
        if message.qos == 1:
            return True, frames.answer(frames.PUBACK, number)
        new = number not in self._open
        if new and len(self._open) >= self._most:
            raise NotMqtt("more messages at once than were allowed")
        self._open.add(number)
        return new, frames.answer(frames.PUBREC, number)

    def released(self, number: int) -> bytes:
        """The broker knows that we have it: the number is free again. What to answer."""
        known = number in self._open
        self._open.discard(number)
        return frames.answer(frames.PUBCOMP, number, 0 if known or not self._v5 else 0x92)
