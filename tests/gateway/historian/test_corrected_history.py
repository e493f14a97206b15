"""What was true when, and what we knew when, whatever lies in the journal and what in the database."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.ports import HistoryUnavailable, Interval
from gateway.corrections import CorrectionBook
from gateway.historian import Historian
from gateway.history import JoinedHistory
from gateway.journal import Journal
from statemodel.corrected import in_force, overlay, told
from statemodel.records import Recorded
from statemodel.types import CorrectedState, Correction, Recordable
from tests.gateway.historian.databases import PATIENCE_S, Database, build, drained, running
from tests.gateway.journal.builders import START, ManualClock, batch, kept_house, opened, transition

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


def correction(*pieces: tuple[float, float, str], withdraws: Recorded | None = None) -> Correction:
    intervals = tuple(CorrectedState(state, 7, "standby", second(a), second(b)) for a, b, state in pieces)
    event = withdraws.event if withdraws is not None else None
    bounds = (
        (event.at, event.until) if isinstance(event, Correction) else (intervals[0].from_, intervals[-1].to)
    )
    return Correction(
        "filler-1",
        "area/line/filler-1",
        "packml",
        *bounds,
        intervals,
        "the cable",
        "anna",
        withdraws=None if withdraws is None else withdraws.id,
    )


class Told:
    """A journal, the corrections in it, and all that was ever recorded in it."""

    def __init__(self, journal: Journal, clock: ManualClock) -> None:
        self.journal, self.clock = journal, clock
        self.book = CorrectionBook(journal, None)
        self.done: list[Recorded] = []

    async def record(self, *events: Recordable, at: float | None = None) -> Recorded:
        if at is not None:
            self.clock.advance((second(at) - self.clock.now()).total_seconds())
        recorded = await self.journal.append(list(events), [batch(1, 20)])
        self.book.announce(recorded)
        self.done += recorded
        return recorded[-1]


@asynccontextmanager
async def story(directory: Path, **settings: Any) -> AsyncIterator[Told]:
    clock = ManualClock()
    async with opened(directory, clock=clock, **settings) as journal:
        yield Told(journal, clock)


def shown(intervals: Sequence[Interval]) -> list[tuple[str, float, float, bool]]:
    return [
        (i.state, (i.from_ - START).total_seconds(), (i.to - START).total_seconds(), i.corrected)
        for i in intervals
        if i.to is not None
    ]


async def test_a_correction_is_laid_over_what_was_told_from_when_it_was_recorded(tmp_path: Path) -> None:
    async with story(tmp_path) as tale:
        await tale.record(transition(1, at=second(1)), at=1)
        await tale.record(transition(2, at=second(21)), at=21)
        made = await tale.record(correction((5, 15, "Held")), at=40)
        taken_back = await tale.record(correction(withdraws=made), at=50)
        history = JoinedHistory(tale.journal, None, tale.book)
        asked = ("filler-1", second(0), second(30), 10)

        before = [("Execute", 1.0, 21.0, False), ("Idle", 21.0, 30.0, False)]
        assert shown(await history.timeline(*asked)) == before
        assert shown(await history.timeline(*asked, second(39))) == before
        assert shown(await history.timeline(*asked, second(45))) == [
            ("Execute", 1.0, 5.0, False),
            ("Held", 5.0, 15.0, True),
            ("Execute", 15.0, 21.0, False),
            ("Idle", 21.0, 30.0, False),
        ]
        assert [r.seq for r in await history.corrections("filler-1", second(0), second(30))] == [
            made.seq,
            taken_back.seq,
        ]


async def test_a_state_at_an_instant_says_who_tells_it_and_since_when(tmp_path: Path) -> None:
    async with story(tmp_path) as tale:
        first = await tale.record(transition(1, at=second(1)), at=1)
        await tale.record(transition(2, at=second(21)), at=21)
        made = await tale.record(correction((5, 15, "Held"), (18, 25, "Unknown")), at=40)
        over = await tale.record(correction((10, 12, "Idle")), at=50)
        history = JoinedHistory(tale.journal, None, tale.book)

        async def state(at: float, known: float | None = None) -> tuple[str, float, int, object, object]:
            found = await history.state_at("filler-1", second(at), None if known is None else second(known))
            assert found is not None
            return (
                found.state,
                (found.since - START).total_seconds(),
                found.seq,
                found.corrected is True,
                found.reason,
            )

        assert await state(2) == ("Execute", 1.0, first.seq, False, None)
        assert await state(7) == ("Held", 5.0, made.seq, True, None)
        assert await state(11) == ("Idle", 10.0, over.seq, True, None)
        assert await state(14) == ("Held", 12.0, made.seq, True, None)
        assert await state(14, known=45) == ("Held", 5.0, made.seq, True, None)
        assert await state(16) == ("Execute", 15.0, first.seq, False, None)
        assert await state(22) == ("Unknown", 18.0, made.seq, True, "the cable")
        assert await state(22, known=39) == ("Idle", 21.0, first.seq + 1, False, None)
        assert await state(30) == ("Idle", 25.0, first.seq + 1, False, None)


async def test_what_a_device_told_late_was_not_known_before(tmp_path: Path) -> None:
    async with story(tmp_path) as tale:
        await tale.record(transition(1, at=second(1)), at=1)
        await tale.record(transition(2, at=second(10)), at=20)
        await tale.record(transition(3, at=second(12)), transition(4, at=second(12)), at=21)
        history = JoinedHistory(tale.journal, None, tale.book)
        asked = ("filler-1", second(0), second(30), 10)

        assert shown(await history.timeline(*asked, second(15))) == [("Execute", 1.0, 15.0, False)]
        assert shown(await history.timeline(*asked, second(20.5))) == [
            ("Execute", 1.0, 10.0, False),
            ("Idle", 10.0, 20.5, False),
        ]
        then = await history.state_at("filler-1", second(14), second(20.5))
        now = await history.state_at("filler-1", second(14))
        assert then is not None
        assert now is not None
        assert (then.sequence, now.sequence) == (2, 4)
        assert await history.state_at("filler-1", second(14), second(0.5)) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_of_a_corrected_timeline_join_into_the_whole(tmp_path: Path, limit: int) -> None:
    rng = random.Random(limit)
    async with story(tmp_path) as tale:
        for n in range(1, 40):
            await tale.record(transition(n, at=second(n)), at=n)
        for n in range(12):
            begin = rng.randint(0, 35)
            await tale.record(correction((begin, begin + rng.randint(1, 12), "Held")), at=60 + n)
        history = JoinedHistory(tale.journal, None, tale.book)
        whole = shown(await history.timeline("filler-1", second(0), second(45), 1000))
        pages: list[tuple[str, float, float, bool]] = []
        at = second(0)
        while at < second(45):
            page = await history.timeline("filler-1", at, second(45), limit)
            pages += shown(page[:limit])
            at = page[min(limit, len(page)) - 1].to or second(45)
        assert pages == whole
        found = told([r for r in tale.done if r.type == "transition"], second(0), second(45))
        laid = overlay(found, in_force(r for r in tale.done if r.type == "correction"))
        assert [(one.state, one.seq) for one in laid] == [
            (i.state, i.seq) for i in await history.timeline("filler-1", second(0), second(45), 1000)
        ]


async def test_a_long_correction_is_read_through_once_in_pages_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.history._TIMELINE_EVENTS", 16)
    asked: list[int] = []
    read: list[int] = []
    async with story(tmp_path) as tale:
        for n in range(1, 301):
            await tale.record(transition(n, at=second(n)), at=n)
        await tale.record(correction((5, 290, "Held")), at=400)
        real = tale.journal.transitions

        async def watched(equipment: str, **asked_for: Any) -> Sequence[Recorded]:
            found = await real(equipment, **asked_for)
            asked.append(asked_for["limit"])
            read.append(len(found))
            return found

        monkeypatch.setattr(tale.journal, "transitions", watched)
        history = JoinedHistory(tale.journal, None, tale.book)
        page = shown(await history.timeline("filler-1", second(0), second(400), 5))
        assert page[:5] == [
            *((("Execute", "Idle")[n % 2 == 0], float(n), n + 1.0, False) for n in range(1, 5)),
            ("Held", 5.0, 290.0, True),
        ]
        assert max(asked) <= 17, "one more is what was read at that instant"
        assert sum(read) <= 300 + len(read)


@pytest.mark.parametrize("limit", [1, 2, 5, 40])
async def test_states_of_one_instant_are_told_once_across_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("gateway.history._TIMELINE_EVENTS", 2)
    async with story(tmp_path) as tale:
        for n in range(1, 60):
            await tale.record(transition(n, at=second(n // 7)), at=n)
        await tale.record(correction((2, 4, "Held"), (5, 6.5, "Idle")), at=100)
        history = JoinedHistory(tale.journal, None, tale.book)
        found = told([r for r in tale.done if r.type == "transition"], second(-1), second(45))
        laid = overlay(found, in_force(r for r in tale.done if r.type == "correction"))
        page = await history.timeline("filler-1", second(-1), second(45), limit)
        assert [(i.state, i.from_, i.to, i.seq) for i in page] == [
            (one.state, one.begin, one.end, one.seq) for one in laid[:limit]
        ]


async def test_after_a_restart_all_corrections_are_found_again(tmp_path: Path) -> None:
    async with story(tmp_path) as tale:
        await tale.record(transition(1, at=second(1)), at=1)
        made = await tale.record(correction((5, 15, "Held")), at=40)
    async with opened(tmp_path) as journal:
        book = await CorrectionBook.open(journal, None)
        assert await book.between("filler-1", second(0), second(30)) == [made]
        assert not await book.between("oven-1", second(0), second(30))


async def test_where_they_lie_is_kept_so_that_a_start_need_not_read_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.corrections._LOOKED_THROUGH_MAX", 5)
    async with story(tmp_path) as tale:
        keeping = asyncio.create_task(tale.book.run())
        await tale.record(transition(1, at=second(1)), at=1)
        made = await tale.record(correction((5, 15, "Held")), at=40)
        for n in range(2, 30):
            await asyncio.sleep(0)
            await tale.record(transition(n, at=second(40 + n)), at=40 + n)
        async with asyncio.timeout(PATIENCE_S):
            while await tale.journal.kept("corrections") is None:
                await asyncio.sleep(0.005)
        keeping.cancel()
    async with opened(tmp_path) as journal:
        book = await CorrectionBook.open(journal, None)
        assert await book.between("filler-1", second(0), second(30)) == [made]


async def test_after_a_restart_it_is_known_that_some_were_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that memory has no place for are in the database: what it cannot be asked for is not left out."""
    monkeypatch.setattr("gateway.corrections.REMEMBERED_MAX", 3)
    monkeypatch.setattr("gateway.corrections._LOOKED_THROUGH_MAX", 1)
    async with story(tmp_path) as tale:
        await tale.record(transition(1), at=1)
        for n in range(10, 60, 10):
            await tale.record(correction((n, n + 5, "Held")), at=n + 6)
        keeping = asyncio.create_task(tale.book.run())
        while await tale.journal.kept("corrections") is None:
            await asyncio.sleep(0.001)
        keeping.cancel()
        for book in (tale.book, await CorrectionBook.open(tale.journal, None)):
            book._historian = build(tale.journal, NOWHERE)
            with pytest.raises(HistoryUnavailable):
                await book.between("filler-1", second(0), second(100))
            assert len(await book.between("filler-1", second(40), second(100))) == 2


async def free(tale: Told, historian: Historian) -> None:
    """Hand everything to the database and free all but the newest part of the journal."""
    for n in itertools.count(1000):
        await tale.record(transition(n, "busy", at=second(n)), at=n)
        await drained(historian, tale.journal)
        if tale.journal.position.first_seq > 1:
            break
        if tale.journal.stats().segments > 2:
            await kept_house(tale.journal, tale.clock, lambda: tale.journal.position.first_seq > 1)


async def test_what_the_journal_has_freed_is_in_the_database(database: Database, tmp_path: Path) -> None:
    async with story(tmp_path, keep=timedelta(0), segment_bytes=60_000) as tale:
        await tale.record(transition(1, at=second(1)), at=1)
        made = await tale.record(correction((5, 15, "Held")), at=40)
        async with running(tale.journal, database.dsn) as historian:
            await free(tale, historian)
            await tale.record(correction((7, 8, "Idle")))
            book = await CorrectionBook.open(tale.journal, historian)
            history = JoinedHistory(tale.journal, historian, book)
            assert made.seq < tale.journal.position.first_seq
            assert shown(await history.timeline("filler-1", second(0), second(30), 10)) == [
                ("Execute", 1.0, 5.0, False),
                ("Held", 5.0, 7.0, True),
                ("Idle", 7.0, 8.0, True),
                ("Held", 8.0, 15.0, True),
                ("Execute", 15.0, 30.0, False),
            ]
            known = await history.state_at("filler-1", second(9), second(39))
            assert known is not None
            assert known.state == "Execute"

        away = build(tale.journal, NOWHERE)
        history = JoinedHistory(tale.journal, away, await CorrectionBook.open(tale.journal, away))
        with pytest.raises(HistoryUnavailable):
            await history.timeline("filler-1", second(0), second(30), 10)
        now = await history.state_at("busy", second(100_000))
        assert now is not None, "what only the journal needs is answered without the database"
