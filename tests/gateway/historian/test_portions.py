"""Portion after portion, every number up to the end is given once or said to be missing, and none beyond."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.historian.portions import read_portion
from gateway.journal import Cursor
from gateway.journal.values import JournalPosition
from statemodel.records import Recorded, tell
from statemodel.types import SampleBatch
from tests.gateway.journal.builders import START, batch, transition

STREAM = "11111111-1111-4111-8111-111111111111"
EVENT = tell(transition(1), gateway="line-1", stream=STREAM, seq=0, recorded_at=START)
#: The end of a hole, and that of the journal.
UP_TO, LAST = 30, 40


class Damaged:
    """A journal of which only some numbers can be read."""

    def __init__(self, events: Sequence[int], batches: Sequence[int]) -> None:
        self.position = JournalPosition(STREAM, 1, LAST, 1, LAST)
        self._events, self._batches = events, batches

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        return [replace(EVENT, seq=n) for n in self._events if n > after][:limit]

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        return [(n, batch(n, 2)) for n in self._batches if n > after][: min(limit, (samples_max + 1) // 2)]


numbers = st.sets(st.integers(1, LAST)).map(sorted)


@settings(deadline=None)
@given(numbers, numbers, st.integers(1, 30), st.booleans())
async def test_every_number_is_given_or_missing(
    events: list[int], batches: list[int], rows_max: int, whole: bool
) -> None:
    journal, end = Damaged(events, batches), LAST if whole else UP_TO
    cursor = Cursor()
    given_: dict[str, list[int]] = {"event": [], "batch": []}
    up_to = None if whole else Cursor(UP_TO, UP_TO)
    missing: dict[str, list[int]] = {"event": [], "batch": []}
    while (portion := await read_portion(journal, cursor, rows_max=rows_max, up_to=up_to)) is not None:
        assert portion.before == cursor
        given_["event"] += [event.seq for event in portion.events]
        given_["batch"] += [number for number, _ in portion.batches]
        assert len(portion.events) <= rows_max
        for stretch in portion.missing:
            missing[stretch.numbering] += range(stretch.first, stretch.last + 1)
        cursor = portion.after
    assert cursor == Cursor(end, end)
    for kind, readable in (("event", events), ("batch", batches)):
        assert given_[kind] == [n for n in readable if n <= end]
        assert missing[kind] == [n for n in range(1, end + 1) if n not in readable]
