"""Late samples correct what was told, from a real journal, on a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.corrections import CorrectionBook
from gateway.history import JoinedHistory
from gateway.journal import Journal
from gateway.late import ANCHOR_S, LATE_S, RETRY_S, RETURN_S, LateSamples, judgeable
from gateway.pipeline import Pipeline
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.records import Recorded
from statemodel.types import (
    TAKEN_UP,
    CorrectedState,
    Correction,
    Gap,
    Quality,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
)
from tests.gateway.journal.builders import START, opened
from tests.support.manual_clock import ManualClock

SPEC = EquipmentSpec(name="m-1", path="a/b/m-1", model=BUILTIN["packml"], state="plc/state")
IDLE, EXECUTE, HELD = 4, 6, 11


def settings(time: Literal["source", "received"] = "source", **tag: object) -> ConnectionSettings:
    tags = (TagSettings(name="state", **tag),)
    group = GroupSettings(name="all", interval=timedelta(seconds=1), tags=tags)
    return ConnectionSettings(name="plc", protocol="toy", endpoint="toy://", time=time, groups=(group,))


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


class Bench:
    """A machine that is in Execute since second 1, with snapshots taken; it is second 100."""

    def __init__(self, journal: Journal, clock: ManualClock, mode: Literal["correct", "keep"]) -> None:
        self.clock = clock
        self.book = CorrectionBook(journal, None)
        self.history = JoinedHistory(journal, None, self.book)
        self.heard: list[Recorded] = []
        engine = Engine([SPEC], at=clock.now())
        self.late = LateSamples(
            [SPEC],
            [settings()],
            engine=engine,
            journal=journal,
            history=self.history,
            clock=clock,
            mode=mode,
        )
        self.pipeline = Pipeline(
            engine=engine,
            log=journal,
            connections=[settings()],
            listeners=[],
            hearers=[self.book.announce, self.late.heard, self.heard.extend],
            committed=self.late.committed,
            late=self.late.late,
            clock=clock,
            heartbeat=timedelta(seconds=1),
            alive={},
            came_round=lambda: None,
        )
        self.late.record = self.pipeline.record

    async def offer(self, *events: SampleBatch | SourceLost | SourceRestored | Gap) -> None:
        """Hand in, and wait until all of it is durable."""
        commits = self.pipeline.counts.commits
        for event in events:
            await self.pipeline.offer(event)
        await self.until(lambda: self.pipeline.backlog == 0 and self.pipeline.counts.commits > commits)

    def queue(self, *told: tuple[float, int]) -> SampleBatch:
        """Samples with their source times, received now."""
        now = self.clock.now()
        samples = tuple(TagSample("plc/state", value, Quality.GOOD, second(at), now) for at, value in told)
        return SampleBatch("plc", now, samples, source_time=True)

    async def until(self, true: object) -> None:
        assert callable(true)
        async with asyncio.timeout(45):
            while not true():
                await asyncio.sleep(0.002)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps, so that whoever sleeps wakes in between."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            for _ in range(5):
                await asyncio.sleep(0.002)
        await self.until(self._has_judged)

    def _has_judged(self) -> bool:
        """Whether nothing that is due is still to be judged, or just being judged."""
        now_s = self.clock.monotonic()
        return not self.late._judging and all(job.due_s > now_s for job in self.late._jobs.values())

    @property
    def corrections(self) -> list[Correction]:
        return [one.event for one in self.heard if isinstance(one.event, Correction)]

    async def shown(
        self, begin: float, end: float, known: float | None = None
    ) -> list[tuple[str, float, float]]:
        known_at = None if known is None else second(known)
        found = await self.history.timeline("m-1", second(begin), second(end), 100, known_at)
        joined: list[tuple[str, float, float]] = []
        for one in found:
            assert one.to is not None
            if one.to == one.from_:
                continue
            since, until = ((at - START).total_seconds() for at in (one.from_, one.to))
            if joined and joined[-1][0] == one.state:
                since = joined.pop()[1]
            joined.append((one.state, since, until))
        return joined


@asynccontextmanager
async def bench(directory: Path, mode: Literal["correct", "keep"] = "correct") -> AsyncIterator[Bench]:
    clock = ManualClock(START)
    async with opened(directory, clock=clock) as journal:
        made = Bench(journal, clock, mode)
        running = asyncio.create_task(made.pipeline.run())
        working = asyncio.create_task(made.late.run())
        await made.offer(SourceRestored("plc", clock.now()))
        clock.advance(1)
        await made.offer(made.queue((1, EXECUTE)))
        clock.advance(ANCHOR_S)
        await made.offer(made.queue((60, EXECUTE)))
        clock.advance(100 - 1 - ANCHOR_S)
        try:
            yield made
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await made.pipeline.finish([])
            await running


async def outage(there: Bench, *told: tuple[float, int], reason: str = TAKEN_UP, gap: bool = False) -> None:
    """From second 100 to 110 nobody hears the machine; then its queue is told."""
    there.clock.advance(2)
    await there.offer(SourceLost("plc", second(100), "timeout"))
    there.clock.advance(8)
    await there.offer(SourceRestored("plc", there.clock.now(), reason))
    there.clock.advance(1)
    if gap:
        await there.offer(Gap("plc", second(100), second(110), "the queue overflowed", "plc/state"))
    await there.offer(there.queue(*told))


async def test_an_outage_that_was_bridged_is_told_as_it_was(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await outage(there, (103, HELD), (105, EXECUTE))
        await there.pass_time(RETURN_S + 2)

        (made,) = there.corrections
        assert (made.author, made.at, made.until) == ("late samples", second(100), second(103))
        assert [one.state for one in made.intervals] == ["Execute"]
        assert made.cause is not None
        assert [one.source_at for one in made.cause.inputs] == [second(103), second(105)]
        assert await there.shown(90, 120) == [
            ("Execute", 90, 103),
            ("Held", 103, 105),
            ("Execute", 105, 120),
        ]
        assert await there.shown(90, 120, known=109) == [("Execute", 90, 100), ("Unknown", 100, 109)]


async def test_what_was_on_its_way_when_the_link_was_cut_is_put_in_its_place(tmp_path: Path) -> None:
    """The change of second 99.5 comes at 111: it can be told as of then only, and so all that follows it."""
    async with bench(tmp_path) as there:
        await outage(there, (99.5, HELD), (103, EXECUTE))
        before = await there.shown(90, 111.5)
        await there.pass_time(RETURN_S + 2)

        assert before == [("Execute", 90, 100), ("Unknown", 100, 111), ("Execute", 111, 111.5)]
        assert await there.shown(90, 120) == [
            ("Execute", 90, 99.5),
            ("Held", 99.5, 103),
            ("Execute", 103, 120),
        ]


async def test_nothing_that_is_not_known_is_made_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await outage(there, (103, HELD), reason="")
        await there.pass_time(RETURN_S + 2)
        assert not there.corrections
        assert await there.shown(90, 120) == [("Execute", 90, 100), ("Unknown", 100, 103), ("Held", 103, 120)]


async def test_an_outage_with_a_gap_is_not_bridged(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await outage(there, (103, HELD), gap=True)
        await there.pass_time(RETURN_S + 2)
        assert not there.corrections
        assert await there.shown(90, 112) == [("Execute", 90, 100), ("Unknown", 100, 103), ("Held", 103, 112)]


async def test_a_machine_that_does_not_show_its_state_again_is_waited_for_and_then_left(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as there:
        await outage(there, (103, HELD))
        await there.offer(SourceLost("plc", there.clock.now(), "timeout"))
        await there.pass_time(RETURN_S + 2 * RETRY_S)
        assert not there.corrections, "while it is lost nothing is judged"
        await there.offer(SourceRestored("plc", there.clock.now(), TAKEN_UP))
        await there.offer(there.queue((150, EXECUTE)))
        await there.pass_time(RETURN_S + 2 * RETRY_S)
        assert await there.shown(90, 160) == [("Execute", 90, 103), ("Held", 103, 150), ("Execute", 150, 160)]


async def test_a_sample_older_than_the_state_is_put_in_its_place(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await there.offer(there.queue((99, IDLE)))
        there.clock.advance(1)
        await there.offer(there.queue((98, HELD), (98.5, IDLE)))
        await there.pass_time(LATE_S + 2)

        (made,) = there.corrections
        assert made.reason == "samples came late"
        assert await there.shown(90, 110) == [("Execute", 90, 98), ("Held", 98, 98.5), ("Idle", 98.5, 110)]


async def test_what_a_person_corrected_is_left_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await outage(there, (103, HELD))
        held = CorrectedState("Held", 11, None, second(100), second(103))
        by_hand = Correction("m-1", "a/b/m-1", "packml", held.from_, held.to, (held,), "seen", "anna")
        await there.pipeline.record(by_hand)
        await there.pass_time(RETURN_S + 2)
        assert [one.author for one in there.corrections] == ["anna"]


async def test_what_a_person_corrects_while_it_is_judged_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as there:
        held = CorrectedState("Held", 11, None, second(100), second(103))
        by_hand = Correction("m-1", "a/b/m-1", "packml", held.from_, held.to, (held,), "seen", "anna")
        in_thread = asyncio.to_thread

        async def meanwhile(*args: Any) -> Any:
            await there.pipeline.record(by_hand)
            return await in_thread(*args)

        monkeypatch.setattr("gateway.late.asyncio.to_thread", meanwhile)
        await outage(there, (103, HELD))
        await there.pass_time(RETURN_S + 2)
        assert [one.author for one in there.corrections] == ["anna"]


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async with bench(tmp_path, mode="keep") as there:
        await outage(there, (103, HELD))
        await there.pass_time(RETURN_S + 2)
        assert not there.corrections


@pytest.mark.parametrize(
    ("connection", "can"),
    [
        (settings(), True),
        (settings("received"), False),
        (settings(record=False), False),
        (settings(swing=1.0), False),
        (settings(report_min=timedelta(seconds=1)), False),
    ],
)
def test_only_what_is_recorded_as_it_came_is_judged_again(connection: ConnectionSettings, can: bool) -> None:
    assert bool(judgeable([SPEC], [connection])) == can
