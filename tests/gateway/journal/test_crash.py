"""A process killed at any instant: every acknowledged record is there, in order, once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from pathlib import Path

from tests.gateway.journal.builders import opened

WRITER = Path(__file__).with_name("crash_writer.py")
CYCLES = 12


def write_until_killed(directory: Path, after_s: float) -> tuple[int, int]:
    """The last event and batch the writer was told are durable."""
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()  # it is at work
    killer = threading.Timer(after_s, writer.kill)
    killer.start()
    lines = [first, *writer.stdout]
    writer.wait()
    writer.stdout.close()
    killer.join()
    seq, batch = [line.split() for line in lines if line.endswith("\n")][-1]
    return int(seq), int(batch)


async def whole(directory: Path, acknowledged: tuple[int, int]) -> tuple[str, int]:
    """Hold what a killed writer left against what it was told is durable; its stream and first number."""
    async with opened(directory) as journal:
        position = journal.position
        assert position.last_seq >= acknowledged[0]
        assert position.last_batch >= acknowledged[1]
        events = await journal.read(position.first_seq - 1, 10**6)
        assert [r.seq for r in events] == list(range(position.first_seq, position.last_seq + 1))
        assert all(r.event.reason == f"event {r.seq}" for r in events)  # type: ignore[union-attr]
        batches = await journal.read_batches(position.first_batch - 1, 10**6, samples_max=10**9)
        assert [n for n, _ in batches] == list(range(position.first_batch, position.last_batch + 1))
        assert await journal.verify() == []
        return journal.stream, position.first_seq


async def test_every_acknowledged_record_survives_being_killed(tmp_path: Path) -> None:
    chance = random.Random(11)
    streams = set()
    for _ in range(CYCLES):
        acknowledged = await asyncio.to_thread(write_until_killed, tmp_path, chance.uniform(0.0, 0.25))
        stream, first_seq = await whole(tmp_path, acknowledged)
        streams.add(stream)
    assert len(streams) == 1
    assert first_seq > 1, "the run was meant to free segments"
