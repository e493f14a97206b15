"""All poll groups of one connection as one conversation: the next question, whoever asks it. Pure.

Joins `schedule` (whose turn) and `poll` (what to ask). Time is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.modbus.frame import Question
from connectors.modbus.poll import Answer, Asking, GroupPoll
from connectors.modbus.schedule import Cycle, Schedule


class Turns:
    """Takes questions from groups in the order of the schedule, one open at a time.

    `finished` is called with the index of a group and the figures of its cycle when that is complete.
    """

    def __init__(
        self,
        polls: Sequence[GroupPoll],
        intervals_s: Sequence[float],
        now: float,
        finished: Callable[[int, Cycle], None],
    ) -> None:
        self._polls = polls
        self._schedule = Schedule(intervals_s, now)
        self._finished = finished
        self._open: list[tuple[Asking, Question] | None] = [None] * len(polls)
        self._turn = 0

    def next(self, now: float) -> Question | None:
        """What to ask now, or None when no group is due.

        It is the same again until it has its answer, unless another group has come to be in more of a hurry.
        """
        while (turn := self._schedule.next(now)) is not None:
            self._turn = turn
            if (opened := self._open[turn]) is not None:
                return opened[1]
            self._schedule.began(turn, now)
            asking = self._polls[turn].cycle(now)
            question = next(asking, None)
            if question is not None:
                self._open[turn] = asking, question
                return question
            self._finished(turn, self._schedule.finished(turn, now))
        return None

    def answered(self, answer: Answer, now: float) -> GroupPoll:
        """The latest question has its answer; returns the group that may have something to tell."""
        turn = self._turn
        opened = self._open[turn]
        assert opened is not None, "an answer comes after a question"
        try:
            self._open[turn] = opened[0], opened[0].send(answer)
        except StopIteration:
            self._open[turn] = None
            self._finished(turn, self._schedule.finished(turn, now))
        return self._polls[turn]

    def wait_s(self, now: float) -> float:
        """Seconds until a group is due; infinite without groups."""
        return self._schedule.wait_s(now)
