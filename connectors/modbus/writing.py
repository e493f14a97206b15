"""A write on its way: sent at most once, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.base import Write, WriteOutcome, Written
from connectors.errors import ConnectionLost
from connectors.modbus.client import Exchange, NoAnswer
from connectors.modbus.exceptions import meaning_of
from connectors.modbus.frame import BadReply, Question

if TYPE_CHECKING:
    from connectors.modbus.member import Member

#: Exceptions that leave open whether it was done: still at it, and a gateway whose device did not answer.
_UNDECIDED = {
    5: "the device has taken it and is not done yet (exception 5)",
    11: "the gateway passed it on and the device did not answer (exception 11)",
}


class WriteJob(Exchange):
    """One question that changes something. `done` gets its outcome."""

    __slots__ = ("_member", "_tag", "done", "probing")

    def __init__(self, member: Member, write: Write, question: Question, timeout_s: float) -> None:
        self._member = member
        self._tag = write.tag
        self.question = question
        self.timeout_s = timeout_s
        self.deadline = self.asked_at = 0.0
        self.sent = self.probing = False
        self.done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()

    @property
    def wanted(self) -> bool:
        """Whether its caller still waits; what nobody waits for and was not sent is never sent."""
        return not self.done.done()

    def answered(self, answer: bytes | int, at: datetime) -> None:
        """See `Exchange`."""
        member = self._member
        member.counts.answers += 1
        if isinstance(answer, bytes):
            self._end(WriteOutcome.ACCEPTED)
        else:
            member.counts.exceptions += 1
            if answer in _UNDECIDED:
                self._end(WriteOutcome.UNKNOWN, _UNDECIDED[answer])
            else:
                self._end(
                    WriteOutcome.REFUSED, f"the device says: {meaning_of(answer).name} (exception {answer})"
                )
        member.write_answered(self, answer, at)

    def failed(self, why: NoAnswer | BadReply | ConnectionLost) -> None:
        """See `Exchange`."""
        if not self.sent:
            self.drop("the device does not answer" if isinstance(why, NoAnswer) else str(why))
        elif isinstance(why, NoAnswer):
            self._end(
                WriteOutcome.UNKNOWN,
                f"sent, and not answered within {self.timeout_s:g} s: it may have been carried out",
            )
        else:
            self._end(WriteOutcome.UNKNOWN, f"sent, and then: {why}; it may have been carried out")
        self._member.write_failed(self, why)

    def drop(self, reason: str) -> None:
        """It is not sent any more."""
        self._end(WriteOutcome.REFUSED, f"never sent: {reason}")

    def came_late(self) -> None:
        """See `Exchange`."""
        self._member.came_late()

    def saw_garbage(self, count: int) -> None:
        """See `Exchange`."""
        self._member.counts.garbage_bytes += count

    def _end(self, outcome: WriteOutcome, reason: str = "") -> None:
        if not self.done.done():
            self.done.set_result(Written(self._tag, outcome, reason))
