"""What gathered is read once, all of it, in the order of time, and a page at a time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gateway.journal.values import Cursor
from gateway.sparkplug import past
from gateway.sparkplug.past import Page, pages
from statemodel.records import Recorded
from statemodel.types import Quality, SampleBatch, TagSample
from tests.gateway.journal.builders import ManualClock, opened, transition

TAGS = frozenset({"plc/told"})


def batch(n: int, clock: ManualClock) -> SampleBatch:
    at = clock.now()
    return SampleBatch(
        "plc", at, tuple(TagSample(tag, n, Quality.GOOD, None, at) for tag in ("plc/told", "plc/other"))
    )


def times(found: list[Page]) -> list[object]:
    return [
        item.recorded_at if isinstance(item, Recorded) else item.received_at
        for page in found
        for item in page.items
    ]


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_events_and_samples_come_in_the_order_of_time(
    tmp_path: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("PAGE_EVENTS_MAX", "PAGE_BATCHES_MAX"):
        monkeypatch.setattr(past, bound, page)
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        for n in range(1, 31):
            clock.move(timedelta(seconds=1))
            await journal.append([transition(n)] if n % 3 else [], [batch(n, clock)] if n % 4 else [])
        position = journal.position
        until = Cursor(position.last_seq - 2, position.last_batch - 1)
        found = [item async for item in pages(journal, Cursor(3, 2), until, TAGS)]
    assert found[-1].upto == until
    assert times(found) == sorted(times(found), key=str)
    events = [item.seq for one in found for item in one.items if isinstance(item, Recorded)]
    samples = [item.value for one in found for item in one.items if isinstance(item, TagSample)]
    assert events == list(range(4, until.seq + 1))
    assert samples == [n for n in range(1, 31) if n % 4][2:-1]


async def test_nothing_is_lost_and_it_ends_when_the_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "PAGE_EVENTS_MAX", 4)
    monkeypatch.setattr(past, "PAGE_BATCHES_MAX", 4)
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        for n in range(1, 25):
            clock.move(timedelta(seconds=1 if n % 5 else -20))
            await journal.append([transition(n)], [batch(n, clock)])
        found = [item async for item in pages(journal, Cursor(), Cursor(24, 24), TAGS)]
    items = [item for one in found for item in one.items]
    assert [item.seq for item in items if isinstance(item, Recorded)] == list(range(1, 25))
    assert [item.value for item in items if isinstance(item, TagSample)] == list(range(1, 25))


async def test_without_tags_only_events_are_read(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        await journal.append([transition(1)], [batch(1, clock)])
        found = [item async for item in pages(journal, Cursor(), Cursor(1, 1), frozenset())]
    assert [type(item) for one in found for item in one.items] == [Recorded]
    assert found[-1].upto == Cursor(1, 1)


async def test_what_the_journal_has_not_any_more_is_passed_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        found = [item async for item in pages(journal, Cursor(), Cursor(7, 9), TAGS)]
    assert [page.upto for page in found] == [Cursor(7, 9)]
