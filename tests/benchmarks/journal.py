"""The journal: transitions and samples made durable, and the start with a million records nobody has read.

The floor of an append is what any log must do: the same records as bytes, in the same groups, added to a
plain file and synced. Telling an event (its JSON) is measured apart: it is done once for all consumers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from gateway.clock import SystemClock
from gateway.config.schema import JournalSettings
from gateway.journal import Journal
from statemodel.records import tell
from statemodel.types import (
    Cause,
    CauseInput,
    Conformance,
    Quality,
    SampleBatch,
    TagSample,
    Transition,
)
from tests.benchmarks.figures import Figure

START = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
STREAM = "1f0c6f0e-8f0a-4b50-9d0b-0c0a3f1f3c55"
#: How long each figure is measured, at least, and how often: the best of the rounds counts.
WINDOW_S, ROUNDS = 0.6, 3
EVENT_GROUPS, SAMPLE_BATCHES = (1, 20, 256), (100, 2000)
AT_ONCE = 64
UNSENT = 1_000_000
STATES = ("Idle", "Starting", "Execute", "Completing", "Complete", "Resetting")
GOAL_OF_FLOOR, GOAL_START_S = 0.6, 5.0


def transition(n: int) -> Transition:
    """The nth move of one of forty machines, with the sample that decided it."""
    at = START + timedelta(milliseconds=37 * n, microseconds=(n * 7919) % 1000)
    machine, step = f"filler-{n % 40}", n // 40
    seen = CauseInput(f"line-{n % 4}-plc/{machine}/state", step % 6 + 1, Quality.GOOD, at, at)
    return Transition(
        equipment=machine,
        path=f"filling/line-{n % 4}/{machine}",
        model="packml",
        sequence=step,
        from_state=STATES[step % 6],
        to_state=STATES[(step + 1) % 6],
        code=step % 6 + 1,
        category="productive",
        at=at,
        duration_s=0.5 + (n * 31) % 1000 / 8,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (seen,)),
    )


def batches(size: int, count: int, *, source_time: bool) -> Sequence[SampleBatch]:
    """Tags polled once a second whose readings all change; with a source time of their own when asked."""
    chance = random.Random(size)
    levels = [chance.uniform(10, 90) for _ in range(size)]
    made = []
    for n in range(count):
        at = START + timedelta(seconds=n, microseconds=chance.randrange(2000))
        samples = []
        for i in range(size):
            levels[i] += chance.gauss(0, 0.3)
            source_at = at - timedelta(microseconds=chance.randrange(900_000)) if source_time else None
            samples.append(
                TagSample(f"oven-plc/zone-{i // 10}/temp-{i}", levels[i], Quality.GOOD, source_at, at)
            )
        made.append(SampleBatch("oven-plc", at, tuple(samples), source_time))
    return made


async def measure(
    directory: Path, *, window_s: float = WINDOW_S, rounds: int = ROUNDS, unsent: int = UNSENT
) -> Sequence[Figure]:
    """All figures of the journal."""
    bench = _Bench(directory, window_s, rounds)
    figures = [bench.telling()]
    for size in EVENT_GROUPS:
        figures += await bench.events(size)
    figures += await bench.events(1, at_once=AT_ONCE)
    for size in SAMPLE_BATCHES:
        figures += await bench.samples(size, source_time=False)
    figures += await bench.samples(100, source_time=True)
    figures += await _start(directory / "events", unsent, events=True)
    figures += await _start(directory / "samples", unsent, events=False)
    return figures


class _Bench:
    """Measures appends and the floor under them, one after the other on the same disk."""

    def __init__(self, directory: Path, window_s: float, rounds: int) -> None:
        self._directory, self._window_s, self._rounds = directory, window_s, rounds
        self._pool = [transition(n) for n in range(20_000)]
        self._at = 0

    def _next(self, size: int) -> list[Transition]:
        self._at = (self._at + size) % (len(self._pool) - size)
        return self._pool[self._at : self._at + size]

    def telling(self) -> Figure:
        """Events told a second, by one thread that does nothing else."""
        best = 0.0
        for _ in range(self._rounds):
            began = time.perf_counter()
            for n, event in enumerate(self._pool):
                tell(event, gateway="line-1", stream=STREAM, seq=n, recorded_at=event.at)
            best = max(best, len(self._pool) / (time.perf_counter() - began))
        return Figure("journal: events told as JSON", best, "events/s")

    async def events(self, size: int, at_once: int = 1) -> Sequence[Figure]:
        """Appends of `size` transitions each, `at_once` callers at a time."""
        told = [
            tell(e, gateway="line-1", stream=STREAM, seq=9, recorded_at=e.at).json for e in self._next(256)
        ]
        bodies = (told * (size * at_once // 256 + 1))[: size * at_once]
        name = f"journal: transitions, {size} a call" + (f", {at_once} callers" if at_once > 1 else "")

        async def work(journal: Journal) -> None:
            if at_once == 1:
                await journal.append(self._next(size))
            else:
                await asyncio.gather(*(journal.append(self._next(size)) for _ in range(at_once)))

        return await self._figures(name, work, size * at_once, bodies, "transitions")

    async def samples(self, size: int, *, source_time: bool) -> Sequence[Figure]:
        """Appends of one batch of samples each."""
        pool = batches(size, 40, source_time=source_time)
        bodies = [msgspec.msgpack.encode(pool[0])]
        turn = 0

        async def work(journal: Journal) -> None:
            nonlocal turn
            turn += 1
            await journal.append((), [pool[turn % len(pool)]])

        name = f"journal: samples, {size} a batch" + (", source times" if source_time else "")
        return await self._figures(name, work, size, bodies, "samples")

    async def _figures(
        self,
        name: str,
        work: Callable[[Journal], Awaitable[None]],
        records: int,
        bodies: Sequence[bytes],
        unit: str,
    ) -> Sequence[Figure]:
        record_bytes = sum(map(len, bodies)) / records
        best = _Round()
        floor = 0.0
        for _ in range(self._rounds):
            floor = max(floor, records * _raw_per_s(self._directory / "floor", bodies, self._window_s))
            done = await self._round(work, records)
            best = max(best, done, key=lambda one: one.per_s)
        what = "plain file: append and fdatasync of the same"
        return [
            Figure(name, best.per_s, f"{unit}/s", floor, what, goal=GOAL_OF_FLOOR * floor),
            Figure(f"{name}: CPU", best.cpu_us, f"us/{unit[:-1]}"),
            Figure(f"{name}: on disk", best.disk_bytes, f"bytes/{unit[:-1]}", record_bytes, "as told"),
            Figure(f"{name}: written", best.written_bytes, f"bytes/{unit[:-1]}", record_bytes, "as told"),
        ]

    async def _round(self, work: Callable[[Journal], Awaitable[None]], records: int) -> _Round:
        folder = self._directory / "journal"
        shutil.rmtree(folder, ignore_errors=True)
        journal = await _opened(folder)
        for _ in range(3):
            await work(journal)
        count, written, cpu, began = 0, _written_bytes(), time.process_time(), time.perf_counter()
        while (lasted := time.perf_counter() - began) < self._window_s:
            await work(journal)
            count += records
        cpu, written = time.process_time() - cpu, _written_bytes() - written
        await journal.close()
        disk = sum(path.stat().st_size for path in folder.glob("journal-*.db"))
        return _Round(count / lasted, cpu / count * 1e6, disk / (count + 3 * records), written / count)


class _Round(msgspec.Struct, frozen=True):
    per_s: float = 0.0
    cpu_us: float = 0.0
    disk_bytes: float = 0.0
    written_bytes: float = 0.0


async def _opened(folder: Path) -> Journal:
    return await Journal.open(folder, gateway="line-1", settings=JournalSettings(), clock=SystemClock())


def _raw_per_s(path: Path, bodies: Sequence[bytes], window_s: float) -> float:
    """How often a second some bytes can be added to a file and synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
    try:
        count, began = 0, time.perf_counter()
        while (lasted := time.perf_counter() - began) < window_s:
            os.writev(fd, bodies[:1000])
            os.fdatasync(fd)
            count += 1
        return count / lasted
    finally:
        os.close(fd)


def _written_bytes() -> int:
    """Bytes this process has handed to the kernel."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


async def _start(folder: Path, unsent: int, *, events: bool) -> Sequence[Figure]:
    """How long a journal takes to open that a killed process left, with records nobody has read."""
    journal = await _opened(folder)
    journal.require("database", events=True, batches=True)
    pool = [transition(n) for n in range(5000)]
    samples = batches(1000, 5, source_time=False)
    held = 0
    while held < unsent:
        step = min(250 if events else 1000, unsent - held)
        if events:
            await journal.append(pool[held % 4000 : held % 4000 + step])
        else:
            await journal.append((), [samples[held // 1000 % 5]])
        held += step
    killed = folder.with_name(f"{folder.name}-killed")
    shutil.copytree(folder, killed)
    await journal.close()
    newest = max(killed.glob("journal-*.db"))
    data = sum(path.stat().st_size for path in killed.glob(f"{newest.name}*"))
    began = time.perf_counter()
    opened = await _opened(killed)
    took_s = time.perf_counter() - began
    began = time.perf_counter()
    found = await opened.verify()
    verify_s = time.perf_counter() - began
    assert not found, found
    await opened.close()
    began = time.perf_counter()
    len(newest.read_bytes())
    floor = max(1e-3, time.perf_counter() - began)
    what, kind = f"reading the newest segment, {data / 1e6:.0f} MB", "events" if events else "samples"
    return [
        Figure(f"journal: opened with {unsent:,} unsent {kind}", took_s, "s", floor, what, goal=GOAL_START_S),
        Figure(f"journal: {unsent:,} {kind} verified", verify_s, "s"),
    ]
