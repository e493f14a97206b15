"""One poll group as the line sees it: when it is due, what it asks next, in as many lanes as may be open.

Joins `schedule` (when) and `poll` (what). A cycle has one lane for each request that may be open at once;
they take the blocks of the group between them. Does no I/O; time is handed in.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from connectors.errors import ConnectionLost
from connectors.modbus.client import Exchange, NoAnswer
from connectors.modbus.frame import BadReply, Question
from connectors.modbus.poll import Asking, GroupPoll
from connectors.modbus.schedule import Turn

if TYPE_CHECKING:
    from connectors.modbus.member import Member


class Lane(Exchange):
    """One of the requests a group may have open at once."""

    __slots__ = ("_told", "asking", "group", "probing")

    def __init__(self, group: GroupTurn, timeout_s: float) -> None:
        self.group = group
        self._told = group.member.answered
        self.timeout_s = timeout_s
        self.deadline = self.asked_at = 0.0
        self.sent = False
        self.probing = False
        """Asked of a unit that has not proved that it answers."""
        self.asking: Asking | None = None

    def answered(self, answer: bytes | int, at: datetime) -> None:
        """See `Exchange`."""
        self._told(self, answer, at)

    def failed(self, why: NoAnswer | BadReply | ConnectionLost) -> None:
        """See `Exchange`."""
        self.group.member.failed(self, why)

    def came_late(self) -> None:
        """See `Exchange`."""
        self.group.member.came_late()

    def saw_garbage(self, count: int) -> None:
        """See `Exchange`."""
        self.group.member.counts.garbage_bytes += count


class GroupTurn(Turn):
    """The turns of one poll group, and its cycle while one runs."""

    __slots__ = ("_lanes", "_running", "_waiting", "index", "member", "poll")

    def __init__(
        self, member: Member, index: int, poll: GroupPoll, interval_s: float, lanes: int, timeout_s: float
    ) -> None:
        super().__init__(interval_s, 0.0)
        self.member = member
        self.index = index
        self.poll = poll
        self._lanes = [Lane(self, timeout_s) for _ in range(lanes)]
        self._running = 0
        self._waiting: list[Lane] = []

    def take(self, now: float) -> Lane | None:
        """The lane that asks now. None when the group had nothing to ask, and its cycle is over already."""
        if not self._running:
            self.begin(now)
            self._begin_lanes(now)
            if not self._running:
                self.member.finished(self, self.finish(now))
                return None
        waiting = self._waiting
        lane = waiting.pop(0)
        if not waiting:
            self.ready = False
        return lane

    def answered(self, lane: Lane, answer: bytes | int, at: datetime, now: float) -> None:
        """A lane has its answer, and goes on."""
        assert lane.asking is not None, "an answer comes after a question"
        try:
            lane.question = lane.asking.send((answer, at))
        except StopIteration:
            lane.asking = None
            self._running -= 1
            if not self._running:
                self.member.finished(self, self.finish(now))
        else:
            self._waiting.append(lane)
            if not self.member.holds:
                self.ready = True
            return
        self.refresh()

    def again(self, lane: Lane) -> None:
        """A lane has no answer, and asks the same again when the group's turn comes."""
        self._waiting.insert(0, lane)
        self.refresh()

    def refresh(self) -> None:
        """Say whether there is anything to ask."""
        self.ready = not self.member.holds and (not self._running or bool(self._waiting))

    def _begin_lanes(self, now: float) -> None:
        for lane, asking in zip(self._lanes, self.poll.lanes(now, len(self._lanes)), strict=True):
            question: Question | None = next(asking, None)
            if question is not None:
                lane.asking, lane.question = asking, question
                self._waiting.append(lane)
        self._running = len(self._waiting)
