"""Whatever happens to the process, the journal and the sink: the books close, and say what is really so."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.accounts.keeper import Accounts
from gateway.journal import Journal
from statemodel.types import SampleBatch
from tests.gateway.accounts.sinks import SINK, Kept, SmallSink
from tests.gateway.journal.builders import ManualClock, batch, kept_house, opened

append = st.tuples(st.just("append"), st.integers(1, 4), st.integers(1, 6))
full = st.tuples(st.just("full"), st.integers(1, 4), st.integers(1, 6))
shed = st.tuples(st.just("shed"), st.integers(1, 4), st.integers(1, 6))
take = st.tuples(st.just("take"), st.integers(1, 5), st.sampled_from([0, 0, 3]))
lost = st.tuples(st.just("answer lost"), st.integers(1, 5), st.just(0))
keep = st.tuples(st.just("keep"), st.just(0), st.just(0))
house = st.tuples(st.just("house"), st.just(0), st.just(0))
meet = st.tuples(st.just("meet"), st.just(0), st.just(0))
kill = st.tuples(st.just("kill"), st.just(0), st.just(0))
stop = st.tuples(st.just("stop"), st.just(0), st.just(0))
STEPS = st.one_of(append, append, full, shed, take, take, lost, keep, house, meet, kill, stop)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=30), st.sampled_from([1, 250_000]), st.booleans())
def test_the_books_close_and_tell_the_truth(
    steps: list[tuple[str, int, int]], segment_bytes: int, early: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(Plant(Path(directory), segment_bytes, early=early).play(steps))


class Plant:
    """A journal, its books and a sink, and beside them what was sent, counted plainly."""

    def __init__(self, directory: Path, segment_bytes: int, *, early: bool) -> None:
        self.directory, self.lives = directory, 0
        self.changed: dict[str, Any] = {"segment_bytes": segment_bytes, "keep": timedelta(0 if early else 1)}
        self.kept = Kept()
        self.sent: Counter[str] = Counter()
        self.clock = ManualClock()

    async def play(self, steps: list[tuple[str, int, int]]) -> None:
        rest = [*steps, ("meet", 0, 0), ("stop", 0, 0)]
        while rest:
            async with AsyncExitStack() as stack:
                folder = self.directory / str(self.lives)
                journal = await stack.enter_async_context(opened(folder, clock=self.clock, **self.changed))
                accounts = await Accounts.open(journal, self.clock)
                sink = SmallSink(self.kept, journal, accounts)
                self.check(accounts)
                while rest:
                    kind, a, b = rest.pop(0)
                    if kind == "kill":
                        self.die(folder)
                        break
                    if kind == "stop":
                        await accounts.close()
                        break
                    await self.do(kind, a, b, journal, accounts, sink)

    def die(self, folder: Path) -> None:
        """What is on the disk at this instant is all the next process finds."""
        self.lives += 1
        shutil.copytree(folder, self.directory / str(self.lives), ignore=shutil.ignore_patterns("lock"))

    async def do(
        self, kind: str, a: int, b: int, journal: Journal, accounts: Accounts, sink: SmallSink
    ) -> None:
        if kind == "append":
            new = [batch(journal.position.last_batch + i, b) for i in range(a)]
            self.sent.update(sample.tag for one in new for sample in one.samples)
            await journal.append((), new)
            self.check(accounts)
        elif kind == "full":
            await self.append_to_a_full_disk(journal, [batch(journal.position.last_batch, b)] * a)
            self.check(accounts)
        elif kind == "shed":
            await self.append_without_room(journal, [batch(journal.position.last_batch, b)] * a)
            self.check(accounts)
        elif kind == "take":
            await sink.meet()
            await sink.take(a, refuse=b)
            self.check(accounts, settled=True)
        elif kind == "answer lost":
            await sink.meet()
            await sink.take(a, answer_lost=True)
        elif kind == "meet":
            await sink.meet()
            self.check(accounts, settled=True)
        elif kind == "keep":
            await journal.keep_watched()
        elif kind == "house":
            await self.keep_house()

    async def keep_house(self) -> None:
        """Twice what the journal does now and then: keep what waits, begin segments, free them."""
        async with asyncio.timeout(60):
            for _ in range(2):
                self.clock.move(timedelta(minutes=10))
                while not any(pause > 0 for pause in self.clock.pauses):
                    await asyncio.sleep(0.001)

    async def append_to_a_full_disk(self, journal: Journal, new: list[SampleBatch]) -> None:
        """The disk refuses the first commit; the journal tries again until it takes it."""
        store: Any = journal._store
        commit = store._commit
        refused = asyncio.Event()
        loop = asyncio.get_running_loop()

        def refuse_once(*_: Any) -> str:
            store._commit = commit
            loop.call_soon_threadsafe(refused.set)
            return "the disk is full"

        store._commit = refuse_once
        self.sent.update(sample.tag for one in new for sample in one.samples)
        appending = asyncio.create_task(journal.append((), new))
        await refused.wait()
        while not appending.done():
            self.clock.move(timedelta(seconds=1))
            await asyncio.sleep(0.002)
        await appending

    async def append_without_room(self, journal: Journal, new: list[SampleBatch]) -> None:
        """There is room for events only: samples are left out, and are not on the books as recorded."""
        store: Any = journal._store
        make_room = store._make_room
        store._make_room = lambda _, lacks: "no room" if lacks == store._room.lacks_for_samples else ""
        before = sum(journal.stats().shed.values())
        await journal.append((), new)
        store._make_room = make_room
        left_out = sum(len(one.samples) for one in new)
        await journal.keep_watched()
        await kept_house(journal, self.clock, lambda: sum(journal.stats().shed.values()) == before + left_out)

    def check(self, accounts: Accounts, *, settled: bool = False) -> None:
        books = accounts.books
        recorded = {tag: books.recorded(tag) for tag in books.tags()}  # also of those only left out
        assert {tag: count for tag, count in recorded.items() if count} == self.sent
        accounts.since_batch(SINK)
        for tag, line in books.lines(SINK).items():
            assert line.difference == 0, (tag, line)
            assert (
                line.recorded
                == line.delivered + line.buffered + line.set_aside + line.missing + line.difference
                == self.sent[tag]
            )
            if settled:
                assert line.delivered == self.kept.rows[tag], tag
                assert line.set_aside == self.kept.refused[tag], tag


@pytest.mark.parametrize(
    "steps",
    [
        [("append", 3, 4), ("answer lost", 2, 0), ("kill", 0, 0), ("meet", 0, 0)],
        [("append", 1, 4)] * 3 + [("take", 3, 0), ("house", 0, 0), ("kill", 0, 0), ("meet", 0, 0)],
        [("full", 2, 3), ("kill", 0, 0), ("take", 9, 3), ("shed", 2, 2), ("append", 1, 1), ("stop", 0, 0)],
    ],
)
def test_steps_that_were_found_hard(tmp_path: Path, steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(Plant(tmp_path, 1, early=True).play(steps))
