"""Builders for the journal's tests: a clock moved by hand, events, batches, small segments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.config.schema import JournalSettings
from gateway.journal import Journal
from statemodel.types import (
    Cause,
    CauseInput,
    Conformance,
    Quality,
    SampleBatch,
    TagSample,
    Transition,
)
from tests.support import manual_clock

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
PATIENCE_S = 60.0
"""How long is waited for what has to come some day: it costs nothing when it comes."""


class ManualClock(manual_clock.ManualClock):
    """Starts at the same instant as the events; moves by a timedelta."""

    def __init__(self) -> None:
        super().__init__(START)

    def move(self, by: timedelta) -> None:
        self.advance(by.total_seconds())


async def eventually(true: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Return once the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.002)


def transition(n: int, equipment: str = "filler-1", *, at: datetime | None = None) -> Transition:
    at = at or START + timedelta(seconds=n)
    seen = CauseInput("plc/state", n, Quality.GOOD, at, at)
    return Transition(
        equipment=equipment,
        path=f"area/line/{equipment}",
        model="packml",
        sequence=n,
        from_state="Idle" if n % 2 else "Execute",
        to_state="Execute" if n % 2 else "Idle",
        code=6,
        category="productive",
        at=at,
        duration_s=1.0,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (seen,)),
    )


def batch(n: int, size: int = 3) -> SampleBatch:
    at = START + timedelta(seconds=n)
    return SampleBatch(
        "plc", at, tuple(TagSample(f"plc/tag-{i}", n + i / 8, Quality.GOOD, at, at) for i in range(size))
    )


def settings(**changed: Any) -> JournalSettings:
    """Settings smaller than people may choose, so that segments turn over quickly."""
    base = {"segment_bytes": 250_000, "bytes_max": 10_000_000_000, "keep": timedelta(days=1)}
    return JournalSettings.model_construct(**{**JournalSettings().model_dump(), **base, **changed})


@asynccontextmanager
async def opened(
    directory: Path, *, clock: Any = None, gateway: str = "line-1", **changed: Any
) -> AsyncIterator[Journal]:
    journal = await Journal.open(
        directory, gateway=gateway, settings=settings(**changed), clock=clock or ManualClock()
    )
    try:
        yield journal
    finally:
        await journal.close()


async def fill(journal: Journal, segments: int, *, equipment: str = "filler-1") -> int:
    """Append events and batches until there are so many segments; the number of the last event."""
    n = journal.position.last_seq
    while journal.stats().segments < segments:
        n += 1
        await journal.append([transition(n, equipment)], [batch(n, 200)])
    return n


def last_numbers(directory: Path) -> list[int]:
    """The last event of each finished segment, as the names of the files after them say."""
    return [int(path.name.split("-")[2]) - 1 for path in sorted(directory.glob("journal-*.db"))[1:]]


async def kept_house(
    journal: Journal, clock: ManualClock, true: Callable[[], bool], *, by: timedelta = timedelta(seconds=1)
) -> None:
    """Move the clock on, step by step, until what the journal does now and then has come about."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            clock.move(by)
            while not any(pause > 0 for pause in clock.pauses) and not true():
                await asyncio.sleep(0.001)
