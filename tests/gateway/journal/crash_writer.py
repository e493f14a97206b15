"""Appends until it is killed; prints each number only after it was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.clock import SystemClock
from gateway.config.schema import JournalSettings
from gateway.journal import Cursor, Journal
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample


async def main(directory: Path) -> None:
    settings = JournalSettings.model_construct(
        **{**JournalSettings().model_dump(), "segment_bytes": 150_000, "keep": timedelta(0)}
    )
    journal = await Journal.open(directory, gateway="line-1", settings=settings, clock=SystemClock())
    journal.require("reader", events=True, batches=True)
    while True:
        at = datetime.now(UTC)
        n = journal.position.last_seq + 1
        batch = SampleBatch(
            "plc", at, tuple(TagSample(f"plc/{i}", n, Quality.GOOD, at, at) for i in range(90))
        )
        recorded = await journal.append(
            [SourceLost("plc", at, f"event {n + k}") for k in range(n % 4 + 1)], [batch]
        )
        print(recorded[-1].seq, journal.position.last_batch, flush=True)
        await journal.advance("reader", Cursor(max(0, n - 200), max(0, journal.position.last_batch - 100)))


asyncio.run(main(Path(sys.argv[1])))
