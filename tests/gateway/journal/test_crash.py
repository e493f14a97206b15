"""A process killed at any instant: every acknowledged record is there, in order, once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from pathlib import Path

from gateway.journal.losses import gaps
from tests.gateway.journal.builders import opened

WRITER = Path(__file__).with_name("crash_writer.py")
SHEDDING = Path(__file__).with_name("shedding_writer.py")
CYCLES = 12
#: So many appends are acknowledged before a writer is killed, and as many more as chance has it.
LINES = 20


def write_until_killed(directory: Path, after_s: float) -> tuple[int, int]:
    """The last event and batch the writer was told are durable."""
    seq, batch = lines_until_killed(WRITER, directory, after_s)[-1]
    return seq, batch


def lines_until_killed(program: Path, directory: Path, after_s: float) -> list[tuple[int, ...]]:
    """The numbers a writer printed before it was killed."""
    writer = subprocess.Popen(
        [sys.executable, str(program), str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    first = [writer.stdout.readline() for _ in range(LINES)]  # it is at work, however slow the disk is
    killer = threading.Timer(after_s, writer.kill)
    killer.start()
    lines = [*first, *writer.stdout]
    writer.wait()
    writer.stdout.close()
    killer.join()
    return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]


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


async def test_what_was_shed_is_counted_exactly_whenever_it_is_killed(tmp_path: Path) -> None:
    """Each append had one batch of ten samples: recorded or left out, and counted by its tags."""
    chance = random.Random(5)
    appends = before = told = 0
    for _ in range(CYCLES):
        lines = await asyncio.to_thread(lines_until_killed, SHEDDING, tmp_path, chance.uniform(0.0, 0.4))
        acknowledged = appends + len(lines)
        async with opened(tmp_path) as journal:
            shed = journal.stats().shed
            assert set(shed) <= {f"plc/{i}" for i in range(10)}
            assert len(set(shed.values())) <= 1, "a batch is left out as a whole"
            appends = journal.position.last_batch + shed.get("plc/0", 0)
            # The append under way when it was killed may be durable or not: it is whole either way.
            assert acknowledged <= appends <= acknowledged + 1
            losses = gaps(journal.untold(), ["plc"])
            told += sum(int(gap.reason.split()[0]) for gap in losses)
            assert told == sum(shed.values()), "and what is told of it comes to the same"
            await journal.append(losses)
        assert sum(shed.values()) >= before
        before = sum(shed.values())
    assert before > 0, "the run was meant to shed"
