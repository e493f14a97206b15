"""After an outage what comes now is in the database at once; what gathered meanwhile follows, all once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.errors import JournalForeign
from gateway.historian import Historian
from gateway.historian.keeping import Keeper
from gateway.historian.lanes import Held, Range
from gateway.historian.migrate import migrate, migrations
from gateway.historian.session import Session
from gateway.history import JoinedHistory
from gateway.journal import Cursor, Journal
from gateway.tag_history import JoinedTagHistory
from statemodel.tag_history import DatedSample, dated, summed_up
from tests.gateway.historian.databases import (
    Database,
    Proxy,
    build,
    drained,
    historian_settings,
    running,
    until,
)
from tests.gateway.journal.builders import START, batch, opened, transition

#: So slow that after its first portion a backlog stays what it is for as long as a test takes.
HELD = {"batch_rows": 30, "backlog_rate": 1}
FAST = {"batch_rows": 30}
FAR = timedelta(days=1)


async def write(journal: Journal, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await journal.append([transition(n)], [batch(n)])


async def whole(database: Database, count: int) -> None:
    """The database holds transitions 1 to `count` and their samples, each once and to the byte."""
    assert await database.rows("SELECT seq FROM andon.transition ORDER BY seq") == [
        (n,) for n in range(1, count + 1)
    ]
    doubles = "SELECT at, value FROM andon.sample GROUP BY 1, 2, tag_id HAVING count(*) > 1"
    assert await database.rows(doubles) == []
    assert await database.value("SELECT count(*) FROM andon.sample") == 3 * count
    assert await database.rows("SELECT * FROM andon.sink_range") == []


async def overtaken(journal: Journal, historian: Historian, first: int, last: int) -> None:
    """Write while a backlog is held up, and wait until just that is there."""
    await until(lambda: historian.status().backlog_batches > 0 and historian.status().transactions > 0)
    before = historian.drained
    await write(journal, first, last)
    await until(lambda: historian._drain.held.newest.seq == last)
    assert historian.drained.batch - before.batch <= 20, "the backlog is still held up"


async def test_what_comes_now_is_there_before_what_gathered_during_an_outage(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal:
        await write(journal, 1, 100)
        async with running(journal, database.dsn, **HELD) as historian:
            await overtaken(journal, historian, 101, 105)
            seqs = [r[0] for r in await database.rows("SELECT seq FROM andon.transition ORDER BY seq")]
            assert seqs[-5:] == [101, 102, 103, 104, 105]
            assert await database.value("SELECT max(at) FROM andon.sample") == START + timedelta(seconds=105)
            gathered = historian.drained
            assert seqs[:-5] == list(range(1, gathered.seq + 1)), "oldest first"
            assert 0 < gathered.seq < 100
            assert 0 < gathered.batch < 100
            status = historian.status()
            assert status.lag_events == status.backlog_events == 100 - gathered.seq
            assert status.lag_batches == status.backlog_batches == 100 - gathered.batch
            assert status.caught_up_at is not None
            [late] = await database.rows("SELECT * FROM andon.late_range")
            assert (late["after_seq"], late["up_to_seq"], late["written_at"]) == (0, 100, None)
            assert (late["after_batch"], late["up_to_batch"]) == (0, 100)
            assert late["recorded_from"] == START
            assert await journal.cursor("historian") == gathered, "only what is whole frees the journal"
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)
            assert historian.first_seq == 1
            status = historian.status()
            assert (status.lag_events, status.backlog_events, status.caught_up_at) == (0, 0, None)
            assert status.moved_by_others == 0
    await whole(database, 105)
    [late] = await database.rows("SELECT up_to_seq, written_at IS NOT NULL FROM andon.late_range")
    assert tuple(late) == (100, True)


async def test_nothing_is_deleted_while_what_gathered_during_an_outage_is_on_its_way(
    database: Database, tmp_path: Path
) -> None:
    told, later = "old samples are not deleted yet", START + timedelta(days=10)
    retention = timedelta(days=5)
    async with opened(tmp_path) as journal:
        await write(journal, 1, 100)
        async with running(journal, database.dsn, **HELD, retention=retention) as historian:
            await overtaken(journal, historian, 101, 105)
            before = await database.value("SELECT count(*) FROM andon.sample")
            with capture_logs() as lines:
                for _ in range(2):
                    assert await historian.keeper.round(later)
            assert await database.value("SELECT count(*) FROM andon.sample") >= before > 0
            assert len([line for line in lines if told in line["event"]]) == 1
        async with running(journal, database.dsn, **FAST, retention=retention) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)
        waiting: list[datetime] = [START]
        keeper = Keeper(
            database.dsn,
            gateway="line-1",
            settings=historian_settings(database.dsn, retention=retention),
            clock=SystemClock(),
            is_connected=lambda: True,
            oldest_unsent_at=lambda: waiting[0],
        )
        assert await keeper.round(later)
        assert await database.value("SELECT count(*) FROM andon.sample") == 3 * 105
        waiting[0] = later
        assert await keeper.round(later)
    assert await database.value("SELECT count(*) FROM andon.sample") < 3 * 105


async def test_every_further_outage_is_a_hole_more_and_all_close(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        written = 0
        for hole in (1, 2, 3):
            await write(journal, written + 1, written + 100)
            async with running(journal, database.dsn, **HELD) as historian:
                await until(lambda hole=hole: len(historian._drain.held.beyond) == hole)  # type: ignore[misc]
                await overtaken(journal, historian, written + 101, written + 110)
            written += 110
        ranges = await database.rows("SELECT after_seq, seq FROM andon.sink_range ORDER BY 1")
        assert [tuple(r) for r in ranges] == [(100, 110), (210, 220), (320, 330)]
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)  # closed a moment later
    await whole(database, 330)
    assert await database.value("SELECT count(*) FROM andon.late_range WHERE written_at IS NOT NULL") == 3


async def test_a_little_waiting_opens_no_second_lane(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await write(journal, 1, 15)
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)  # closed a moment later
    await whole(database, 15)
    assert await database.value("SELECT count(*) FROM andon.late_range") == 0


async def test_many_transitions_are_copied_with_the_same_columns_as_few(
    database: Database, tmp_path: Path
) -> None:
    """Copied when they are many, inserted when they are few, or when some are there already."""
    odd = transition(1, "Füller \U0001f600")
    odd = replace(odd, code=None, category=None, cause=replace(odd.cause, text="a\x00b 'x'", rule='"\\'))
    events = [odd, *(transition(n, f"filler-{n % 7}") for n in range(2, 300))]
    read = "SELECT {} FROM andon.transition ORDER BY gateway, seq"
    columns = (
        "seq, equipment, path, model, sequence, from_state, to_state, code, category, at, recorded_at, "
        "duration_s, conformance, cause"
    )
    for gateway in ("few", "many"):
        async with opened(tmp_path / gateway, gateway=gateway) as journal:
            for event in events:
                await journal.append([event])
            settings = {"batch_rows": 99} if gateway == "few" else {}
            async with running(journal, database.dsn, gateway=gateway, **settings) as historian:
                await drained(historian, journal)
                told = await journal.read(0, 1000)
                assert await historian.events_after(0, 1000) == told
    rows = [tuple(row) for row in await database.rows(read.format(columns))]
    assert rows[: len(events)] == rows[len(events) :]
    assert len(rows) == 2 * len(events)
    await database.do("UPDATE andon.sink_cursor SET seq = 10", "DELETE FROM andon.transition WHERE seq = 200")
    async with (
        opened(tmp_path / "many", gateway="many") as journal,
        running(journal, database.dsn, gateway="many") as historian,
    ):
        await until(lambda: historian.status().events == len(events) - 10)
        assert historian.status().set_aside == 0
        assert await historian.events_after(0, 1000) == told


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
async def test_whenever_it_is_killed_everything_is_there_once(
    database: Database, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    written, holes = 0, 0
    async with opened(tmp_path) as journal:
        for turn in range(12):
            for _ in range(chance.choice((0, 40, 90)) if turn else 90):
                written += 1
                await journal.append([transition(written)], [batch(written)])
            rate = chance.choice((0, 300, 3000)) if turn else 1
            async with running(journal, database.dsn, batch_rows=30, backlog_rate=rate) as historian:
                await until(lambda: historian.status().connected)
                if not turn:
                    await until(lambda: len(historian._drain.held.beyond) > 0)
                for _ in range(chance.randrange(30)):
                    written += 1
                    await journal.append([transition(written)], [batch(written)])
                    await asyncio.sleep(chance.random() / 200)
                holes = max(holes, len(historian._drain.held.beyond))
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)  # closed a moment later
            assert historian.status().moved_by_others == 0
    assert holes > 0, "there were two lanes when it was killed"
    await whole(database, written)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_line_cut_around_a_commit_of_either_lane_loses_and_doubles_nothing(
    database: Database, tmp_path: Path, cut: str
) -> None:
    proxy, written = Proxy(database.dsn), 0
    async with opened(tmp_path) as journal, proxy.listening() as dsn:
        await write(journal, 1, 300)
        written = 300
        async with running(journal, dsn, batch_rows=30, backlog_rate=1500) as historian:
            for _ in range(3):
                await until(lambda: historian.status().connected)
                cuts, proxy.cut = proxy.cuts, cut
                while proxy.cuts == cuts:
                    written += 1
                    await journal.append([transition(written)], [batch(written)])
                    await asyncio.sleep(0.005)
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)  # the last range is closed a moment later
    await whole(database, written)


async def test_a_range_moved_by_another_is_noticed_counted_and_survived(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal:
        await write(journal, 1, 100)
        async with running(journal, database.dsn, **HELD) as historian:
            await overtaken(journal, historian, 101, 103)
            await database.do("UPDATE andon.sink_range SET seq = 102, batch = 102")
            await write(journal, 104, 104)
            await until(lambda: historian.status().moved_by_others == 1)
            await until(lambda: historian.status().connected)
            await until(lambda: historian._drain.held.newest.seq == 104)


async def test_an_older_journal_is_known_by_a_range_too(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await write(journal, 1, 100)
        async with running(journal, database.dsn, **HELD) as historian:
            await overtaken(journal, historian, 101, 103)
        other = build(journal, database.dsn)
        other._drain._found = replace(journal.position, last_seq=102, last_batch=102)
        with pytest.raises(JournalForeign, match="older copy"):
            await other.run()


async def test_the_way_back_is_barred_while_there_are_ranges(database: Database, tmp_path: Path) -> None:
    before = next(step.number for step in migrations() if step.name == "ranges") - 1
    async with opened(tmp_path) as journal:
        await write(journal, 1, 100)
        async with running(journal, database.dsn, **HELD) as historian:
            await overtaken(journal, historian, 101, 103)
        connection = await database.connect()
        with pytest.raises(asyncpg.RaiseError, match="catch up"):
            await migrate(connection, before)
        await connection.close()
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)
    connection = await database.connect()
    await migrate(connection, before)
    await connection.close()


# -- questions while a backlog is on its way


async def told(history: JoinedHistory, page: int) -> list[int]:
    """All events there are, page by page, as a stream reads them."""
    seqs: list[int] = []
    while events := await history.events_after(seqs[-1] if seqs else 0, page):
        seqs += [event.seq for event in events]
    return seqs


async def check_answers(journal: Journal, historian: Historian, samples: Sequence[DatedSample]) -> None:
    count = len(samples)
    history, tags = JoinedHistory(journal, historian), JoinedTagHistory(journal, historian)
    for page in (7, 1000):
        assert await told(history, page) == list(range(1, count + 1))
    for limit in (5, 1000):
        found = await history.transitions("filler-1", after=0, from_=None, to=None, limit=limit)
        assert [r.seq for r in found] == list(range(1, count + 1))[:limit]
        since = START + timedelta(seconds=2)
        between = await history.timeline("filler-1", since, START + FAR, limit)
        assert [interval.seq for interval in between] == list(range(2, count + 1))[:limit]
    for limit in (4, 1000):
        answer = await tags.samples("plc/tag-1", START - FAR, START + FAR, limit=limit)
        assert answer.items == list(samples)[:limit]
        assert answer.incomplete is None
    bounds = [START + timedelta(seconds=n) for n in range(0, count + 20, 10)]
    figures = await tags.buckets("plc/tag-1", bounds)
    wanted = summed_up(None, samples, bounds)
    assert [(b.count, b.min, b.max, b.last) for b in figures.items] == [
        (b.count, b.min, b.max, b.last) for b in wanted
    ]


@pytest.mark.timeout(400)
async def test_answers_have_no_hole_no_double_and_no_leap_while_a_backlog_is_written(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of the journal are freed, so that the database has to be asked. The backlog goes on by a portion
    each time something is asked, however fast the machine is."""
    samples: list[DatedSample] = []
    async with opened(tmp_path, keep=timedelta(0), segment_bytes=60_000) as journal:

        async def more(by: int) -> None:
            for _ in range(by):
                count = len(samples) + 1
                received = batch(count)
                # Of two equal times the database keeps one.
                undated = tuple(replace(sample, source_at=None) for sample in received.samples)
                await journal.append([transition(count)], [replace(received, samples=undated)])
                samples.append(dated(undated[1], received.received_at))

        async with running(journal, database.dsn, **FAST) as historian:
            while journal.position.first_seq == 1:
                await more(50)
                await drained(historian, journal)
        for _ in range(3):
            await more(120)
            async with running(journal, database.dsn, **FAST) as historian:
                ready, turns = historian._drain._ready, asyncio.Semaphore(0)

                async def in_turn(
                    session: Session,
                    before: Cursor,
                    ready: Any = ready,
                    turns: asyncio.Semaphore = turns,
                ) -> Any:
                    await turns.acquire()
                    return await ready(session, before)

                monkeypatch.setattr(historian._drain, "_ready", in_turn)
                await until(lambda: historian.status().connected)
                for _ in range(4):
                    await more(10)
                    turns.release()
                    await until(lambda: historian._drain.held.newest.seq == len(samples))
                    await check_answers(journal, historian, samples)
                assert historian._drain.held.beyond, "asked while there was a hole"
        async with running(journal, database.dsn, **FAST) as historian:
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)  # closed a moment later
            await check_answers(journal, historian, samples)


# -- arithmetic


def test_what_is_held_is_counted() -> None:
    held = Held(Cursor(10, 5)).begun(Cursor(20, 8)).moved(Cursor(20, 8), Cursor(24, 9)).begun(Cursor(30, 9))
    assert held.beyond == (Range(Cursor(20, 8), Cursor(24, 9)), Range(Cursor(30, 9), Cursor(30, 9)))
    assert held.newest == Cursor(30, 9)
    assert held.in_holes() == (10 + 6, 3 + 0)
    assert [list(s) for s in held.batches_missing()] == [[5, 8], [9, 2**62]]
    held = held.moved(None, Cursor(20, 8)).joined()
    assert (held.cursor, held.hole_end) == (Cursor(24, 9), Cursor(30, 9))
    assert held.moved(None, Cursor(30, 9)).joined() == Held(Cursor(30, 9))
