"""What the journal's fault tests share: a journal with a known truth, and the comparison with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import msgspec

from gateway.journal import Cursor, Journal
from statemodel.types import SampleBatch
from tests.gateway.journal.builders import START, batch, opened, transition

#: Whether the rare and long variants are to run.
LONG = os.environ.get("ANDON_TEST_PROFILE") == "long"
FAST = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


class Truth(msgspec.Struct):
    """What was acknowledged: the JSON of each event, each batch."""

    stream: str
    events: dict[int, bytes]
    batches: dict[int, SampleBatch]

    @property
    def last_seq(self) -> int:
        return max(self.events)


async def everything(journal: Journal) -> tuple[dict[int, bytes], dict[int, SampleBatch]]:
    """All events and batches the journal serves."""
    events = {r.seq: r.json for r in await journal.read(0, 10**6)}
    return events, dict(await journal.read_batches(0, 10**6, samples_max=10**9))


async def truth_of(journal: Journal) -> Truth:
    return Truth(journal.stream, *await everything(journal))


async def write_some(
    directory: Path, *, segments: int, then: int, crashed: Path | None = None
) -> tuple[Truth, Path]:
    """A journal with finished segments and a newest one of `then` commits; closed, or as a crash leaves it.

    Returns the truth and the folder to damage.
    """
    async with opened(directory, segment_bytes=500_000, keep=timedelta(days=9)) as journal:
        journal.require("database", events=True, batches=True)
        n = 0
        while journal.stats().segments < segments:
            n += 1
            await journal.append([transition(n)], [batch(n, 2000)], {"plc": START})
        for _ in range(then):
            n += 1
            await journal.append([transition(n)], [batch(n, 3)], {"plc": START + timedelta(seconds=n)})
        truth = await truth_of(journal)
        await journal.advance("database", Cursor(2, 2))
        if crashed is not None:
            shutil.copytree(directory, crashed)
    return truth, crashed or directory


def put_down(pristine: Path, trial: Path, changed: Mapping[str, bytes]) -> None:
    """A fresh copy of a folder, with other bytes in some files."""
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(pristine, trial)
    for name, data in changed.items():
        (trial / name).write_bytes(data)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*.db"))
