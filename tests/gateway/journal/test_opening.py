"""Who may open a journal, and what damage does."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.errors import JournalDamaged, JournalFailed, JournalForeign, JournalInUse, StartFailed
from gateway.journal import Cursor, recovery
from gateway.journal.segment import FORMAT
from statemodel.types import Recordable, SourceLost
from tests.gateway.journal.builders import START, ManualClock, batch, fill, kept_house, opened, transition
from tests.gateway.journal.damaging import spoil, write_legacy


def fingerprint(directory: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir() if p.name != "lock"
    }


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*.db"))


def newest(directory: Path) -> Path:
    return segments(directory)[-1]


async def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(JournalInUse) as refused:
            async with opened(tmp_path):
                pass
    assert str(os.getpid()) in refused.value.reason
    async with opened(tmp_path):
        pass


async def test_another_gateways_journal_is_refused_untouched(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1)])
    before = fingerprint(tmp_path)
    with pytest.raises(JournalForeign) as refused:
        async with opened(tmp_path, gateway="line-2"):
            pass
    assert "line-1" in refused.value.reason
    assert "line-2" in refused.value.reason
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(("pragma", "told"), [("user_version = 99", "99"), ("application_id = 7", "0x7")])
async def test_a_newer_or_strange_file_is_refused_untouched(tmp_path: Path, pragma: str, told: str) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1)])
    with closing(sqlite3.connect(newest(tmp_path))) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA {pragma}")
    before = fingerprint(tmp_path)
    with pytest.raises(JournalForeign) as refused:
        async with opened(tmp_path):
            pass
    assert told in refused.value.reason
    assert fingerprint(tmp_path) == before


def format_of(path: Path) -> int:
    """As an older version reads it: from the first bytes of the file, without its log."""
    return int.from_bytes(path.read_bytes()[60:64], "big")


@pytest.mark.parametrize("format_", [1, 2])
async def test_a_journal_of_an_older_version_is_gone_on_with(tmp_path: Path, format_: int) -> None:
    """It is finished as it is; a segment of the present format, which the older version refuses, follows."""
    events: list[Recordable] = [transition(1), transition(2, "oven"), SourceLost("plc", START, "silent")]
    batches = [batch(1)]
    told = write_legacy(tmp_path, events, batches, at=START, format_=format_)
    old = newest(tmp_path)
    assert old.with_name(old.name + "-wal").exists()
    async with opened(tmp_path) as journal:
        assert await journal.read(0, 10) == told
        assert await journal.read_batches(0, 10) == [(1, batches[0])]
        assert await journal.last_transitions() == {"filler-1": told[0], "oven": told[1]}
        assert (await journal.alive(), await journal.cursor("database")) == ({"plc": START}, Cursor(2, 1))
        assert await journal.transitions("oven", after=0, from_=None, to=None, limit=9) == told[1:2]
        assert await journal.transition_before("oven", START + timedelta(days=1)) == told[1]
        [added] = await journal.append([transition(3)], [batch(2)])
        assert (added.seq, added.stream) == (4, told[0].stream)
    assert [format_of(path) for path in segments(tmp_path)] == [format_, FORMAT]
    assert not old.with_name(old.name + "-wal").exists()
    async with opened(tmp_path) as journal:
        assert await journal.read(0, 10) == [*told, added]
        assert await journal.verify() == []
        assert [n for n, _ in await journal.read_batches(0, 10)] == [1, 2]


async def test_a_taking_over_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    """Killed between finishing the old segment and beginning the new one."""
    told = write_legacy(tmp_path, [transition(1)], [], at=START, finished=True)
    (tmp_path / "journal-00000002-2-1.new").write_bytes(b"half a segment")
    async with opened(tmp_path) as journal:
        assert await journal.read(0, 10) == told
        assert [r.seq for r in await journal.append([transition(2)])] == [2]
    assert len(segments(tmp_path)) == 2


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StartFailed, match="file/journal"):
        async with opened(tmp_path / "file" / "journal"):
            pass


async def test_a_lock_that_is_no_file_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StartFailed, match="lock") as refused:
        async with opened(tmp_path):
            pass
    assert str(tmp_path / "lock") in refused.value.reason
    assert "plain file" in refused.value.hint


async def test_a_folder_removed_while_running_is_a_named_failure(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "journal", clock=clock) as journal:
        await journal.append([transition(1)])
        waiting = asyncio.create_task(journal.wait_beyond(1, 0))
        shutil.rmtree(tmp_path / "journal")
        # The house-keeper finds it by itself, and tells who waits.
        await kept_house(journal, clock, waiting.done)
        for refused in (waiting, journal.append([transition(2)])):
            with pytest.raises(JournalFailed, match=str(tmp_path)) as failed:
                await refused
            assert "mounted" in failed.value.hint


async def test_an_append_finds_the_folder_removed(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        shutil.rmtree(tmp_path / "journal")
        with pytest.raises(JournalFailed, match=str(tmp_path)) as failed:
            await journal.append([transition(1)])
        assert "mounted" in failed.value.hint


async def test_damage_in_a_finished_segment_leaves_out_only_what_it_hit(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 3)
    path = segments(tmp_path)[0]
    spoil(path, seq=7)
    async with opened(tmp_path) as journal:
        assert [r.seq for r in await journal.read(0, 10**6)] == [n for n in range(1, last + 1) if n != 7]
        [damage] = journal.stats().damaged
        assert (damage.path, damage.seq) == (str(path), 7)
        assert [d.seq for d in await journal.verify()] == [7]
        await journal.append([transition(last + 1)])


async def test_a_finished_segment_that_is_no_database_any_more_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 4)
    one, two, three, *_ = segments(tmp_path)
    one.write_bytes(b"\x00" * 5000)
    two.unlink()
    async with opened(tmp_path) as journal:
        read = [r.seq for r in await journal.read(0, 10**6)]
        assert read == list(range(read[0], last + 1))
        assert {d.path for d in journal.stats().damaged} == {str(one), str(three)}


async def test_a_missing_middle_segment_is_told_and_does_not_stop_the_gateway(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 3)
        [_, first, _] = [int(path.name.split("-")[2]) for path in segments(tmp_path)]
    _, two, three = segments(tmp_path)
    two.unlink()
    async with opened(tmp_path) as journal:
        [damage] = journal.stats().damaged
        assert (damage.path, damage.seq) == (str(three), first)
        assert f"events {first} to" in damage.reason
        assert [r.seq for r in await journal.append([transition(last + 1)])] == [last + 1]


@pytest.mark.parametrize("number", [1, 2, 9])
async def test_a_copy_of_a_segment_under_another_name_is_refused(tmp_path: Path, number: int) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        await fill(journal, 3)
    one = segments(tmp_path)[0]
    shutil.copy(one, tmp_path / f"journal-{number:08d}-1-7.db")
    with pytest.raises(JournalDamaged) as refused:
        async with opened(tmp_path):
            pass
    assert f"journal-{number:08d}-1-7.db" in refused.value.reason
    assert "out of the folder" in refused.value.hint


async def test_a_folder_named_like_a_segment_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal-00000001-1-1.db").mkdir()
    with pytest.raises(JournalDamaged, match="is a folder"):
        async with opened(tmp_path):
            pass


async def test_a_log_torn_anywhere_opens_with_an_unbroken_beginning(tmp_path: Path) -> None:
    """Every kind of cut through the write-ahead log: no start is refused, no number is missing."""
    crashed, trial = tmp_path / "crashed", tmp_path / "trial"
    async with opened(tmp_path / "live", segment_bytes=10**9) as journal:
        written = [r for n in range(1, 9) for r in await journal.append([transition(n)], [batch(n)])]
        shutil.copytree(tmp_path / "live", crashed)
    log = next(crashed.glob("*-wal"))
    whole = log.read_bytes()
    held = set()
    for size in sorted({*range(0, len(whole), 997), *range(0, len(whole), 4120), len(whole)}):
        for tail in (b"", b"\x00" * 4096):
            shutil.rmtree(trial, ignore_errors=True)
            shutil.copytree(crashed, trial)
            (trial / log.name).write_bytes(whole[:size] + tail)
            async with opened(trial) as journal:
                read = await journal.read(0, 100)
                assert read == written[: len(read)]
                assert journal.position.last_batch == len(read)
                held.add(len(read))
    assert {0, len(written)} <= held


async def test_after_a_refused_write_nothing_is_taken_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=10**9) as journal:
        [kept] = await journal.append([transition(1)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            with pytest.raises(JournalFailed) as failed:
                await journal.append([transition(2)], [batch(1, 5000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(tmp_path) in failed.value.reason
        for refused in (journal.append([transition(3)]), journal.cursor("x"), journal.wait_beyond(1, 0)):
            with pytest.raises(JournalFailed):
                await refused
    async with opened(tmp_path) as journal:
        assert (await journal.read(0, 1)) == [kept]
        assert [r.seq for r in await journal.append([transition(3)])] == [journal.position.last_seq]


@pytest.mark.parametrize(
    ("code", "blamed"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_IOERR_SHORT_READ, False),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False),
    ],
)
def test_a_disk_without_room_is_not_taken_for_damage(code: int, blamed: bool) -> None:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code

    assert recovery.disk_is_to_blame(error) is blamed
