"""One Modbus device: a session at a time, all its poll groups on one connection. The file that awaits.

What to ask and what an answer is worth is said by `poll`, whose turn it is by `schedule`, what comes over
the wire by `client`; this puts them together and talks to the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.modbus.client import Client, Counts, NoAnswer, connect
from connectors.modbus.config import ModbusSettings
from connectors.modbus.exceptions import meaning_of
from connectors.modbus.frame import Question
from connectors.modbus.plan import ReadRequest, plan_reads
from connectors.modbus.poll import Answer, Asking, GroupPoll
from connectors.modbus.schedule import Cycle
from connectors.modbus.turns import Turns
from connectors.standstill import Standstill
from statemodel.types import SampleBatch, TagSample

#: Longest sleep between two looks at the schedule, in seconds.
_REST_MAX_S = 3600.0
#: Event loops keep time in milliseconds and some round down: half of one more, and nobody wakes too early
#: only to lie down again many times over.
_TIMER_ROUNDING_S = 0.0005
#: A rest shorter than this is not worth watching over the connection: the next request will tell.
_UNWATCHED_REST_MAX_S = 1.0


class ModbusConnector:
    """Reads one Modbus TCP device. `counts` tells what happened on the wire, over all sessions."""

    def __init__(self, settings: ModbusSettings, clock: Clock) -> None:
        self.settings = settings
        self.counts = Counts()
        self._clock = clock

    def figures(self) -> dict[str, float]:
        """What happened on the wire, by the names of `Counts`. See `connectors.selfreport.Counts`."""
        return {name: float(value) for name, value in asdict(self.counts).items()}

    def plan(self) -> dict[str, tuple[ReadRequest, ...]]:
        """The requests of each group's cycle, as first tried."""
        limits = self.settings.limits.for_plan()
        return {
            group.name: plan_reads(
                (tag.signal(self.settings.tag_id(tag)) for tag in group.tags),
                limits,
            )
            for group in self.settings.groups
        }

    async def run(self, link: Link) -> None:
        """Poll until the link fails. See `connectors.base.Connector`."""
        session = _Session(self.settings, self._clock, self.counts, busy_max=self.settings.busy_max)
        try:
            await session.open()
            await session.poll(link)
        except ConnectionLost as lost:
            lost.last_seen_at = session.seen_at
            raise
        finally:
            await session.close()

    async def read_once(self) -> Sequence[TagSample]:
        """Every tag once, in the order of the configuration. See `connectors.base.Connector`."""
        session = _Session(self.settings, self._clock, self.counts, busy_max=1)
        try:
            await session.open()
            samples = {sample.tag: sample for sample in await session.read_all()}
        except ConnectionLost as lost:
            lost.last_seen_at = session.seen_at
            raise
        finally:
            await session.close()
        return [samples[self.settings.tag_id(tag)] for tag in self.settings.tags()]


class _Session:
    """One connection's life."""

    def __init__(self, settings: ModbusSettings, clock: Clock, counts: Counts, *, busy_max: int) -> None:
        self._settings = settings
        self._clock = clock
        self._counts = counts
        self._client: Client | None = None
        self._groups = [group for group in settings.groups if group.tags]
        self._polls = [
            GroupPoll(
                [tag.signal(settings.tag_id(tag)) for tag in group.tags],
                unit=settings.unit,
                limits=settings.limits.for_plan(),
                busy_max=busy_max,
                refused_retry_s=settings.refused_retry.total_seconds(),
            )
            for group in self._groups
        ]
        self._pause_s = settings.limits.pause.total_seconds()
        self._asked_before = False
        self.seen_at: datetime | None = None
        """Last proof of life."""

    async def open(self) -> None:
        host, port = self._settings.host_and_port()
        self._client = await connect(
            host,
            port,
            connect_timeout_s=self._settings.connect_timeout.total_seconds(),
            timeout_s=self._settings.timeout.total_seconds(),
            now=self._clock.now,
            counts=self._counts,
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def poll(self, link: Link) -> None:
        """Poll all groups for ever, and tell the link."""
        clock, name = self._clock, self._settings.name
        names = [group.name for group in self._groups]
        is_up = False
        news: tuple[GroupPoll, datetime] | None = None
        watch, timeout_s = Standstill(clock.monotonic()), self._settings.timeout.total_seconds()
        away_s = allowed_s = 0.0

        def finished(index: int, cycle: Cycle) -> None:
            link.cycle(names[index], cycle.duration_s, cycle.lateness_s, cycle.skipped)

        def answered(answer: Answer) -> Question | None:
            """As long as there is nothing to await for, the next question follows at once."""
            nonlocal news, away_s
            now = clock.monotonic()
            away_s = max(away_s, watch.woke(now, timeout_s))
            poll = turns.answered(answer, now)
            if away_s:
                return None
            if is_up and not poll.samples and not poll.refusals:
                if self.seen_at is answer[1]:  # the device itself answered, not a gateway before it
                    link.seen(answer[1])
                return turns.next(now)
            news = poll, answer[1]
            return None

        intervals_s = [group.interval.total_seconds() for group in self._groups]
        turns = Turns(self._polls, intervals_s, clock.monotonic(), finished)
        while True:
            now = clock.monotonic()
            away_s = max(away_s, watch.woke(now, allowed_s))
            if away_s and is_up:
                raise _nobody_looked(away_s)
            allowed_s = away_s = 0.0
            question = turns.next(now)
            if question is None:
                allowed_s = turns.wait_s(now)
                await self._rest(allowed_s)
                continue
            allowed_s = timeout_s * self._settings.timeouts_max
            await self._converse(question, answered)
            if away_s:
                continue
            if news is None:
                continue
            (poll, at), news = news, None
            if not is_up:
                is_up = True
                await link.up()
            if self.seen_at is at:
                link.seen(at)
            for tag, reason in poll.refusals:
                link.refused(tag, reason)
            poll.refusals.clear()
            if poll.samples:
                batch = SampleBatch(name, at, tuple(poll.samples))
                poll.samples.clear()
                await link.emit(batch)

    async def read_all(self) -> list[TagSample]:
        """One cycle of every group, one after the other."""
        samples: list[TagSample] = []
        for poll in self._polls:
            asking = poll.cycle(self._clock.monotonic())
            question = next(asking, None)
            if question is not None:
                await self._converse(question, partial(_step, asking))
            samples.extend(poll.samples)
        return samples

    async def _converse(self, question: Question, answered: Callable[[Answer], Question | None]) -> None:
        """Ask until `answered` has no more questions.

        A question without an answer is asked again, but not more often than `timeouts_max` in a row.
        """
        assert self._client is not None, "open() comes first"
        client, pause_s = self._client, self._pause_s
        open_question: Question | None = question

        def came(answer: bytes | int) -> Question | None:
            nonlocal open_question
            at = client.received_at
            if isinstance(answer, bytes) or meaning_of(answer).from_device:
                self.seen_at = at
            open_question = answered((answer, at))
            return None if pause_s else open_question

        while open_question is not None:
            if pause_s and self._asked_before:
                await self._clock.sleep(pause_s)
            self._asked_before = True
            try:
                await client.converse(open_question, came)
            except NoAnswer:
                if client.misses >= self._settings.timeouts_max:
                    raise self._silence() from None

    def _silence(self) -> ConnectionLost:
        """The device does not answer, or not in time; these are two things to people."""
        assert self._client is not None, "open() comes first"
        timeout_s, unit = self._settings.timeout.total_seconds(), self._settings.unit
        misses = self._client.misses
        what = f"unit {unit} did not answer {misses} requests in a row within {timeout_s:g} s each"
        if self._client.late:
            hint = "the device is slow: raise `timeout`, or ask it less often"
            return ConnectionLost(f"{what}, but later", hint=hint)
        return ConnectionLost(what, hint="is the unit id right, and the device behind the gateway on?")

    async def _rest(self, seconds: float) -> None:
        """Sleep, but not through the end of the connection."""
        assert self._client is not None, "open() comes first"
        seconds += _TIMER_ROUNDING_S
        if seconds <= _UNWATCHED_REST_MAX_S:
            await self._clock.sleep(seconds)
            return
        sleeper = asyncio.ensure_future(self._clock.sleep(min(seconds, _REST_MAX_S)))
        try:
            await asyncio.wait((sleeper, self._client.closed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
        if self._client.closed.done():
            raise self._client.loss()


def _nobody_looked(away_s: float) -> ConnectionLost:
    """What the device did meanwhile is not known, so nothing may be concluded from before and after."""
    return ConnectionLost(
        f"the gateway itself did not look for {away_s:.1f} s",
        hint="was it suspended, is the machine overloaded, or is the journal full?",
    )


def _step(asking: Asking, answer: Answer) -> Question | None:
    """Hand an answer in; the next question, or None when the cycle is complete."""
    try:
        return asking.send(answer)
    except StopIteration:
        return None
