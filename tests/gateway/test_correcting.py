"""Corrections handed in: judged by the model and the record, recorded once, durable before they are told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.corrections import KeyReused, NotRecorded, WantedCorrection
from gateway.correcting import CorrectionDesk
from gateway.corrections import CorrectionBook
from gateway.errors import JournalFailed
from gateway.history import JoinedHistory
from gateway.journal import Journal
from gateway.pipeline import Pipeline
from statemodel.builtin import BUILTIN
from statemodel.corrected import CorrectionRefused
from statemodel.engine import Engine, EquipmentSpec
from statemodel.records import Recorded
from statemodel.types import Correction, Quality, SampleBatch, SourceRestored, TagSample
from tests.gateway.journal.builders import START, opened
from tests.gateway.test_pipeline import PLC
from tests.support.manual_clock import ManualClock

SPEC = EquipmentSpec(name="m-1", path="a/b/m-1", model=BUILTIN["packml"], state="plc/state")


def wanted(**changed: Any) -> WantedCorrection:
    """Seconds from the start for `from` and `to`."""
    told: dict[str, Any] = {
        "from": 10.0,
        "to": 20.0,
        "state": "Held",
        "reason": "why",
        "author": "anna",
    } | changed
    for name in ("from", "to"):
        if told[name] is not None:
            told[name] = (START + timedelta(seconds=told[name])).isoformat()
    return msgspec.convert(told, WantedCorrection)


def withdrawal(id_: str) -> WantedCorrection:
    return WantedCorrection(reason="a mistake", author="anna", withdraws=id_)


class Bench:
    """A pipeline on a real journal, with machine m-1 in Execute since second 1; it is second 100."""

    def __init__(self, journal: Journal, book: CorrectionBook, clock: ManualClock) -> None:
        self.journal, self.clock = journal, clock
        self.heard: list[Recorded] = []
        self.pipeline = Pipeline(
            engine=Engine([SPEC], at=clock.now()),
            log=journal,
            connections=[PLC],
            listeners=[],
            hearers=[book.announce, self.heard.extend],
            clock=clock,
            heartbeat=timedelta(seconds=1),
            alive={},
            came_round=lambda: None,
        )
        self.history = JoinedHistory(journal, None, book)
        self.desk = CorrectionDesk([SPEC], self.history, self.pipeline.record, clock)

    @property
    def made(self) -> list[Recorded]:
        return [recorded for recorded in self.heard if recorded.type == "correction"]


@asynccontextmanager
async def bench(directory: Path, *, started: bool = True) -> AsyncIterator[Bench]:
    clock = ManualClock(START)
    async with opened(directory, clock=clock) as journal:
        book = await CorrectionBook.open(journal, None)
        made = Bench(journal, book, clock)
        running = asyncio.create_task(made.pipeline.run())
        if started:
            await made.pipeline.offer(SourceRestored("plc", clock.now()))
            clock.advance(1)
            sample = TagSample("plc/state", 6, Quality.GOOD, None, clock.now())
            await made.pipeline.offer(SampleBatch("plc", clock.now(), (sample,)))
            async with asyncio.timeout(45):
                while len(made.heard) < 2:
                    await asyncio.sleep(0.002)
        clock.advance(99)
        try:
            yield made
        finally:
            await made.pipeline.finish([])
            await running


async def test_a_correction_is_durable_and_heard_of_before_it_is_answered(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        made = await there.desk.correct("m-1", wanted(), "4711")

        assert await there.journal.read(made.seq - 1, 1) == [made]
        assert there.made == [made]
        event = made.event
        assert isinstance(event, Correction)
        assert [(i.state, i.code, i.category) for i in event.intervals] == [("Held", 11, "unscheduled-down")]
        assert (event.author, event.key, event.path) == ("anna", "4711", "a/b/m-1")
        state = await there.history.state_at("m-1", START + timedelta(seconds=15))
        assert state is not None
        assert (state.state, state.seq) == ("Held", made.seq)
        now = await there.history.state_at("m-1", there.clock.now())
        assert now is not None
        assert now.state == "Execute"


async def test_without_an_end_it_goes_up_to_now_and_no_further(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        made = await there.desk.correct("m-1", wanted(to=None), "key")
        assert isinstance(made.event, Correction)
        assert made.event.until == there.clock.now()
        there.clock.advance(50)
        assert await there.desk.correct("m-1", wanted(to=None), "key") == made
        now = await there.history.state_at("m-1", there.clock.now())
        assert now is not None
        assert now.state == "Execute"


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"to": 101.0}, "to"),
        ({"from": 30.0}, "to"),
        ({"from": 0.5}, "from"),
        ({"from": None}, "from"),
        ({"state": None}, "state"),
        ({"state": "Hold"}, "state"),
        ({"author": "late samples"}, "author"),
        ({"withdraws": "nothing-1", "from": None, "to": None, "state": None}, "withdraws"),
        ({"withdraws": "nothing-1"}, "from"),
        (
            {"intervals": [{"state": "Idle", "from": "2026-11-21T08:00:11Z", "to": "2026-11-21T08:00:12Z"}]},
            "state",
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_not_recorded(
    tmp_path: Path, changed: dict[str, Any], place: str
) -> None:
    async with bench(tmp_path) as there:
        with pytest.raises(CorrectionRefused) as refused:
            await there.desk.correct("m-1", wanted(**changed), None)
        assert refused.value.place == place
        assert refused.value.hint
        assert not there.made


async def test_nothing_is_corrected_before_anything_is_recorded(tmp_path: Path) -> None:
    async with bench(tmp_path, started=False) as there:
        with pytest.raises(CorrectionRefused, match="nothing was recorded"):
            await there.desk.correct("m-1", wanted(), None)


async def test_a_correction_is_withdrawn_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        made = await there.desk.correct("m-1", wanted(), None)
        there.clock.advance(1)
        taken_back = await there.desk.correct("m-1", withdrawal(made.id), None)

        assert isinstance(taken_back.event, Correction)
        assert (taken_back.event.intervals, taken_back.event.withdraws) == ((), made.id)
        assert taken_back.at == made.at
        state = await there.history.state_at("m-1", START + timedelta(seconds=15))
        assert state is not None
        assert state.state == "Execute"
        with pytest.raises(CorrectionRefused, match="withdrawn already"):
            await there.desk.correct("m-1", withdrawal(made.id), None)
        with pytest.raises(CorrectionRefused, match="withdraws a correction itself"):
            await there.desk.correct("m-1", withdrawal(taken_back.id), None)


async def test_a_key_is_good_for_one_correction_also_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        first, second = await asyncio.gather(
            there.desk.correct("m-1", wanted(), "4711"), there.desk.correct("m-1", wanted(), "4711")
        )
        assert first == second
        assert there.made == [first]
        with pytest.raises(KeyReused):
            await there.desk.correct("m-1", wanted(state="Idle"), "4711")
    async with bench(tmp_path) as again:
        assert await again.desk.correct("m-1", wanted(), "4711") == first
        assert not again.made


async def test_a_journal_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.correcting.RECORD_S_MAX", 0.05)
    async with bench(tmp_path) as there:

        async def stuck(_: Correction) -> Recorded:
            await asyncio.Event().wait()
            raise AssertionError

        desk = CorrectionDesk([SPEC], there.history, stuck, there.clock)
        with pytest.raises(NotRecorded, match="has not taken it"):
            await desk.correct("m-1", wanted(), None)


async def test_what_is_sent_again_while_the_journal_still_has_it_to_take_is_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller stopped waiting, the correction is on its way all the same."""
    monkeypatch.setattr("gateway.correcting.RECORD_S_MAX", 0.05)
    async with bench(tmp_path) as there:
        room = asyncio.Event()

        async def slow(event: Correction) -> Recorded:
            async def on_its_way() -> Recorded:
                await room.wait()
                return await there.pipeline.record(event)

            return await asyncio.shield(asyncio.ensure_future(on_its_way()))

        desk = CorrectionDesk([SPEC], there.history, slow, there.clock)
        for _ in range(3):
            with pytest.raises(NotRecorded):
                await desk.correct("m-1", wanted(), "4711")
        with pytest.raises(KeyReused):
            await desk.correct("m-1", wanted(state="Idle"), "4711")
        monkeypatch.setattr("gateway.correcting.RECORD_S_MAX", 10.0)
        room.set()
        assert await desk.correct("m-1", wanted(), "4711") == there.made[0]
        assert await desk.correct("m-1", wanted(), "4711") == there.made[0]
        await there.desk.correct("m-1", wanted(), "another")  # behind all that was on its way
        assert len(there.made) == 2


async def test_a_journal_that_takes_no_more_questions_has_not_recorded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as there:

        async def busy(*_: object) -> list[Recorded]:
            raise JournalFailed("10000 calls wait for the journal")

        monkeypatch.setattr(there.history, "corrections", busy)
        with pytest.raises(NotRecorded, match="10000 calls wait"):
            await there.desk.correct("m-1", wanted(), "4711")


async def test_a_failure_after_the_caller_has_gone_is_no_failure_that_nobody_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.correcting.RECORD_S_MAX", 0.05)
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with bench(tmp_path) as there:
        failing, failed = asyncio.Event(), asyncio.Event()

        async def fails(_: Correction) -> Recorded:
            await failing.wait()
            failed.set()
            raise JournalFailed("the disk refuses")

        desk = CorrectionDesk([SPEC], there.history, fails, there.clock)
        with pytest.raises(NotRecorded, match="has not taken it"):
            await desk.correct("m-1", wanted(), None)
        failing.set()
        async with asyncio.timeout(45):
            await failed.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        assert not unheard
