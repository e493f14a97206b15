"""One history of two: the answers do not depend on what lies in the journal and what in the database."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from api.ports import HistoryUnavailable, Interval, TooOld
from gateway.history import JoinedHistory
from gateway.journal import Journal
from statemodel.records import Recorded
from tests.gateway.historian.databases import Database, build, drained, running
from tests.gateway.journal.builders import START, batch, opened, transition

LONG_AGO, SOON = START - timedelta(days=1), START + timedelta(days=1)


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


@asynccontextmanager
async def split_history(database: Database, directory: Path) -> AsyncIterator[tuple[Journal, list[Recorded]]]:
    """A journal that has handed its older segments to the database and freed them; and all that was told."""
    told: list[Recorded] = []
    async with opened(directory, keep=timedelta(0)) as journal:
        async with running(journal, database.dsn) as historian:
            for n in itertools.count(1):
                name = "quiet" if n == 2 else "busy"
                told += await journal.append([transition(n, name)], [batch(n, 400)])
                await drained(historian, journal)
                if (
                    journal.position.first_seq > 4
                    and journal.position.last_seq > journal.position.first_seq + 3
                ):
                    break
        told += await journal.append([transition(n + 1, "busy"), transition(n + 2, "busy")])
        yield journal, told


def model_timeline(
    told: list[Recorded], name: str, from_: datetime, to: datetime
) -> list[tuple[str, datetime, datetime]]:
    mine = [r for r in told if r.equipment == name]
    found = []
    for i, recorded in enumerate(mine):
        start, end = max(recorded.at, from_), min(mine[i + 1].at if i + 1 < len(mine) else to, to)
        if start < end:
            found.append((recorded.event.to_state, start, end))  # type: ignore[union-attr]
    return found


def plain(intervals: list[Interval]) -> list[tuple[str, datetime, datetime | None]]:
    return [(i.state, i.from_, i.to) for i in intervals]


async def test_every_question_is_answered_as_if_there_were_one_store(
    database: Database, tmp_path: Path
) -> None:
    async with (
        split_history(database, tmp_path) as (journal, told),
        running(journal, database.dsn) as historian,
    ):
        await drained(historian, journal)
        history = JoinedHistory(journal, historian)
        first, last = journal.position.first_seq, told[-1].seq
        assert history.position().first_seq == 1
        busy = [r for r in told if r.equipment == "busy"]
        for after in (0, 1, 3, first - 2, first - 1, first, last - 1, last):
            assert await history.events_after(after, 3) == told[after : after + 3]
            expected = [r for r in busy if r.seq > after]
            for limit in (1, 4, 1000):
                found = await history.transitions("busy", after=after, from_=None, to=None, limit=limit)
                assert found == expected[:limit]
        for a, b in itertools.combinations(
            [0, 1, 2.5, 4, first - 0.5, first, first + 0.5, last, last + 9], 2
        ):
            from_, to = second(a), second(b)
            inside = [r for r in busy if from_ <= r.at < to]
            assert await history.transitions("busy", after=0, from_=from_, to=to, limit=100) == inside
            for name in ("busy", "quiet", "nobody"):
                timeline = list(await history.timeline(name, from_, to, 100))
                assert plain(timeline) == model_timeline(told, name, from_, to)
                assert plain(list(await history.timeline(name, from_, to, 2))) == plain(timeline)[:2]
                assert sum(i.duration_s or 0 for i in timeline) == pytest.approx(
                    sum(
                        (end - start).total_seconds()
                        for _, start, end in model_timeline(told, name, from_, to)
                    )
                )
            state = await history.state_at("busy", from_)
            before = [r for r in busy if r.at <= from_]
            assert (state.seq if state else 0) == (before[-1].seq if before else 0)


async def test_events_are_read_in_order_across_the_seam(database: Database, tmp_path: Path) -> None:
    async with (
        split_history(database, tmp_path) as (journal, told),
        running(journal, database.dsn) as historian,
    ):
        await drained(historian, journal)
        history = JoinedHistory(journal, historian)
        for page in (1, 3, 1000):
            read: list[Recorded] = []
            while events := await history.events_after(len(read), page):
                assert len(events) <= page
                read += events
            assert read == told


async def test_what_the_database_has_yet_to_get_is_told_without_a_hole(
    database: Database, tmp_path: Path
) -> None:
    async with (
        split_history(database, tmp_path) as (journal, told),
        running(journal, database.dsn) as historian,
    ):
        await drained(historian, journal)
        history = JoinedHistory(journal, historian)
        blocker = await database.connect()
        try:
            await blocker.execute("BEGIN; LOCK TABLE andon.sink_cursor IN EXCLUSIVE MODE")
            last = told[-1].seq
            told += await journal.append([transition(n, "busy") for n in range(last + 1, last + 4)])
            busy = [r for r in told if r.equipment == "busy"]
            assert historian.drained.seq == last
            timeline = list(await history.timeline("busy", LONG_AGO, SOON, 1000))
            assert plain(timeline) == model_timeline(told, "busy", LONG_AGO, SOON)
            assert await history.transitions("busy", after=0, from_=None, to=None, limit=1000) == busy
        finally:
            await blocker.close()


async def test_with_the_database_away_the_journal_answers_what_it_can(
    database: Database, tmp_path: Path
) -> None:
    async with split_history(database, tmp_path) as (journal, told):
        history = JoinedHistory(journal, build(journal, "postgresql://nobody@127.0.0.1:1/nothing"))
        first, last = journal.position.first_seq, told[-1].seq
        assert await history.events_after(first - 1, 1000) == told[first - 1 :]
        now = await history.state_at("busy", SOON)
        assert now is not None
        assert now.seq == last
        quiet = await history.state_at("quiet", SOON)
        assert quiet is not None
        assert quiet.seq == 2, "carried from segment to segment"
        assert plain(list(await history.timeline("quiet", second(3), second(9), 9))) == [
            (told[1].event.to_state, second(3), second(9))  # type: ignore[union-attr]
        ]
        timeline = list(await history.timeline("busy", second(first + 1), second(last + 5), 100))
        assert plain(timeline) == model_timeline(told, "busy", second(first + 1), second(last + 5))
        assert [
            r.seq for r in await history.transitions("busy", after=first, from_=None, to=None, limit=99)
        ] == list(range(first + 1, last + 1))
        for question in (
            history.state_at("busy", second(1)),
            history.timeline("busy", second(1), second(5), 9),
            history.transitions("busy", after=0, from_=None, to=None, limit=9),
            history.events_after(0, 9),
        ):
            with pytest.raises(HistoryUnavailable):
                await question


async def test_a_young_gateway_needs_no_database_to_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        history = JoinedHistory(journal, build(journal, "postgresql://nobody@127.0.0.1:1/nothing"))
        assert await history.events_after(0, 9) == []
        assert await history.state_at("filler-1", START) is None
        await journal.append([transition(1)])
        assert await history.state_at("filler-1", START) is None
        assert plain(list(await history.timeline("filler-1", LONG_AGO, second(3), 9))) == [
            ("Execute", second(1), second(3))
        ]
        assert await history.timeline("filler-1", second(3), second(3), 9) == []


async def test_without_a_database_what_was_freed_is_too_old(tmp_path: Path) -> None:
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        while journal.position.first_seq == 1:
            n = journal.position.last_seq + 1
            await journal.append([transition(n)], [batch(n, 400)])
        history = JoinedHistory(journal, None)
        with pytest.raises(TooOld) as too_old:
            await history.events_after(0, 9)
        assert too_old.value.position == history.position()
        assert history.position().first_seq == journal.position.first_seq
        assert await history.events_after(journal.position.first_seq - 1, 9) == []


async def test_an_earlier_journal_of_the_gateway_is_part_of_its_history(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path / "old") as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(n) for n in (1, 2)])
        await drained(historian, journal)
    async with opened(tmp_path / "new") as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(5)])
        await drained(historian, journal)
        history = JoinedHistory(journal, historian)
        before = await history.state_at("filler-1", second(3))
        assert before is not None
        assert before.since == second(2)
        timeline = await history.timeline("filler-1", LONG_AGO, second(7), 9)
        assert [(i.from_, i.to) for i in timeline] == [
            (second(1), second(2)),
            (second(2), second(5)),
            (second(5), second(7)),
        ]
        assert [r.seq for r in await history.events_after(0, 9)] == [1]


async def test_rows_freed_in_the_database_are_too_old(database: Database, tmp_path: Path) -> None:
    async with split_history(database, tmp_path) as (journal, _):
        await database.do("DELETE FROM andon.transition WHERE seq < 3")
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
            history = JoinedHistory(journal, historian)
            with pytest.raises(TooOld) as too_old:
                await history.events_after(0, 9)
            assert too_old.value.position.first_seq == 3
            assert (await history.events_after(2, 1))[0].seq == 3
