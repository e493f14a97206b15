"""From a real journal into a real TimescaleDB, against the server's own COPY of the same rows from its disk.

Samples and transitions are drained by the real historian in this process, whose CPU time is taken. The floor
is measured in the same run: the server writes what it got to a file and copies it from there into an emptied
table of the same shape, in one transaction, which no client can beat. Then an outage: what gathered for a
while at plant rate is drained beside the plant, and what comes meanwhile is timed until it is committed.
Needs `ANDON_TEST_TIMESCALE`, a server whose user may read and write files there.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from gateway.clock import SystemClock
from gateway.config.schema import HistorianSettings, JournalSettings
from gateway.historian import EquipmentMeta, Historian, TagMeta
from gateway.journal import Journal
from statemodel.types import Cause, CauseInput, Conformance, Quality, SampleBatch, TagSample, Transition
from tests.benchmarks.figures import Figure, percentile
from tests.support.database import new_database

#: 20 connections of 100 tags: 2,000 samples a second when each changes once a second.
CONNECTIONS, TAGS_EACH = 20, 100
TAGS = {
    f"plc-{c}/tag-{t}": TagMeta(f"plc-{c}", f"tag-{t}") for c in range(CONNECTIONS) for t in range(TAGS_EACH)
}
NAMES = [[f"plc-{c}/tag-{t}" for t in range(TAGS_EACH)] for c in range(CONNECTIONS)]
EQUIPMENT = {f"filler-{n}": EquipmentMeta(f"area/line/filler-{n}", "packml") for n in range(20)}
SAMPLES, EVENTS = 1_000_000, 100_000
OUTAGE_S, CALM_S, EVENTS_PER_S = 3600, 6, 20
GOAL_US, GOAL_SHARE, GOAL_TIMES_LIVE = 0.7, 0.85, 10.0
THREE_DAYS_S = 3 * 86_400
START = datetime(2026, 1, 1, tzinfo=UTC)
_FLOOR = "COPY of the same rows from the server's own file"
_RUNS = 3


async def measure(
    directory: Path,
    *,
    samples: int = SAMPLES,
    events: int = EVENTS,
    outage_s: int = OUTAGE_S,
    calm_s: float = CALM_S,
) -> Sequence[Figure]:
    """All figures, or none where there is no TimescaleDB."""
    dsn = os.environ.get("ANDON_TEST_TIMESCALE", "")
    if not dsn:
        sys.stderr.write("no figures of the historian: ANDON_TEST_TIMESCALE names no server\n")
        return []
    return [
        *await _draining(directory / "samples", dsn, "samples", samples),
        *await _draining(directory / "events", dsn, "transitions", events),
        *await _outage(directory / "outage", dsn, outage_s, calm_s),
    ]


async def _draining(directory: Path, dsn: str, what: str, count: int) -> Sequence[Figure]:
    """One kind of record alone, as fast as it goes: the best of a few runs, each into a new database."""
    table = "sample" if what == "samples" else "transition"
    rates, floors, costs = [], [], []
    async with _journal(directory) as journal:
        if table == "sample":
            await _gather(journal, count // len(TAGS), events_per_s=0)
        else:
            for first in range(0, count, 1000):
                await journal.append([_transition(n) for n in range(first, first + 1000)])
        for _ in range(_RUNS):
            async with new_database(dsn) as database, _historian(journal, database) as historian:
                began_s, began_cpu_s = await _begun(historian), _cpu_s()
                already = historian.status().samples + historian.status().events
                await _until_drained(journal, historian)
                rows = historian.status().samples + historian.status().events - already
                rates.append(rows / (time.perf_counter() - began_s))
                costs.append((_cpu_s() - began_cpu_s) / rows * 1e6)
                floors.append(await _floor(database, table, count))
    rate, floor = max(rates), max(floors)
    return [
        Figure(f"historian: {what} drained", rate, "1/s", floor, _FLOOR, goal=GOAL_SHARE * floor),
        Figure(
            f"historian: CPU per {what[:-1]} drained",
            min(costs),
            "us",
            goal=GOAL_US if table == "sample" else None,
        ),
    ]


async def _outage(directory: Path, dsn: str, outage_s: int, calm_s: float) -> Sequence[Figure]:
    """The plant goes on at its rate: first with nothing else to do, then while a backlog is drained."""
    async with _journal(directory) as journal, new_database(dsn) as database:
        async with _historian(journal, database) as historian:
            await _begun(historian)
            calm = await _plant(journal, historian, calm_s, at_s=0)
            await _until_drained(journal, historian)
        await _gather(journal, outage_s, events_per_s=EVENTS_PER_S, at_s=round(calm_s))
        gathered = outage_s * (len(TAGS) + EVENTS_PER_S)
        resting_mb = _rss_mb()
        async with _historian(journal, database) as historian:
            began_s = await _begun(historian)
            first = historian.status()
            beside = asyncio.create_task(_plant(journal, historian, None, at_s=round(calm_s) + outage_s))
            peak_mb = resting_mb
            while historian.status().backlog_batches or historian.status().transactions < 2:
                peak_mb = max(peak_mb, _rss_mb())
                await asyncio.sleep(0.02)
            took_s = time.perf_counter() - began_s
            busy = await beside
            await _until_drained(journal, historian)
            done = gathered - first.samples - first.events
    live = len(TAGS) + EVENTS_PER_S
    calm_ms, busy_ms = percentile(calm, 99) * 1e3, percentile(busy, 99) * 1e3
    return [
        Figure("outage: backlog drained beside the plant", done / took_s, "1/s"),
        Figure(
            "outage: the same in times of the plant's rate", done / took_s / live, "x", goal=GOAL_TIMES_LIVE
        ),
        Figure("outage: three days would take", THREE_DAYS_S * live / (done / took_s) / 60, "min"),
        Figure(
            "outage: plant to database, p50 meanwhile",
            percentile(busy, 50) * 1e3,
            "ms",
            percentile(calm, 50) * 1e3,
            "without a backlog",
        ),
        Figure(
            "outage: plant to database, p99 meanwhile",
            busy_ms,
            "ms",
            calm_ms,
            "without a backlog",
            goal=2 * calm_ms,
        ),
        Figure("outage: memory over that before", peak_mb - resting_mb, "MB"),
    ]


# -- the plant


def _batches(second: int) -> list[SampleBatch]:
    at = START + timedelta(seconds=second)
    return [
        SampleBatch(
            f"plc-{c}",
            at,
            tuple(TagSample(name, second + t / 8, Quality.GOOD, None, at) for t, name in enumerate(NAMES[c])),
        )
        for c in range(CONNECTIONS)
    ]


def _transition(n: int) -> Transition:
    at, name = START + timedelta(seconds=n / EVENTS_PER_S), f"filler-{n % 20}"
    odd = n // 20 % 2 == 1
    return Transition(
        equipment=name,
        path=f"area/line/{name}",
        model="packml",
        sequence=n // 20 + 1,
        from_state="Execute" if odd else "Idle",
        to_state="Idle" if odd else "Execute",
        code=4 if odd else 6,
        category="standby" if odd else "productive",
        at=at,
        duration_s=1.0,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (CauseInput("plc-1/tag-0", 6, Quality.GOOD, None, at),)),
    )


async def _gather(journal: Journal, seconds: int, *, events_per_s: int, at_s: int = 0) -> None:
    for second in range(at_s, at_s + seconds):
        first = second * events_per_s
        await journal.append([_transition(n) for n in range(first, first + events_per_s)], _batches(second))


async def _plant(journal: Journal, historian: Historian, for_s: float | None, *, at_s: int) -> list[float]:
    """Append at the plant's rate, ten times a second, for a time or while there is a backlog; how long each
    took to be in the database, in seconds."""
    waits: list[float] = []
    watchers: set[asyncio.Task[None]] = set()
    began_s, tick = time.perf_counter(), 0

    async def watch(seq: int) -> None:
        appended_s = time.perf_counter()
        while historian.reached.seq < seq:
            await asyncio.sleep(0.001)
        waits.append(time.perf_counter() - appended_s)

    while (time.perf_counter() - began_s < for_s) if for_s is not None else _is_behind(historian):
        batches = _batches(at_s + tick // 10)[tick % 10 * 2 : tick % 10 * 2 + 2]
        await journal.append([_transition(at_s * EVENTS_PER_S + tick * 2 + k) for k in range(2)], batches)
        watchers.add(asyncio.create_task(watch(journal.position.last_seq)))
        tick += 1
        await asyncio.sleep(max(0.0, began_s + tick / 10 - time.perf_counter()))
    await asyncio.gather(*watchers)
    return waits


def _is_behind(historian: Historian) -> bool:
    return historian.status().backlog_batches > 0 or historian.status().transactions < 2


# -- around it


@asynccontextmanager
async def _journal(directory: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(
        directory, gateway="line-1", settings=JournalSettings(bytes_max=20_000_000_000), clock=SystemClock()
    )
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def _historian(journal: Journal, dsn: str) -> AsyncIterator[Historian]:
    historian = Historian(
        dsn,
        journal=journal,
        gateway="line-1",
        settings=HistorianSettings(dsn=dsn),
        clock=SystemClock(),
        tags=TAGS,
        equipment=EQUIPMENT,
    )
    task = asyncio.create_task(historian.run())
    try:
        yield historian
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _begun(historian: Historian) -> float:
    """When it had connected and, if there is a backlog, had written its first portion."""
    while not historian.status().connected:
        await asyncio.sleep(0.001)
    while (
        historian.status().lag_batches + historian.status().lag_events and not historian.status().transactions
    ):
        await asyncio.sleep(0.001)
    return time.perf_counter()


async def _until_drained(journal: Journal, historian: Historian) -> None:
    while (historian.drained.seq, historian.drained.batch) != (
        journal.position.last_seq,
        journal.position.last_batch,
    ):
        await asyncio.sleep(0.001)


async def _floor(dsn: str, table: str, count: int) -> float:
    """Rows per second of the server's own COPY; the better of two."""
    file = f"/tmp/andon-bench-{os.getpid()}.copy"  # a path on the server
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"COPY (SELECT * FROM andon.{table}) TO '{file}' (FORMAT binary)")
        rates = []
        for _ in range(2):
            await connection.execute(f"TRUNCATE andon.{table}")
            began_s = time.perf_counter()
            await connection.execute(f"COPY andon.{table} FROM '{file}' (FORMAT binary)")
            rates.append(count / (time.perf_counter() - began_s))
        await connection.execute(f"COPY (SELECT) TO PROGRAM 'rm {file}'")
    finally:
        await connection.close()
    return max(rates)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
