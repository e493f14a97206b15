"""Books, journal, historian and a real TimescaleDB: whatever is cut and killed, the books tell the truth."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from connectors.base import Clock
from gateway.accounts.books import Line
from gateway.accounts.keeper import Accounts
from gateway.accounts.survey import look_at_books
from gateway.clock import SystemClock
from gateway.historian import Historian
from gateway.historian.drain import SINK
from gateway.journal import Journal
from statemodel.types import SampleBatch
from tests.gateway.historian.databases import (
    EQUIPMENT,
    PATIENCE_S,
    TAGS,
    Database,
    Proxy,
    drained,
    historian_settings,
)
from tests.gateway.journal.builders import ManualClock, batch, opened, transition
from tests.support.database import new_database, timescale_dsn

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

FORBIDDEN = 1e9
COUNTED = """
SELECT t.tag, count(*) FROM andon.sample AS s JOIN andon.tag AS t USING (tag_id)
WHERE t.gateway = $1 GROUP BY 1
"""
ASIDE = """
SELECT body::json ->> 'tag', count(*) FROM andon.set_aside WHERE gateway = $1 AND kind = 'sample' GROUP BY 1
"""
GATEWAYS = itertools.count()
#: Each try takes seconds; the steps that failed are printed as they are.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

append = st.tuples(st.just("append"), st.integers(1, 8), st.integers(1, 8))
cut = st.tuples(st.just("cut"), st.sampled_from(["before", "after"]), st.just(0))
refused = st.tuples(st.just("refused"), st.integers(1, 3), st.just(0))
other = st.tuples(st.sampled_from(["away", "kill", "kill", "stop", "settle"]), st.just(0), st.just(0))


def test_the_books_say_what_the_database_holds() -> None:
    dsn = timescale_dsn()

    @settings(max_examples=8, deadline=None, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(append, append, cut, refused, other), min_size=3, max_size=12))
    def play(steps: list[tuple[str, Any, int]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(run(dsn, Path(directory), steps))

    play()


async def run(server: str, directory: Path, steps: list[tuple[str, Any, int]]) -> None:
    async with new_database(server) as dsn:
        await Plant(directory, Database(dsn)).play(steps)


async def test_steps_that_were_found_hard(tmp_path: Path) -> None:
    """A COMMIT without an answer, death before the next connection, and rows the database refuses."""
    steps = [
        ("append", 3, 4),
        ("settle", 0, 0),
        ("cut", "after", 0),
        ("append", 5, 2),
        ("cut", "before", 0),
        ("refused", 3, 0),
        ("kill", 0, 0),
        ("append", 1, 8),
        ("kill", 0, 0),
        ("kill", 0, 0),
        ("settle", 0, 0),
        ("stop", 0, 0),
    ]
    await run(timescale_dsn(), tmp_path, steps)


class Plant:
    """A gateway's journal, books and historian, and a plain count of what was sent."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory, self.database, self.lives = directory, database, 0
        self.gateway = f"line-{next(GATEWAYS)}"
        self.sent: Counter[str] = Counter()
        self.last = 0

    async def play(self, steps: list[tuple[str, Any, int]]) -> None:
        rest = [("append", 1, 1), *steps, ("settle", 0, 0), ("stop", 0, 0)]
        proxy = Proxy(self.database.dsn)
        async with proxy.listening() as dsn:
            while rest:
                folder = self.directory / str(self.lives)
                async with AsyncExitStack() as stack:
                    journal = await stack.enter_async_context(
                        opened(folder, gateway=self.gateway, clock=SystemClock(), segment_bytes=1)
                    )
                    accounts = await Accounts.open(journal, SystemClock())
                    async with self.historian(journal, accounts, dsn) as historian:
                        while rest[0][0] not in ("kill", "stop"):
                            await self.do(rest.pop(0), journal, accounts, historian, proxy)
                    if rest.pop(0)[0] == "stop":
                        await accounts.close()
                        continue
                    # What is on the disk at this instant is all the next process finds.
                    self.lives += 1
                    there = self.directory / str(self.lives)
                    shutil.copytree(folder, there, ignore=shutil.ignore_patterns("lock"))

    @asynccontextmanager
    async def historian(
        self, journal: Journal, accounts: Accounts, dsn: str, clock: Clock | None = None
    ) -> AsyncIterator[Historian]:
        historian = Historian(
            dsn,
            journal=journal,
            gateway=self.gateway,
            settings=historian_settings(dsn),
            clock=clock or SystemClock(),
            tags=TAGS,
            equipment=EQUIPMENT,
            deliveries=accounts,
        )
        task = asyncio.create_task(historian.run())
        try:
            yield historian
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def do(
        self,
        step: tuple[str, Any, int],
        journal: Journal,
        accounts: Accounts,
        historian: Historian,
        proxy: Proxy,
    ) -> None:
        kind, a, b = step
        if kind == "append":
            await self.append(journal, [batch(self.last + i, b) for i in range(a)])
        elif kind == "refused":
            await self.append(journal, [batch(self.last, 1)])
            await drained(historian, journal)
            await self.database.do(
                "ALTER TABLE andon.sample DROP CONSTRAINT IF EXISTS bound",
                f"ALTER TABLE andon.sample ADD CONSTRAINT bound CHECK (value < {FORBIDDEN})",
            )
            await self.append(journal, [with_forbidden(batch(self.last + i, 4)) for i in range(a)])
        elif kind == "cut":
            proxy.cut = a
            await self.append(journal, [batch(self.last, 3)])
        elif kind == "away":
            await self.database.disconnect_others()
        else:
            proxy.cut = ""
            await drained(historian, journal)
            await self.compare(accounts)

    async def append(self, journal: Journal, batches: list[SampleBatch]) -> None:
        self.last += len(batches)
        self.sent.update(sample.tag for one in batches for sample in one.samples)
        await journal.append([transition(self.last)], batches)

    async def compare(self, accounts: Accounts) -> None:
        rows = dict(map(tuple, await self.database.rows(COUNTED, self.gateway)))
        aside = dict(map(tuple, await self.database.rows(ASIDE, self.gateway)))
        lines = accounts.books.lines(SINK)
        assert {tag: line.recorded for tag, line in lines.items()} == self.sent
        assert {tag: line.delivered for tag, line in lines.items() if line.delivered} == rows
        assert {tag: line.set_aside for tag, line in lines.items() if line.set_aside} == aside
        assert not any(line.buffered or line.missing or line.difference for line in lines.values())
        outside = look_at_books(self.directory / str(self.lives), tags=True)
        assert outside is not None
        assert (outside.adds_up, outside.recorded) == (True, self.sent.total())


def with_forbidden(one: SampleBatch) -> SampleBatch:
    """A batch whose second sample has a value the database refuses."""
    first, second, *rest = one.samples
    return msgspec.structs.replace(
        one, samples=(first, msgspec.structs.replace(second, value=2 * FORBIDDEN), *rest)
    )


async def test_rows_that_were_written_again_by_hand_are_delivered_within_a_minute(tmp_path: Path) -> None:
    clock = ManualClock()
    async with new_database(timescale_dsn()) as dsn:
        plant = Plant(tmp_path, Database(dsn))
        async with opened(tmp_path, gateway=plant.gateway, clock=clock) as journal:
            accounts = await Accounts.open(journal, clock)
            async with plant.historian(journal, accounts, dsn, clock) as historian:
                await plant.append(journal, [batch(1, 1)])
                await drained(historian, journal)
                await plant.database.do(f"ALTER TABLE andon.sample ADD CHECK (value < {FORBIDDEN})")
                await plant.append(journal, [with_forbidden(batch(2, 2))])
                await wait_for(clock, historian, journal)
                assert accounts.books.total(SINK) == Line(3, 2, 0, 1, 0, 0)
                await plant.database.do("DELETE FROM andon.set_aside")
                clock.advance(61)
                await plant.append(journal, [batch(3, 1)])
                await wait_for(clock, historian, journal)
                assert accounts.books.total(SINK) == Line(4, 4, 0, 0, 0, 0)


async def wait_for(clock: ManualClock, historian: Historian, journal: Journal) -> None:
    """Let the historian's pauses pass until it has written all there is."""
    async with asyncio.timeout(PATIENCE_S):
        while historian.drained.batch < journal.position.last_batch:
            clock.advance(0.01)
            await asyncio.sleep(0.005)
