"""What history costs to ask: a million transitions of 50 equipment, samples by the million, asked as by REST.

Each question goes through the joined history of journal and database, and its statement also by itself. Every
plan is looked at: none may read a whole table. The size of the samples is an option
(`ARGS="--samples 50000000"`), for filling in takes longest. Needs `ANDON_TEST_TIMESCALE`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from gateway.clock import SystemClock
from gateway.config.schema import HistorianSettings, JournalSettings
from gateway.historian import Historian
from gateway.historian.migrate import SQL
from gateway.history import JoinedHistory
from gateway.journal import Journal
from gateway.tag_history import JoinedTagHistory
from statemodel.figures import Stretch, figures
from statemodel.timeline import Span, filled
from tests.benchmarks import filling
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.filling import END, GATEWAY, STREAM
from tests.support.database import new_database

TRANSITIONS, SAMPLES = 1_000_000, 5_000_000
_TIMES = 40
#: Milliseconds wanted.
GOAL_STATE_MS, GOAL_INTERVALS_MS = 3.0, 30.0
MONTH, DAY, SHIFT = timedelta(days=30), timedelta(days=1), timedelta(hours=8)
_LIMIT = 100_000


async def measure(
    directory: Path, *, transitions: int = TRANSITIONS, samples: int | None = None
) -> Sequence[Figure]:
    """All figures, or none where there is no TimescaleDB."""
    dsn = os.environ.get("ANDON_TEST_TIMESCALE", "")
    if not dsn:
        sys.stderr.write("no figures of queries: ANDON_TEST_TIMESCALE names no server\n")
        return []
    samples = samples or SAMPLES
    async with new_database(dsn) as database:
        settings = HistorianSettings(dsn=database, command_timeout=timedelta(minutes=5))
        connection = await asyncpg.connect(database, server_settings={"timezone": "UTC", "jit": "off"})
        began_s = time.monotonic()
        rolling_s = await filling.fill(connection, settings, transitions=transitions, samples=samples)
        sys.stderr.write(f"filled in {time.monotonic() - began_s:.0f} s\n")
        journal = await Journal.open(
            directory / "journal", gateway=GATEWAY, settings=JournalSettings(), clock=SystemClock()
        )
        historian = Historian(
            database,
            journal=journal,
            gateway=GATEWAY,
            settings=settings,
            clock=SystemClock(),
            tags={},
            equipment={},
        )
        task = asyncio.create_task(historian.run())
        try:
            await historian.met()
            found = await _asked(
                connection, JoinedHistory(journal, historian), JoinedTagHistory(journal, historian)
            )
            found.append(Figure("queries: rolling up", rolling_s / samples * 1e6, "us a sample"))
            return [*found, await _plans(connection)]
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await journal.close()
            await connection.close()


async def _asked(
    connection: asyncpg.Connection[asyncpg.Record], history: JoinedHistory, tags: JoinedTagHistory
) -> list[Figure]:
    rolled = random.Random(1)

    def some() -> tuple[str, datetime]:
        return f"filler-{rolled.randrange(filling.EQUIPMENT)}", END - timedelta(
            seconds=rolled.uniform(0, 5e6)
        )

    def tag() -> str:
        return f"plc/tag-{rolled.randrange(1, filling.TAGS + 1)}"

    async def state() -> object:
        return await history.state_at(*some())

    async def intervals() -> object:
        return await history.timeline(some()[0], END - MONTH, END, _LIMIT)

    async def oee() -> object:
        found = await history.timeline(some()[0], END - MONTH, END, _LIMIT)
        spans = [Span(i.state, i.category, i.from_, i.to or END) for i in found]
        bounds = [END - MONTH + SHIFT * n for n in range(90)]
        return figures(filled(spans, END - MONTH, END), [Stretch(b, b + SHIFT) for b in bounds], UTC)

    async def raw_day() -> object:
        return await tags.samples(tag(), END - DAY, END, limit=_LIMIT)

    async def by_hour() -> object:
        return await tags.buckets(tag(), [END - MONTH + timedelta(hours=n) for n in range(721)])

    async def by_day_off_hours() -> object:
        begin = END - MONTH - timedelta(minutes=17)
        return await tags.buckets(tag(), [begin + DAY * n for n in range(31)])

    month = [END - MONTH + timedelta(hours=n) for n in range(721)]
    bare: Sequence[
        tuple[str, Callable[[], Awaitable[object]], float | None, tuple[str, Callable[[], Sequence[Any]]]]
    ] = (
        ("state at a time", state, GOAL_STATE_MS, ("transition_before", lambda: (GATEWAY, *some()))),
        (
            "30 days of intervals of one equipment",
            intervals,
            GOAL_INTERVALS_MS,
            ("moves_by_time", lambda: (GATEWAY, some()[0], END - MONTH, END, _LIMIT, STREAM, 2**62)),
        ),
        ("a month of OEE by shift", oee, None, ("", lambda: ())),
        (
            "a tag's samples of a day",
            raw_day,
            None,
            ("tag_samples", lambda: (GATEWAY, STREAM, tag(), END - DAY, END, _LIMIT)),
        ),
        (
            "a tag's month by the hour",
            by_hour,
            None,
            ("tag_hours", lambda: (GATEWAY, tag(), END - MONTH, END)),
        ),
        ("a tag's month by days that begin on no hour", by_day_off_hours, None, ("", lambda: ())),
        (
            "a tag's month by the hour from samples",
            lambda: connection.fetch(SQL["sample_buckets"], GATEWAY, tag(), month[:-1], month[1:]),
            None,
            ("", lambda: ()),
        ),
    )
    found: list[Figure] = []
    for name, ask, goal, (statement, arguments) in bare:
        floor = None
        if statement:
            floor = percentile(await _timed(partial(_bare, connection, statement, arguments)), 50)
        took = await _timed(ask)
        middle, slow = percentile(took, 50), percentile(took, 99)
        said = "its bare statement" if floor else ""
        found.append(Figure(f"queries: {name}, p50", middle, "ms", floor, said, goal=goal))
        found.append(Figure(f"queries: {name}, p99", slow, "ms", goal=goal))
    return found


async def _bare(
    connection: asyncpg.Connection[asyncpg.Record], statement: str, arguments: Callable[[], Sequence[Any]]
) -> object:
    return await connection.fetch(SQL[statement], *arguments())


async def _timed(ask: Callable[[], Awaitable[object]]) -> list[float]:
    took = []
    for _ in range(_TIMES + 3):
        began = time.perf_counter()
        answer = await ask()
        took.append((time.perf_counter() - began) * 1000)
        assert answer, "nothing was found"
    return took[3:]


#: Statements that history is asked by, with arguments as they come; each has to find its rows by an index.
QUESTIONS: Sequence[tuple[str, Sequence[Any]]] = (
    ("transition_before", (GATEWAY, "filler-7", END - MONTH)),
    ("transitions_by_seq", (GATEWAY, "filler-7", STREAM, 1000, 2**62, None, None, 100)),
    ("transitions_by_time", (GATEWAY, "filler-7", END - MONTH, END, 100, STREAM, 2**62)),
    ("moves_by_time", (GATEWAY, "filler-7", END - MONTH, END, 100, STREAM, 2**62)),
    ("events_after", (GATEWAY, STREAM, 1000, 500)),
    ("event_up_to", (GATEWAY, STREAM, 5000)),
    ("first_seq", (GATEWAY, STREAM)),
    ("rejections_between", (GATEWAY, "filler-7", STREAM, 1, 5000, 100)),
    ("tag_samples", (GATEWAY, STREAM, "plc/tag-3", END - DAY, END, 1000)),
    ("tag_hours", (GATEWAY, "plc/tag-3", END - MONTH, END)),
    ("sample_buckets", (GATEWAY, "plc/tag-3", [END - DAY], [END])),
    ("oldest_sample", (1,)),
)


async def plans(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """The plan of each question, by the name of its statement."""
    found = {}
    for name, arguments in QUESTIONS:
        statement = await connection.prepare(SQL[name])
        given = arguments[: len(statement.get_parameters())]
        rows = await connection.fetch(f"EXPLAIN {SQL[name]}", *given)
        found[name] = "\n".join(row[0] for row in rows)
    return found


def whole_tables(plan: str) -> list[str]:
    """The lines of a plan that read a whole table of history."""
    big = re.compile(r"Seq Scan on (transition|sample|sample_hour|_hyper_\w+)\b")
    return [line for line in plan.splitlines() if big.search(line)]


async def _plans(connection: asyncpg.Connection[asyncpg.Record]) -> Figure:
    bad = {name for name, plan in (await plans(connection)).items() if whole_tables(plan)}
    if bad:
        sys.stderr.write(f"these read whole tables: {', '.join(sorted(bad))}\n")
    return Figure(
        f"queries: statements that read a whole table, of {len(QUESTIONS)}", len(bad), "statements", goal=0
    )
