"""Questions put again: answered from memory while nothing has changed, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import JournalFailed
from gateway.journal import Journal
from gateway.journal.pages import Pages
from statemodel.records import Recorded, tell
from tests.gateway.journal.builders import START, batch, eventually, fill, opened, transition
from tests.gateway.journal.damaging import spoil

EVENTS = [
    tell(transition(n), gateway="line-1", stream="s", seq=n, recorded_at=START + timedelta(seconds=n))
    for n in range(1, 30)
]


def test_an_answer_counts_for_its_question_while_matters_stand_as_they_did() -> None:
    pages = Pages()
    pages.keep("a", 1, EVENTS[:2])
    assert pages.find("a", 1) == EVENTS[:2]
    assert pages.find("b", 1) is None
    assert pages.find("a", 2) is None
    assert pages.find("a", 1) is None  # what does not count any more is not kept


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 2), st.integers(0, 12)), max_size=60)
)
def test_no_more_is_kept_than_there_is_room_for(steps: list[tuple[bool, int, int, int]]) -> None:
    pages = Pages(events_max=20, page_events_max=10)
    newest: dict[int, tuple[int, Sequence[Recorded]]] = {}
    for keeps, question, stand, size in steps:
        if keeps:
            pages.keep(question, stand, EVENTS[:size])
            if size <= 10:
                newest[question] = (stand, EVENTS[:size])
        else:
            found = pages.find(question, stand)
            assert found is None or (stand, found) == newest[question]
        kept = [len(page) for _, page in pages._pages.values()]
        assert sum(kept) + len(kept) == pages._weight <= 20


def test_the_answer_used_least_lately_goes_first() -> None:
    pages = Pages(events_max=6)
    for question in "abc":
        pages.keep(question, 1, EVENTS[:1])
    assert pages.find("a", 1) is not None
    pages.keep("d", 1, EVENTS[:1])
    assert [pages.find(question, 1) is not None for question in "abcd"] == [True, False, True, True]


class Asked:
    """A journal, and how often its thread was asked."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal = journal
        self.count = 0
        ask = journal._store.transitions

        def counted(*args: Any) -> list[Recorded]:
            self.count += 1
            return ask(*args)

        monkeypatch.setattr(journal._store, "transitions", counted)

    async def page(self, name: str = "filler-1", from_: datetime | None = None) -> list[int]:
        found = await self.journal.transitions(name, after=0, from_=from_, to=None, limit=5)
        return [item.seq for item in found]


async def test_a_question_put_again_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1), transition(2)], [])
        asked = Asked(journal, monkeypatch)
        assert [await asked.page() for _ in range(3)] == [[1, 2]] * 3
        assert asked.count == 1
        await journal.append([transition(1, "capper-1")], [])  # of another: the answer is still right
        assert await asked.page() == [1, 2]
        assert asked.count == 1
        assert await asked.page("capper-1") == [3]
        assert await asked.page(from_=START + timedelta(seconds=2)) == [2]
        await journal.append([transition(3)], [])
        assert await asked.page() == [1, 2, 4]
    with pytest.raises(JournalFailed):
        await asked.page()


async def test_what_was_freed_is_not_told_from_memory(tmp_path: Path) -> None:
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        await journal.append([transition(1)], [])
        before = await journal.transitions("filler-1", after=0, from_=None, to=None, limit=5)
        assert [item.seq for item in before] == [1]
        n = 1
        while journal.position.first_seq == 1:
            n += 1
            await journal.append([transition(n, "other")], [batch(n, 400)])
            await journal.read(journal.position.last_seq, 1)
            if n > 400:
                break
        await eventually(lambda: journal.position.first_seq > 1)
        assert await journal.transitions("filler-1", after=0, from_=None, to=None, limit=5) == []


def _spoil_oldest(directory: Path) -> None:
    spoil(min(directory.glob("journal-*.db")), seq=2)


async def test_what_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 2)
    _spoil_oldest(tmp_path)
    async with opened(tmp_path) as journal:
        asked = Asked(journal, monkeypatch)
        assert [await asked.page() for _ in range(2)] == [[1, 3, 4, 5]] * 2
        assert asked.count == 2


async def test_what_surrounds_an_instant_is_told_only_where_all_of_it_is_held(tmp_path: Path) -> None:
    until = START + timedelta(days=1)
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        await journal.append([transition(1), transition(2), transition(3)], [])
        before, following = await journal.around("filler-1", START + timedelta(seconds=1), until, 5)
        assert before is not None
        assert following is not None
        assert (before.seq, [item.seq for item in following]) == (1, [2, 3])
        before, following = await journal.around("filler-1", START, until, 2)
        assert before is None
        assert following is not None
        assert [item.seq for item in following] == [1, 2]
        n = 3
        while journal.position.first_seq == 1 and n < 400:
            n += 1
            await journal.append([transition(n, "other")], [batch(n, 400)])
        await eventually(lambda: journal.position.first_seq > 1)
        assert await journal.around("filler-1", START, until, 5) == (None, None)
        before, following = await journal.around("filler-1", START + timedelta(seconds=5), until, 5)
        assert before is not None
        assert following is not None
        assert (before.seq, list(following)) == (3, [])
