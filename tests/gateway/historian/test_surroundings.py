"""What is recorded around a transition, wherever it lies: the journal, the database, or nowhere any more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from gateway import history as history_module
from gateway.history import JoinedHistory
from gateway.journal import Journal
from statemodel.records import Recorded
from statemodel.types import Cause, Recordable, Rejection, Transition
from tests.gateway.historian.databases import Database, build, drained, running
from tests.gateway.journal.builders import START, batch, opened, transition

_NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def refusal(n: float, equipment: str) -> Rejection:
    at = START + timedelta(seconds=n)
    return Rejection(
        equipment, "area/line/x", "packml", "Idle", "Held", at, "no such move", Cause("code", ())
    )


def seqs(events: Sequence[Recorded | None]) -> list[int | None]:
    return [None if event is None else event.seq for event in events]


class Story:
    """Two equipment that take turns, and are refused something between their moves."""

    def __init__(self) -> None:
        self.told: list[Recorded] = []
        self._count = dict.fromkeys(("a", "b"), 0)
        self._at = dict.fromkeys(("a", "b"), START)

    async def go_on(self, journal: Journal) -> None:
        step = len(self.told) + 1
        events: list[Recordable] = []
        for name in ("a", "b"):
            n = self._count[name] = self._count[name] + 1
            at = START + timedelta(seconds=step)
            made = transition(n, name, at=at)
            duration_s = (at - self._at[name]).total_seconds()
            events += [msgspec.structs.replace(made, duration_s=duration_s), refusal(step + 0.5, name)]
            self._at[name] = at
        self.told += await journal.append(events, [batch(step, 400)])

    def around(self, recorded: Recorded) -> tuple[int | None, int | None, list[int]]:
        mine = [r for r in self.told if r.equipment == recorded.equipment]
        moves = [r.seq for r in mine if isinstance(r.event, Transition)]
        place = moves.index(recorded.seq)
        before = moves[place - 1] if place else None
        after = moves[place + 1] if place + 1 < len(moves) else None
        low, high = before if before is not None else recorded.seq - 1, after or len(self.told) + 1
        return before, after, [r.seq for r in mine if r.type == "rejection" and low < r.seq < high]


@pytest.mark.parametrize("scan", [5000, 3], ids=["by reading", "by asking"])
async def test_the_answer_does_not_depend_on_where_it_lies(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan: int
) -> None:
    monkeypatch.setattr(history_module, "SCAN_EVENTS_MAX", scan)
    story = Story()
    async with opened(tmp_path, keep=timedelta(0)) as journal, running(journal, database.dsn) as historian:
        for _ in itertools.count():
            await story.go_on(journal)
            await drained(historian, journal)
            position = journal.position
            if position.first_seq > 9 and position.last_seq > position.first_seq + 9:
                break
        history = JoinedHistory(journal, historian)
        for recorded in story.told:
            assert await history.event(recorded.seq) == recorded
            if isinstance(recorded.event, Transition):
                found = await history.surroundings(recorded)
                told = (
                    None if found.previous is None else found.previous.seq,
                    None if found.next is None else found.next.seq,
                    seqs(found.rejections),
                )
                assert told == story.around(recorded), recorded.seq
                assert found.incomplete is None
                at = await history.transition_at(recorded.equipment, recorded.at)
                assert at == recorded


async def test_refused_moves_the_database_has_yet_to_get_are_told(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "SCAN_EVENTS_MAX", 2)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        told = [*await journal.append([transition(1, "a"), refusal(2, "a"), refusal(2, "b")])]
        await drained(historian, journal)
        blocker = await database.connect()
        try:
            await blocker.execute("BEGIN; LOCK TABLE andon.sink_cursor IN EXCLUSIVE MODE")
            told += await journal.append([refusal(3, "a"), refusal(3, "b")])
            found = await JoinedHistory(journal, historian).surroundings(told[0])
            assert (seqs(found.rejections), found.incomplete) == ([2, 4], None)
        finally:
            await blocker.close()


async def test_moves_at_one_instant_are_told_apart_by_their_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        moves = [
            msgspec.structs.replace(transition(n, at=START), duration_s=0.0 if n > 1 else 5.0)
            for n in range(1, 5)
        ]
        told = await journal.append(moves)
        history = JoinedHistory(journal, None)
        for before, recorded, after in zip([None, *told], told, [*told[1:], None], strict=False):
            found = await history.surroundings(recorded)
            assert (found.previous, found.next) == (before, after)


async def test_states_that_lasted_no_time_are_told_so_that_pages_are_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(n, at=START + timedelta(seconds=n // 3)) for n in range(1, 10)])
        history, end = JoinedHistory(journal, None), START + timedelta(seconds=9)
        whole = await history.timeline("filler-1", START - timedelta(seconds=1), end, 100)
        assert len(whole) == 9
        for limit in range(1, 9):
            page = await history.timeline("filler-1", START - timedelta(seconds=1), end, limit)
            assert list(page) == list(whole)[:limit]


async def test_with_the_database_away_the_present_state_is_still_explained(
    database: Database, tmp_path: Path
) -> None:
    story = Story()
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        async with running(journal, database.dsn) as historian:
            while journal.position.first_seq < 9:
                await story.go_on(journal)
                await drained(historian, journal)
        history = JoinedHistory(journal, build(journal, _NOWHERE))
        newest = await history.transition_at("a", START + timedelta(days=1))
        assert newest is not None
        found = await history.surroundings(newest)
        assert seqs([found.previous, found.next])[1] is None
        oldest_held = next(
            r for r in story.told if r.seq >= journal.position.first_seq and r.equipment == "a"
        )
        cut = await history.surroundings(oldest_held)
        assert cut.incomplete is not None
        assert "127.0.0.1:1" in cut.incomplete
        assert cut.next is not None


async def test_what_is_freed_everywhere_is_said_to_be_missing(tmp_path: Path) -> None:
    story = Story()
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        while journal.position.first_seq < 9:
            await story.go_on(journal)
        for _ in range(3):
            await story.go_on(journal)
        history = JoinedHistory(journal, None)
        first = next(r for r in story.told if r.seq >= journal.position.first_seq and r.equipment == "a")
        found = await history.surroundings(first)
        assert found.previous is not None, "carried from segment to segment"
        assert found.incomplete == "moves refused around it are no longer held"
        freed = [r for r in story.told if r.equipment == "a" and r.type == "transition"][1]
        found = await history.surroundings(freed)
        assert found.previous is None
        assert found.incomplete is not None
        assert found.incomplete.startswith("what came before it is no longer held")
        last = [r for r in story.told if r.type == "transition" and r.equipment == "a"][-1]
        assert (await history.surroundings(last)).incomplete is None


async def test_a_long_search_is_bounded_and_says_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "SCAN_EVENTS_MAX", 20)
    monkeypatch.setattr(history_module, "REFUSALS_MAX", 4)
    async with opened(tmp_path) as journal:
        told = await journal.append([transition(1, "a"), *(refusal(2, "b") for _ in range(30))])
        history = JoinedHistory(journal, None)
        found = await history.surroundings(told[0])
        assert found.incomplete == "refused moves were looked for only up to event 20"
        told = await journal.append([transition(1, "c"), *(refusal(3, "c") for _ in range(9))])
        found = await history.surroundings(told[0])
        assert (len(found.rejections), found.incomplete) == (4, "only the first 4 refused moves are told")
