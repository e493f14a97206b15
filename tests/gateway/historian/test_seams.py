"""What goes from the journal to the database while a question is on its way is in the answer all the same."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.historian import Historian
from gateway.history import JoinedHistory
from gateway.journal import Journal
from gateway.tag_history import JoinedTagHistory
from statemodel.records import Recorded
from tests.gateway.historian.databases import Database, drained, running
from tests.gateway.journal.builders import START, ManualClock, batch, kept_house, opened, transition

LONG_AGO, SOON = START - timedelta(days=1), START + timedelta(days=1)


class Moved:
    """A journal of which the oldest went to the database and was freed; `go` hands over and frees the rest
    but for the newest segment, once, after whatever question it stands behind."""

    def __init__(self, journal: Journal, historian: Historian, dsn: str, clock: ManualClock) -> None:
        self.journal, self.historian, self._dsn, self._clock = journal, historian, dsn, clock
        self.told: list[Recorded] = []
        self.went = 0

    async def go(self) -> None:
        if self.went:
            return
        self.went = 1
        async with running(self.journal, self._dsn) as other:
            await drained(other, self.journal)
            self.historian._drain.held = other._drain.held
        first = self.journal.position.first_seq
        await kept_house(self.journal, self._clock, lambda: self.journal.position.first_seq > first + 10)

    def after(self, asked: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(asked)
        async def answer(*args: Any, **named: Any) -> Any:
            found = await asked(*args, **named)
            await self.go()
            return found

        return answer

    def before(self, asked: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(asked)
        async def answer(*args: Any, **named: Any) -> Any:
            await self.go()
            return await asked(*args, **named)

        return answer


@pytest.fixture(autouse=True)
def read_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is in memory of what the journal holds, as it is after days."""
    monkeypatch.setattr("gateway.journal.journal._TAIL_EVENTS", 2)
    monkeypatch.setattr("gateway.journal.journal._TAIL_SAMPLES", 800)


@asynccontextmanager
async def moved(database: Database, directory: Path) -> AsyncIterator[Moved]:
    clock = ManualClock()
    async with opened(directory, clock=clock, keep=timedelta(0)) as journal:
        told: list[Recorded] = []
        async with running(journal, database.dsn) as historian:
            for n in itertools.count(1):
                told += await journal.append([transition(n)], [batch(n, 400)])
                if journal.stats().segments > 2:
                    break
            await drained(historian, journal)
        await kept_house(journal, clock, lambda: journal.position.first_seq > 1)
        segments = journal.stats().segments
        while journal.stats().segments < segments + 3:
            n += 1
            told += await journal.append([transition(n)], [batch(n, 400)])
        made = Moved(journal, historian, database.dsn, clock)
        made.told = told
        yield made
        historian._readers.drop()


async def test_transitions_freed_while_they_are_asked_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(database, tmp_path) as there:
        monkeypatch.setattr(
            there.historian, "transitions_by_seq", there.after(there.historian.transitions_by_seq)
        )
        history = JoinedHistory(there.journal, there.historian)
        found = await history.transitions("filler-1", after=0, from_=None, to=None, limit=10_000)
        assert there.went
        assert [one.seq for one in found] == [one.seq for one in there.told]


async def test_a_timeline_freed_while_it_is_asked_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(database, tmp_path) as there:
        monkeypatch.setattr(there.historian, "moves_by_time", there.after(there.historian.moves_by_time))
        history = JoinedHistory(there.journal, there.historian)
        found = await history.timeline("filler-1", LONG_AGO, SOON, 10_000)
        assert there.went
        assert [one.seq for one in found] == [one.seq for one in there.told]


async def test_events_freed_before_the_journal_gives_them(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(database, tmp_path) as there:
        first = there.journal.position.first_seq
        monkeypatch.setattr(there.journal, "read", there.before(there.journal.read))
        found = await JoinedHistory(there.journal, there.historian).events_after(first - 1, 5)
        assert there.went
        assert found == there.told[first - 1 : first + 4]


async def test_samples_freed_while_they_are_asked_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moved(database, tmp_path) as there:
        monkeypatch.setattr(there.historian, "tag_samples", there.after(there.historian.tag_samples))
        history = JoinedTagHistory(there.journal, there.historian)
        found = await history.samples("plc/tag-0", LONG_AGO, SOON, limit=10_000)
        assert there.went
        assert [one.at for one in found.items] == [one.at for one in there.told]
        assert found.incomplete is None
