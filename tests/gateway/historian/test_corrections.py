"""Corrections in the database: SQL lays them over what was told exactly as everything else does."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.historian.migrate import migrate, migrations
from gateway.journal import Journal
from statemodel.corrected import in_force, overlay, told
from statemodel.records import Recorded, read_told
from statemodel.types import CorrectedState, Correction, Recordable
from tests.gateway.historian.databases import Database, drained, running
from tests.gateway.journal.builders import START, ManualClock, opened, transition

STATES = ("Idle", "Execute", "Held")
INTERVALS = "SELECT * FROM andon.intervals('line-1', 'filler-1', $1, $2, $3)"


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


def correction(*pieces: tuple[float, float, str], withdraws: Recorded | None = None) -> Correction:
    intervals = tuple(
        CorrectedState(state, len(state), None if state == "Held" else state.lower(), second(a), second(b))
        for a, b, state in pieces
    )
    if withdraws is not None:
        event = withdraws.event
        assert isinstance(event, Correction)
        bounds = event.at, event.until
    else:
        bounds = intervals[0].from_, intervals[-1].to
    return Correction(
        "filler-1",
        "area/line/filler-1",
        "packml",
        *bounds,
        intervals,
        "the cable\x00",
        "anna",
        withdraws=None if withdraws is None else withdraws.id,
    )


def drawn_pieces(rng: random.Random) -> list[tuple[float, float, str]]:
    bounds = sorted(rng.sample(range(-5, 125), 2 * rng.randint(1, 3)))
    return [(a, b, rng.choice(STATES)) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]


async def drawn_history(journal: Journal, clock: ManualClock, seed: int) -> list[Recorded]:
    """Transitions, some of them late and some at one instant, with corrections and withdrawals in between."""
    rng = random.Random(seed)
    done: list[Recorded] = []
    corrections: list[Recorded] = []
    sequence, at = 0, 0.0
    for _ in range(60):
        clock.advance(rng.choice((0.0, 1.0, 5.0)))
        event: Recordable
        if rng.random() < 0.6:
            sequence, at = sequence + 1, min(at + rng.choice((0.0, 1.0, 4.0)), 119.0)
            event = transition(sequence, at=second(at))
        elif corrections and rng.random() < 0.3:
            event = correction(withdraws=rng.choice(corrections))
        else:
            event = correction(*drawn_pieces(rng))
        recorded = (await journal.append([event]))[0]
        done.append(recorded)
        if isinstance(recorded.event, Correction) and recorded.event.withdraws is None:
            corrections.append(recorded)
    return done


def by_python(
    done: list[Recorded], from_: datetime, to: datetime, known_at: datetime
) -> list[tuple[Any, ...]]:
    to = min(to, known_at)  # nobody knew then how long the last state would last
    if to <= from_:
        return []
    moves = [r for r in done if r.type == "transition" and r.recorded_at <= known_at and r.at < to]
    before = [r for r in moves if r.at <= from_]
    found = told(before[-1:] + [r for r in moves if r.at > from_], from_, to)
    laid = overlay(found, in_force((r for r in done if r.type == "correction"), known_at))
    return [
        (s.state, s.code, s.category, s.begin, s.end, s.corrected, s.stream, s.seq)
        for s in laid
        if s.end > s.begin
    ]


async def by_sql(
    connection: asyncpg.Connection[asyncpg.Record], from_: datetime, to: datetime, known_at: datetime
) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(INTERVALS, from_, to, known_at)
    names = ("state", "code", "category", "since", "until", "corrected")
    return [(*(row[name] for name in names), str(row["stream"]), row["seq"]) for row in rows]


@pytest.mark.parametrize("seed", range(4))
async def test_sql_and_python_lay_corrections_over_in_the_same_way(
    database: Database, tmp_path: Path, seed: int
) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        done = await drawn_history(journal, clock, seed)
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    rng = random.Random(seed + 1000)
    connection = await database.connect()
    corrected = 0
    try:
        for _ in range(40):
            begin = rng.uniform(-5, 110)
            end = begin + rng.uniform(0.5, 130)
            known = rng.uniform(0, 200)
            if rng.random() < 0.5:  # exactly at bounds as well
                begin, end, known = (
                    float(int(begin)),
                    float(int(begin)) + int(end - begin) + 1,
                    float(int(known)),
                )
            asked = second(begin), second(end), second(known)
            answer = await by_sql(connection, *asked)
            assert answer == by_python(done, *asked), f"seed {seed}, {begin} to {end}, known at {known}"
            corrected += sum(row[5] for row in answer)
    finally:
        await connection.close()
    assert corrected > 40, "the drawn histories have too little to prove anything"


async def test_the_view_tells_what_is_known_now_and_the_other_what_was_told(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal:
        first = await journal.append([transition(1), transition(2, at=second(10))])
        made = (await journal.append([correction((3, 5, "Held"))]))[0]
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)

    rows = await database.rows("SELECT * FROM andon.corrected_interval ORDER BY since")
    assert [(row["state"], row["corrected"], row["seq"], row["duration_s"]) for row in rows] == [
        ("Execute", False, first[0].seq, 2.0),
        ("Held", True, made.seq, 2.0),
        ("Execute", False, first[0].seq, 5.0),
        ("Idle", False, first[1].seq, None),
    ]
    assert rows[-1]["until"] is None
    assert await database.value("SELECT count(*) FROM andon.state_interval") == 2


async def test_a_correction_is_in_the_one_sequence_byte_for_byte(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        made = await journal.append([transition(1), correction((3, 5, "Held"), (6, 7, "Idle"))])
        taken_back = (await journal.append([correction(withdraws=made[1])]))[0]
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
            assert await historian.events_after(0, 10) == [*made, taken_back]
            assert await historian.corrections("filler-1", second(0), second(4), None, 10) == [
                made[1],
                taken_back,
            ]
            assert not await historian.corrections("filler-1", second(7), second(9), None, 10)
            assert not await historian.corrections("oven-1", second(0), second(9), None, 10)
    row = (await database.rows("SELECT * FROM andon.correction ORDER BY seq"))[0]
    assert (row["author"], row["reason"], row["withdraws"]) == ("anna", "the cable\ufffd", None)
    assert (row["at"], row["until"]) == (second(3), second(7))


async def test_the_way_back_keeps_every_correction(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        made = (await journal.append([transition(1), correction((3, 5, "Held"))]))[1]
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    number = next(step.number for step in migrations() if step.name == "corrections")
    connection = await database.connect()
    try:
        await migrate(connection, to=number - 1)
    finally:
        await connection.close()
    rows = await database.rows("SELECT first, type, body FROM andon.set_aside WHERE type = 'correction'")
    assert [(row["first"], row["body"].encode()) for row in rows] == [(made.seq, made.json)]
    assert read_told(rows[0]["body"].encode(), "correction") == made
    assert await database.value("SELECT to_regclass('andon.correction') IS NULL")
    assert not await database.value("SELECT count(*) FROM pg_proc WHERE proname = 'intervals'")


async def test_the_schema_people_read_has_the_function_of_the_migration(database: Database) -> None:
    source = "SELECT pg_get_functiondef('andon.intervals'::regproc)"
    folder = Path(__file__).parents[3] / "gateway" / "historian" / "sql"
    await database.do((folder / "schema.sql").read_text(encoding="utf-8"))
    wanted = await database.value(source)
    await database.do("DROP SCHEMA andon CASCADE")
    connection = await database.connect()
    try:
        await migrate(connection)
    finally:
        await connection.close()
    assert await database.value(source) == wanted
