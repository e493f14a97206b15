"""Any order of appending, turning over, closing and reading agrees with a plain list."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.journal.tail import Tail
from tests.gateway.journal.builders import ManualClock, batch, opened, transition

append = st.tuples(st.just("append"), st.integers(0, 30), st.integers(0, 3))
read = st.tuples(st.just("read"), st.integers(0, 120), st.integers(1, 60))
turn = st.tuples(st.just("turn"), st.just(0), st.just(0))
reopen = st.tuples(st.just("reopen"), st.just(0), st.just(0))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(append, append, read, turn, reopen), max_size=25))
def test_a_journal_is_a_list_that_survives(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory), steps))


async def play(directory: Path, steps: list[tuple[str, int, int]]) -> None:
    clock = ManualClock()
    events: list[Any] = []
    batches: list[Any] = []

    async def check(journal: Any, after: int, limit: int) -> None:
        assert await journal.read(after, limit) == events[after : after + limit]
        assert await journal.read_batches(after, limit) == list(enumerate(batches, 1))[after : after + limit]

    rest = list(steps)
    while True:
        async with opened(directory, clock=clock, keep=timedelta(days=999)) as journal:
            await check(journal, 0, 10**6)
            while rest and rest[0][0] != "reopen":
                kind, a, b = rest.pop(0)
                if kind == "append":
                    new = [batch(len(batches) + i, 20) for i in range(b)]
                    recorded = await journal.append([transition(len(events) + i) for i in range(a)], new)
                    events += recorded
                    batches += new
                    assert [r.seq for r in recorded] == list(range(len(events) - a + 1, len(events) + 1))
                elif kind == "turn":
                    clock.move(timedelta(hours=2))
                    await asyncio.sleep(0)
                else:
                    await check(journal, a, b)
            await check(journal, 0, 10**6)
        if not rest:
            return
        rest.pop(0)


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=20),
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(1, 20),
)
def test_the_tail_holds_the_newest_and_says_when_it_does_not(
    rounds: list[list[int]], weight_max: int, after: int, limit: int
) -> None:
    tail: Tail[int] = Tail(weight_max)
    weights: list[int] = []
    for added in rounds:
        first = len(weights) + 1
        weights += added
        tail.extend(first, list(range(first, len(weights) + 1)), added)
    found = tail.after(after, limit)
    expected = [(n, n) for n in range(1, len(weights) + 1)][after : after + limit]
    if found is None:
        assert sum(weights[after:]) > weight_max
    else:
        assert list(found) == expected
