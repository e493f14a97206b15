"""Appends, now with room for samples and now without, until it is killed; prints what was acknowledged.

One line for each append. Room is told by hand.
"""

from __future__ import annotations

import asyncio
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.clock import SystemClock
from gateway.config.schema import JournalSettings
from gateway.journal import Journal, files
from gateway.journal.room import MARGIN_BYTES
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample

AMPLE, FOR_EVENTS = 10**10, MARGIN_BYTES + MARGIN_BYTES // 2


async def main(directory: Path) -> None:
    chance = random.Random()
    free = [AMPLE]
    settings = JournalSettings()
    journal = await Journal.open(directory, gateway="line-1", settings=settings, clock=SystemClock())
    files.free_bytes = lambda _: free[0]  # type: ignore[assignment]
    while True:
        free[0] = chance.choice((AMPLE, FOR_EVENTS, FOR_EVENTS))
        for _ in range(chance.randrange(1, 9)):
            at = datetime.now(UTC)
            samples = [TagSample(f"plc/{i}", i, Quality.GOOD, at, at) for i in range(10)]
            events = [SourceLost("plc", at, "a word")] * chance.randrange(2)
            await journal.append(events, [SampleBatch("plc", at, tuple(samples))])
            print(journal.position.last_seq, journal.position.last_batch, flush=True)


asyncio.run(main(Path(sys.argv[1])))
