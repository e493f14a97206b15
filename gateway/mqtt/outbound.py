"""Messages on their way: their numbers, what each waits for, and what an acknowledgement does. Pure.

A message of QoS 1 waits for PUBACK. One of QoS 2 waits for PUBREC, and then for PUBCOMP, which says that the
broker has it for good: many pass a message on only when it is released (PUBREL), and forget it when the
connection ends before. After MQTT 5.0 sections 2.2.1, 4.3 and 4.9.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import NamedTuple

from gateway.mqtt import frames
from gateway.mqtt.frames import Said
from gateway.mqtt.properties import NotMqtt
from gateway.mqtt.reasons import NOT_THE_MESSAGE, MessageRefused, at, failure

#: Called when the broker has acknowledged a message.
OnAck = Callable[[], None]
#: Called when the broker has refused a message and goes on taking others.
OnRefused = Callable[[MessageRefused], None]

#: What a message in flight waits for.
ACK, REC, COMP = range(3)


class Waiting(NamedTuple):
    """One message in flight: when it was sent (monotonic seconds) and what it waits for."""

    sent_at: float
    on_ack: OnAck | None
    on_refused: OnRefused | None
    topic: str
    stage: int


def _nobody(refused: MessageRefused) -> None:
    """Hears of a refusal that concerns nobody any more."""


class Outbound:
    """Those of one connection, by number, the oldest first.

    What its owner is to be told gathers in `told`, in the order the broker said it.
    """

    def __init__(self, *, v5: bool, section: str = "[mqtt]") -> None:
        """`section`: where people set this connection, for hints."""
        self.waiting: dict[int, Waiting] = {}
        self.told: list[Callable[[], None]] = []
        self.acknowledged = self.refused = 0
        self._number = 0
        self._v5, self._section = v5, section

    def number(self, others: Container[int] = ()) -> int:
        """A packet identifier (1 to 65535) that nothing in flight has, nor `others`; there has to be one."""
        waiting = self.waiting
        while True:
            self._number = number = self._number % 0xFFFF + 1
            if number not in waiting and number not in others:
                return number

    def oldest_at(self) -> float | None:
        """When the message that has waited longest was sent."""
        for waiting in self.waiting.values():
            return waiting.sent_at
        return None

    def forget(self) -> None:
        """Their owner is gone, and nobody is told what comes of them; a refusal ends nothing then."""
        for number, waiting in self.waiting.items():
            self.waiting[number] = waiting._replace(on_ack=None, on_refused=_nobody)
        self.told.clear()

    def clear(self) -> None:
        """The connection is over: nobody is told anything any more."""
        self.waiting.clear()
        self.told.clear()

    def has(self, number: int, stage: int = ACK) -> None:
        """The broker has the message with this number for good; one that is none of ours changes nothing.

        Raises:
            NotMqtt: this is not the acknowledgement it waits for.
        """
        waiting = self.waiting.pop(number, None)
        if waiting is None:
            return
        if waiting[4] != stage:
            raise NotMqtt("an acknowledgement of another kind than the message needs")
        self.acknowledged += 1
        if waiting[1] is not None:
            self.told.append(waiting[1])

    def receipt(self, kind: int, number: int, said: Said) -> bytes | None:
        """A PUBACK, PUBREC or PUBCOMP that may say more than yes; what to answer.

        Raises:
            NotMqtt: this is not the acknowledgement the message waits for.
            SinkUnavailable, SinkRefused: the message was refused and its owner did not ask to be told, or the
                broker no longer has what it said it has.
        """
        if kind == frames.PUBCOMP:
            if self._completes(number):
                self._passed_on(number, said)
            return None
        stage = ACK if kind == frames.PUBACK else REC
        if said.code >= 0x80:
            self._refused(number, stage, said)
            return None
        if stage == ACK:
            self.has(number)
            return None
        waiting = self.waiting.get(number)
        if waiting is None:
            return frames.release(number, 0x92 if self._v5 else 0)
        if waiting.stage == ACK:
            raise NotMqtt("an acknowledgement of another kind than the message needs")
        self.waiting[number] = waiting._replace(stage=COMP)  # in its place: the oldest stay first
        return frames.release(number)

    def _passed_on(self, number: int, said: Said) -> None:
        if said.code >= 0x80:  # it knows nothing of it any more (section 3.7.2.1)
            raise failure(said.code, f'the message on "{self.waiting[number].topic}"', said=said.words)
        self.has(number, COMP)

    def _completes(self, number: int) -> bool:
        return (waiting := self.waiting.get(number)) is not None and waiting.stage == COMP

    def _refused(self, number: int, stage: int, said: Said) -> None:
        waiting = self.waiting.pop(number, None)
        if waiting is None:
            return
        if waiting.stage != stage:
            raise NotMqtt("a refusal of another kind than the message waits for")
        self.refused += 1
        why = failure(said.code, f'the message on "{waiting.topic}"', said=said.words)
        if waiting.on_refused is None or said.code in NOT_THE_MESSAGE:
            raise why
        self.told.append(
            partial(
                waiting.on_refused,
                MessageRefused(waiting.topic, said.code, why.reason, at(why.hint, self._section)),
            )
        )
