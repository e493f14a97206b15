"""What a journal that was set aside holds reaches the database exactly once, under its own stream."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.config.load import Loaded, load
from gateway.historian.historian import Historian
from gateway.journal import Journal
from gateway.snapshots.foreign import ForeignJournal
from gateway.snapshots.importing import (
    Imported,
    ImportRefused,
    equipment_of,
    import_folder,
    refuse_live,
    tags_of,
)
from tests.gateway.journal.builders import PATIENCE_S, batch, opened, transition
from tests.gateway.snapshots.sites import lay_out, write_journal
from tests.support.database import new_database, timescale_dsn


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with new_database(timescale_dsn()) as made:
        yield made


def site(tmp_path: Path, dsn: str, **changed: str) -> Loaded:
    config = lay_out(tmp_path / "site", **changed)
    return load(config, environment={"ANDON_DATABASE": dsn})


async def run_import(
    folder: Path, loaded: Loaded, dsn: str, scratch: Path
) -> tuple[Imported, list[Imported]]:
    told: list[Imported] = []
    scratch.mkdir(exist_ok=True)  # noqa: ASYNC240
    with closing(ForeignJournal(folder, scratch)) as journal:
        return await import_folder(journal, loaded, dsn, progress=told.append), told


async def rows(dsn: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) if len(row) > 1 else row[0] for row in await connection.fetch(sql, *args)]
    finally:
        await connection.close()


SEQS = "SELECT seq FROM andon.transition WHERE stream = $1 ORDER BY seq"
SAMPLES = "SELECT count(*) FROM andon.sample"
MISSING = "SELECT numbering, first, last FROM andon.set_aside WHERE kind = 'missing' ORDER BY 1, 2"


async def test_all_of_it_arrives_once_however_often_it_is_imported(tmp_path: Path, dsn: str) -> None:
    loaded = site(tmp_path, dsn)
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"

    first, told = await run_import(folder, loaded, dsn, tmp_path / "s")
    again, _ = await run_import(folder, loaded, dsn, tmp_path / "s")

    assert await rows(dsn, SEQS, stream) == list(range(1, 31))
    assert await rows(dsn, SAMPLES) == [30 * 60]
    assert (first.events, first.samples, first.missing, first.damage) == (30, 1800, (), ())
    assert (again.events, again.samples, again.cursor) == (0, 0, first.cursor)
    assert [t.cursor.seq for t in told] == sorted(t.cursor.seq for t in told)


async def test_only_what_the_database_lacks_is_written(tmp_path: Path, dsn: str) -> None:
    """The historian had come part of the way when the journal was set aside."""
    loaded = site(tmp_path, dsn)
    settings = loaded.configuration.historian
    assert settings is not None
    folder = tmp_path / "site/data/journal"
    async with opened(folder, segment_bytes=40_000) as journal:
        for n in range(1, 11):
            await journal.append([transition(n)], [batch(n, 60)])
        await drained(journal, dsn, loaded)
        for n in range(11, 25):
            await journal.append([transition(n)], [batch(n, 60)])
        stream = journal.stream

    done, _ = await run_import(folder, loaded, dsn, tmp_path / "s")

    assert (done.events, done.samples) == (14, 14 * 60)
    assert await rows(dsn, SEQS, stream) == list(range(1, 25))
    assert await rows(dsn, SAMPLES) == [24 * 60]


async def drained(journal: Journal, dsn: str, loaded: Loaded) -> None:
    """A historian at work until it has all of it."""
    settings = loaded.configuration.historian
    assert settings is not None
    historian = Historian(
        dsn,
        journal=journal,
        gateway="line-1",
        settings=settings,
        clock=journal._clock,
        tags=tags_of(loaded),
        equipment=equipment_of(loaded),
    )
    task = asyncio.create_task(historian.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while historian.drained.seq < journal.position.last_seq:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_cannot_be_read_is_told_by_number_and_the_rest_arrives(tmp_path: Path, dsn: str) -> None:
    loaded = site(tmp_path, dsn)
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"
    segments = sorted(folder.glob("journal-*.db"))
    assert len(segments) > 3
    begins, ends = (int(path.name.split("-")[2]) for path in segments[1:3])
    segments[1].write_bytes(b"\x00" * segments[1].stat().st_size)

    done, _ = await run_import(folder, loaded, dsn, tmp_path / "s")

    lost = list(range(begins, ends))
    assert await rows(dsn, SEQS, stream) == [n for n in range(1, 31) if n not in lost]
    assert [(m.numbering, m.first, m.last) for m in done.missing if m.numbering == "event"] == [
        ("event", begins, ends - 1)
    ]
    assert ("event", begins, ends - 1) in await rows(dsn, MISSING)
    assert segments[1].name in done.damage[0].path


async def test_a_newest_segment_that_is_ruined_costs_only_itself(tmp_path: Path, dsn: str) -> None:
    loaded = site(tmp_path, dsn)
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"
    newest = sorted(folder.glob("journal-*.db"))[-1]
    newest.write_bytes(b"ruined" * 1000)
    done, _ = await run_import(folder, loaded, dsn, tmp_path / "s")
    last = int(newest.name.split("-")[2]) - 1
    assert await rows(dsn, SEQS, stream) == list(range(1, last + 1))
    assert newest.name in done.damage[0].path


async def test_damaged_numbers_are_not_believed(tmp_path: Path, dsn: str) -> None:
    """A stream is set aside because it is damaged: the first numbers it lost are not made up."""
    loaded = site(tmp_path, dsn)
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"
    newest = sorted(folder.glob("journal-*.db"))[-1]
    async with opened(folder) as journal:
        for n in range(31, 35):
            await journal.append([transition(n)], [batch(n)])
    with closing(sqlite3.connect(newest, isolation_level=None)) as db:
        (number,) = db.execute("SELECT max(number) - 2 FROM block").fetchone()
        db.execute("UPDATE block SET event_count = 1000000000 WHERE number = ?", (number,))

    done, _ = await run_import(folder, loaded, dsn, tmp_path / "s")

    assert done.cursor.seq == 34
    assert set(await rows(dsn, SEQS, stream)) >= set(range(1, 32))
    assert [m for m in done.missing if m.last > 34] == []


async def test_an_import_that_is_cut_off_goes_on_where_it_stopped(tmp_path: Path, dsn: str) -> None:
    text = (lay_out(tmp_path / "site")).read_text().replace("[historian]", "[historian]\nbatch_rows = 100")
    loaded = site(tmp_path, dsn, **{"andon.toml": text})
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"

    class CutOff(Exception):
        """Somebody pulled the plug."""

    def cut(done: Imported) -> None:
        if done.cursor.batch >= 6:
            raise CutOff

    (tmp_path / "s").mkdir()
    with closing(ForeignJournal(folder, tmp_path / "s")) as journal, pytest.raises(CutOff):
        await import_folder(journal, loaded, dsn, progress=cut)
    assert 0 < (await rows(dsn, SAMPLES))[0] < 1800

    done, told = await run_import(folder, loaded, dsn, tmp_path / "s")

    assert told[0].cursor.batch >= 6
    assert done.samples < 1800
    assert await rows(dsn, SEQS, stream) == list(range(1, 31))
    assert await rows(dsn, SAMPLES) == [1800]


async def test_two_imports_at_once_write_it_once(tmp_path: Path, dsn: str) -> None:
    text = (lay_out(tmp_path / "site")).read_text().replace("[historian]", "[historian]\nbatch_rows = 60")
    loaded = site(tmp_path, dsn, **{"andon.toml": text})
    stream = await write_journal(tmp_path / "site")
    folder = tmp_path / "site/data/journal"
    results = await asyncio.gather(
        *(run_import(folder, loaded, dsn, tmp_path / f"s{n}") for n in range(2)), return_exceptions=True
    )
    assert any(not isinstance(result, BaseException) for result in results)
    assert await rows(dsn, SEQS, stream) == list(range(1, 31))
    assert await rows(dsn, SAMPLES) == [1800]


async def test_the_journal_of_another_gateway_is_refused(tmp_path: Path, dsn: str) -> None:
    loaded = site(tmp_path, dsn)
    async with opened(tmp_path / "other", gateway="line-2") as journal:
        await journal.append([transition(1)])
    with pytest.raises(ImportRefused, match='"line-2"'):
        await run_import(tmp_path / "other", loaded, dsn, tmp_path / "s")


async def test_a_stream_the_database_knows_otherwise_is_refused(tmp_path: Path, dsn: str) -> None:
    loaded = site(tmp_path, dsn)
    folder = tmp_path / "one"
    async with opened(folder) as journal:
        await journal.append([transition(1)])
    shutil.copytree(folder, tmp_path / "two")
    for name, n in (("one", 2), ("two", 9)):
        async with opened(tmp_path / name) as journal:
            await journal.append([transition(n)])
    await run_import(tmp_path / "one", loaded, dsn, tmp_path / "s")
    with pytest.raises(ImportRefused, match="event 2"):
        await run_import(tmp_path / "two", loaded, dsn, tmp_path / "s2")


async def test_a_journal_that_is_open_is_left_to_its_gateway(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        await journal.append([transition(1)])
        with pytest.raises(ImportRefused, match="open by process"):
            refuse_live(tmp_path / "journal")
    refuse_live(tmp_path / "journal")
