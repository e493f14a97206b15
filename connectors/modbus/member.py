"""One connection's part of a line: its groups, its health, its news, its writes.

Told by the event loop what was answered and what was not; the task that runs the connection waits for `news`
and passes them on. While news waits to be passed on, the connection asks nothing more: that is how waiting in
`emit` holds up the polls, and those of this connection only. Knows no socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.modbus.client import Counts, NoAnswer, no_answer
from connectors.modbus.config import ModbusSettings
from connectors.modbus.exceptions import meaning_of
from connectors.modbus.frame import BadReply
from connectors.modbus.poll import GroupPoll
from connectors.modbus.schedule import Cycle
from connectors.modbus.turns import GroupTurn, Lane
from connectors.modbus.writing import WriteJob
from connectors.standstill import Standstill
from statemodel.types import SampleBatch, TagSample

if TYPE_CHECKING:
    from connectors.modbus.line import Line

#: A cycle that never comes again.
ONCE_S = 1e9


class Member:
    """One session of a connection on a line."""

    def __init__(
        self, settings: ModbusSettings, clock: Clock, counts: Counts, link: Link, *, once: bool = False
    ) -> None:
        """With `once` each group has one cycle, and a device that is busy is given no time."""
        self.settings = settings
        self.counts = counts
        self.link = link
        self.line: Line | None = None
        self.gone = False
        self.is_up = False
        self.proven = False
        """The unit has answered in this session, and has not been silent since."""
        self.holds = 0
        self.misses = 0
        self.late = 0
        self.seen_at: datetime | None = None
        self.writes: deque[WriteJob] = deque()
        self._clock = clock
        self._monotonic = clock.monotonic
        self._once = once
        self._groups = [group for group in settings.groups if group.tags]
        self._cycles_left = len(self._groups)
        self._timeout_s = settings.timeout.total_seconds()
        self._pause_s = settings.limits.pause.total_seconds()
        self._missed_at = float("-inf")
        self._loss: Exception | None = None
        self._news_at: datetime | None = None
        self._untold = False
        #: Nothing is being told, so more may be asked.
        self._told = True
        self._wake: asyncio.Future[None] | None = None
        self._watch = Standstill(0.0)
        limits = settings.limits.for_plan()
        self.turns = [
            GroupTurn(
                self,
                index,
                GroupPoll(
                    [tag.signal(settings.tag_id(tag)) for tag in group.tags],
                    unit=settings.unit,
                    limits=limits,
                    busy_max=1 if once else settings.busy_max,
                    refused_retry_s=settings.refused_retry.total_seconds(),
                ),
                ONCE_S if once else group.interval.total_seconds(),
                settings.pipeline,
                self._timeout_s,
            )
            for index, group in enumerate(self._groups)
        ]

    @property
    def resting(self) -> bool:
        """Whether the pause the device wants after an answer is not over."""
        return self._pause_timer is not None

    _pause_timer: asyncio.TimerHandle | None = None

    # What the task of the connection does.

    async def pass_on(self) -> bool:
        """Wait for news and tell it; False when there will be none (each group had its one cycle).

        Raises:
            ConnectionLost: the unit or the whole link is gone.
        """
        while self._told and self._loss is None and self._cycles_left:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        if not self._told:  # what was read before the end is told before it
            self._watch = Standstill(self._clock.monotonic())
            while self._untold:  # more may come in while this is told: of what was asked before
                self._untold = False
                await self._tell()
            self._told = True
            if (away_s := self._watch.woke(self._clock.monotonic(), 0.0)) and not self._once:
                raise nobody_looked(away_s)
            self.release()
            if self.line is not None and self._loss is None:
                self.line.pump()
        if self._loss is not None:
            raise self._loss
        return bool(self._cycles_left) or not self._told

    async def _tell(self) -> None:
        if not self.is_up:
            self.is_up = True
            await self.link.up()
        at = self._news_at
        assert at is not None, "news has a time"
        if self.seen_at is at:
            self.link.seen(at)
        refusals = [refusal for turn in self.turns for refusal in _taken(turn.poll.refusals)]
        for tag, reason in refusals:
            self.link.refused(tag, reason)
        samples: list[TagSample] = [sample for turn in self.turns for sample in _taken(turn.poll.samples)]
        if samples:
            await self.link.emit(SampleBatch(self.settings.name, at, tuple(samples)))

    # What the line and its exchanges do.

    def answered(self, lane: Lane, answer: bytes | int, at: datetime) -> None:
        """A question has its answer."""
        line = self.line
        assert line is not None, "asked only on a line"
        now = self._monotonic()
        if lane.probing:
            line.freed(lane)
        else:
            line.open_count -= 1
        if now > line.expected_by:
            line.look(now)
        if not self.gone and self._loss is None:
            counts = self.counts
            counts.answers += 1
            if isinstance(answer, bytes):
                self.seen_at = at
            else:
                counts.exceptions += 1
                if meaning_of(answer).from_device:  # and not a gateway before it
                    self.seen_at = at
            if self.misses or not self.proven:
                self._proved()
            if self._pause_s:
                self._rest()
            group = lane.group
            group.answered(lane, answer, at, now)
            poll = group.poll
            if self.is_up and self._told and not poll.samples and not poll.refusals:
                if self.seen_at is at:
                    self.link.seen(at)
            else:
                self._news(at)
        line.pump(now)

    def failed(self, lane: Lane, why: NoAnswer | BadReply | ConnectionLost) -> None:
        """A question has no answer."""
        line = self.line
        assert line is not None, "asked only on a line"
        line.freed(lane)
        if not self.gone and self._loss is None:
            if isinstance(why, NoAnswer):
                lane.group.again(lane)
                if self.missed(why, lane.asked_at) and line.shared:
                    lane.group.put_off(self._clock.monotonic())
            elif isinstance(why, BadReply):
                self.unfit(why)
        line.pump()

    def missed(self, why: NoAnswer, asked_at: float) -> bool:
        """The unit was silent; whether it may go on."""
        line = self.line
        assert line is not None, "asked only on a line"
        if why.damaged:
            self.counts.bad_replies += 1
        else:
            self.counts.timeouts += 1
        if not self.misses:
            self.late = 0
        if asked_at >= self._missed_at:  # questions open at the same time are silent together
            self.misses += 1
            self._missed_at = asyncio.get_running_loop().time()
        # On a line that others answer on, a unit that has not answered yet costs one question.
        misses_max = self.settings.timeouts_max if self.proven or self.misses > 1 or not line.lively else 1
        if self.misses >= misses_max:
            self.fail(self._silence())
            return False
        self.proven = False
        line.sort(self)
        return True

    def unfit(self, error: BadReply) -> None:
        """The unit answered something else than was asked: nothing of it can be trusted."""
        self.counts.bad_replies += 1
        self.fail(no_answer(error))

    def came_late(self) -> None:
        """An answer came after its question had been given up."""
        self.counts.late += 1
        self.late += 1

    def finished(self, turn: GroupTurn, cycle: Cycle) -> None:
        """A group has been read."""
        if self._once:
            self._cycles_left -= 1
            self._wake_up()
        self.link.cycle(self._groups[turn.index].name, cycle.duration_s, cycle.lateness_s, cycle.skipped)

    def fail(self, error: Exception) -> None:
        """The session is over."""
        if self._loss is None:
            self._loss = error
            self.hold()
            self._wake_up()

    def overslept(self, away_s: float) -> None:
        """Nobody has looked at the line for a while."""
        if self.is_up and not self._once:
            self.fail(nobody_looked(away_s))

    def write_answered(self, job: WriteJob, answer: bytes | int, at: datetime) -> None:
        """A write has its answer."""
        line = self.line
        assert line is not None, "asked only on a line"
        line.freed(job)
        if not self.gone and self._loss is None:
            if isinstance(answer, bytes) or meaning_of(answer).from_device:
                self.seen_at = at
                self.link.seen(at)
            self._proved()
            if self._pause_s:
                self._rest()
        line.pump()

    def write_failed(self, job: WriteJob, why: NoAnswer | BadReply | ConnectionLost) -> None:
        """A write has no answer."""
        line = self.line
        assert line is not None, "asked only on a line"
        line.freed(job)
        if not self.gone and self._loss is None:
            if isinstance(why, NoAnswer):
                self.missed(why, job.asked_at)
            elif isinstance(why, BadReply):
                self.unfit(why)
        line.pump()

    def hold(self) -> None:
        """Ask nothing until `release`."""
        self.holds += 1
        for turn in self.turns:
            turn.ready = False

    def release(self) -> None:
        """Take one `hold` back."""
        self.holds -= 1
        if not self.holds:
            for turn in self.turns:
                turn.refresh()

    def leave(self) -> None:
        """Nothing more is asked or told."""
        self.gone = True
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None

    # Inner works.

    def _proved(self) -> None:
        """The unit answers."""
        self.misses = self.late = 0
        if not self.proven:
            self.proven = True
            if self.line is not None:
                self.line.sort(self)

    def _news(self, at: datetime) -> None:
        self._news_at, self._untold = at, True
        if self._told:
            self._told = False
            self.hold()
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _rest(self) -> None:
        """Give the device the pause it wants."""
        if self._pause_timer is None:
            self.hold()
            self._pause_timer = asyncio.get_running_loop().call_later(self._pause_s, self._rested)

    def _rested(self) -> None:
        self._pause_timer = None
        self.release()
        if self.line is not None:
            self.line.pump()

    def _silence(self) -> ConnectionLost:
        """The device does not answer, or not in time; these are two things to people."""
        unit = self.settings.unit
        times = "a request" if self.misses == 1 else f"{self.misses} requests in a row"
        each = "" if self.misses == 1 else " each"
        what = f"unit {unit} did not answer {times} within {self._timeout_s:g} s{each}"
        if self.late:
            hint = "the device is slow: raise `timeout`, or ask it less often"
            return ConnectionLost(f"{what}, but later", hint=hint)
        sparse = self.line is not None and self.line.shared
        hint = "is the unit id right, and the device behind the gateway on?"
        return ConnectionLost(what, hint=hint, sparse=sparse)


def _taken(things: list[TagSample] | list[tuple[str, str]]) -> list:  # type: ignore[type-arg]
    """All there is, and the list is empty afterwards."""
    taken = list(things)
    things.clear()
    return taken


def nobody_looked(away_s: float) -> ConnectionLost:
    """What the device did meanwhile is not known, so nothing may be concluded from before and after."""
    return ConnectionLost(
        f"the gateway itself did not look for {away_s:.1f} s",
        hint="was it suspended, is the machine overloaded, or is the journal full?",
    )
