"""Questions given up on a line without transaction ids, whose answers may still come. Pure.

On such a line an answer is known only by its unit, function and length, so a late one could pass for the
answer to the next question of the same shape: a right value under the wrong tag. What can be relied on is
the order: a unit answers one after the other what it was asked. So

- whatever looks like the answer to something owed settles that, and all that was owed before it;
- what looks like nothing owed is the answer to the open question, and settles everything;
- a unit is asked only what cannot be mistaken; where that is not so, a probe goes before it: a read that
  changes nothing and whose answer looks like nothing owed.

An answer counts as owed for `OWED_S` and no longer: a device that lost its power owes nothing any more, and
one that answers in a single shape could otherwise never be read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.modbus.frame import READ_FUNCTIONS, Question, ask, read_question

OWED_S = 60.0
_OWED_MAX = 256
_DIAGNOSTICS = 8
_OF_REGISTERS = (3, 4)


@dataclass(frozen=True, slots=True)
class _Debt:
    question: Question
    until: float

    def looks_like(self, asked: Question, answer: bytes | int) -> bool:
        """Whether what came as an answer to `asked` could be the answer to this."""
        if self.question.function != asked.function:
            return False
        same = (self.question.expected, self.question.answer_bytes) == (asked.expected, asked.answer_bytes)
        return isinstance(answer, int) or same


class Debts:
    """What the units of one line owe."""

    def __init__(self) -> None:
        self._owed: dict[int, deque[_Debt]] = {}
        self._tries: dict[int, int] = {}

    def gave_up(self, question: Question, now: float) -> None:
        """No answer came in time; it may yet."""
        owed = self._owed.setdefault(question.unit, deque(maxlen=_OWED_MAX))
        owed.append(_Debt(question, now + OWED_S))

    def owes(self, unit: int) -> bool:
        """Whether an answer of this unit may still come."""
        return unit in self._owed

    def certain(self, asked: Question, answer: bytes | int) -> bool:
        """Whether an answer can only be that to the open question. What it proves is settled."""
        owed = self._owed.get(asked.unit)
        if owed is None:
            return True
        for settled, debt in enumerate(owed, 1):
            if debt.looks_like(asked, answer):
                for _ in range(settled):
                    owed.popleft()
                return False
        self._forget(asked.unit)
        return True

    def probe_before(self, question: Question, now: float) -> Question | None:
        """What to ask first, so that the answer to the question cannot be mistaken; None when it cannot be.

        An exception looks the same whatever was asked of a function, so a question is certain only when its
        function is not owed at all. For a probe an exception is as good an answer as any.
        """
        owed = self._owed.get(question.unit)
        if owed is None:
            return None
        while owed and owed[0].until <= now:
            owed.popleft()
        if not owed:
            self._forget(question.unit)
            return None
        if all(debt.question.function != question.function for debt in owed):
            return None
        # Kinds take turns: a device may refuse one, or be silent to it.
        tries = self._tries[question.unit] = self._tries.get(question.unit, -1) + 1
        kinds = list(_probes(question, [debt.question for debt in owed], tries))
        return kinds[tries % len(kinds)]

    def _forget(self, unit: int) -> None:
        self._owed.pop(unit, None)
        self._tries.pop(unit, None)


def _probes(question: Question, owed: list[Question], number: int) -> Iterable[Question]:
    """What can be asked whose answer looks like nothing owed. At least one."""
    if question.reads and (part := _part_of(question, owed)) is not None:
        yield part
    # Diagnostics, "return query data": the device repeats the number.
    echo = bytes((_DIAGNOSTICS, 0, 0)) + (0xA500 + number & 0xFFFF).to_bytes(2, "big")
    yield ask(question.unit, echo, echo, len(echo))
    free = READ_FUNCTIONS - {debt.function for debt in owed}
    if free:
        yield read_question(question.unit, max(free), 0, 1)


def _part_of(question: Question, owed: list[Question]) -> Question | None:
    """The same read of fewer addresses."""
    start, count = int.from_bytes(question.pdu[1:3], "big"), int.from_bytes(question.pdu[3:5], "big")
    taken = {debt.answer_bytes for debt in owed if debt.function == question.function}
    step = 1 if question.function in _OF_REGISTERS else 8
    for fewer in range(count - step, 0, -step):
        part = read_question(question.unit, question.function, start, fewer)
        if part.answer_bytes not in taken:
            return part
    return None
