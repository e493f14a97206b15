"""The power goes, comes back and goes again: what was synced is there, of the rest anything or nothing."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.journal import Cursor, Journal, files, wal
from gateway.journal.anew import begin_anew
from gateway.journal.segment import Segment
from tests.gateway.journal.builders import START, ManualClock, batch, fill, opened, transition
from tests.gateway.journal.faults import FAST, LONG, put_down, segments

PAGE_BYTES = 4096
FRAME_BYTES = 24 + PAGE_BYTES
HEADER_BYTES = 32
OUTAGES = 400 if LONG else 60


async def commit(journal: Journal, chance: random.Random) -> None:
    """A commit of one frame of the log, of two, or of many."""
    n = journal.position.last_seq + 1
    size = chance.choice((3, 3, 400, 9_000))
    alive = {"plc": START} if chance.random() < 0.5 else {}
    await journal.append([transition(n)], [batch(n, size)], {**alive, f"plc-{n}": START})


def torn(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """A log whose last commit was not synced: any of its frames reached the disk, in any order."""
    whole = bytearray(before.ljust(len(after), b"\x00"))
    for at in range(HEADER_BYTES, len(after), FRAME_BYTES):
        if chance.random() < 0.7:
            whole[at : at + FRAME_BYTES] = after[at : at + FRAME_BYTES]
    return bytes(whole)


@pytest.mark.parametrize("seed", [1, 2])
async def test_however_often_the_power_goes_within_a_commit_the_stream_goes_on(
    tmp_path: Path, seed: int
) -> None:
    """Behind the commits after a start lies what is left of the one that was torn before it."""
    chance, tears, stream, acknowledged = random.Random(seed), 0, "", 0
    place = (FAST or tmp_path) / f"andon-power-{tmp_path.name}"
    trial, pristine = place / "trial", place / "pristine"
    try:
        for outage in range(OUTAGES):
            async with opened(trial, segment_bytes=10**9) as journal:
                stream = stream or journal.stream
                assert journal.stream == stream, f"outage {outage}"
                assert journal.position.last_seq >= acknowledged
                assert journal.stats().damaged == ()
                for _ in range(chance.randint(1, 2)):
                    await commit(journal, chance)
                acknowledged = journal.position.last_seq
                shutil.rmtree(pristine, ignore_errors=True)
                shutil.copytree(trial, pristine)
                log = next(pristine.glob("*-wal"))
                before = log.read_bytes()
                await commit(journal, chance)
                after = (trial / log.name).read_bytes()
            left = torn(before, after, chance)
            tears += wal.judge(left).torn_bytes > 0
            put_down(pristine, trial, {log.name: left})
        async with opened(trial, segment_bytes=10**9) as journal:
            assert [r.seq for r in await journal.read(0, 10**6)] == [*range(1, journal.position.last_seq + 1)]
            assert await journal.verify() == []
        assert tears > OUTAGES // 3
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def test_a_torn_end_is_told_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "ran") as journal:
        await journal.append([transition(1)])
        await journal.append([transition(2)], [batch(2, 9_000)])
        shutil.copytree(tmp_path / "ran", tmp_path / "torn")
    log = next((tmp_path / "torn").glob("*-wal"))
    log.write_bytes(log.read_bytes()[:-5])
    told = []
    for turn in range(2):
        async with opened(tmp_path / "torn") as journal:
            told.append(bool(journal.stats().cut_bytes))
            await journal.append([transition(2 + turn)])
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
            shutil.copytree(tmp_path / "torn", tmp_path / "killed")
        put_down(tmp_path / "killed", tmp_path / "torn", {})
    assert told == [True, False]


async def test_what_a_killed_process_had_not_synced_is_durable_before_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the power would take the record and leave the note of it: a journal that seems to have been cut."""
    async with opened(tmp_path / "ran") as journal:
        await journal.append([transition(1)])
        shutil.copytree(tmp_path / "ran", tmp_path / "before")
        await journal.append([transition(2)])
        shutil.copytree(tmp_path / "ran", tmp_path / "killed")
    log = next((tmp_path / "killed").glob("*-wal"))
    durable = (tmp_path / "before" / log.name).read_bytes()
    settle, write_whole = files.settle, files.write_whole

    def settled(path: Path, *, bytes_max: int | None = None) -> None:
        nonlocal durable
        settle(path, bytes_max=bytes_max)
        durable = path.read_bytes()

    def noted(path: Path, data: bytes) -> None:
        write_whole(path, data)
        if not (tmp_path / "dark").exists():
            put_down(tmp_path / "killed", tmp_path / "dark", {log.name: durable})

    with monkeypatch.context() as patched:
        patched.setattr(files, "settle", settled)
        patched.setattr(files, "write_whole", noted)
        async with opened(tmp_path / "killed") as journal:
            stream = journal.stream
    async with opened(tmp_path / "dark") as journal:
        assert (journal.stream, journal.position.last_seq) == (stream, 2)


async def test_a_segment_that_was_finished_and_then_gone_on_with_says_what_was_true_last(
    tmp_path: Path,
) -> None:
    """Killed between the end of a segment and the beginning of the next: the index written at that end is
    not that of the records which follow it."""
    async with opened(tmp_path) as journal:
        for n in range(1, 6):
            await journal.append([transition(n)])
    Segment.open_newest(segments(tmp_path)[0]).finish()
    async with opened(tmp_path) as journal:
        for n in range(6, 11):
            await journal.append([transition(n)])
    begin_anew(tmp_path, gateway="line-1", clock=ManualClock(), reason="put back from a backup")
    async with opened(tmp_path) as journal:
        assert [last.seq for last in (await journal.last_transitions()).values()] == [10]


async def test_segments_are_freed_one_after_the_other_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the power might take a younger one and leave an older: a hole that would be told as a loss."""
    held: list[list[Path]] = []
    sync = files.sync_directory

    def synced(directory: Path) -> None:
        sync(directory)
        held.append(segments(directory))

    async with opened(tmp_path, keep=timedelta(0)) as journal:
        journal.require("database", events=True, batches=True)
        n = await fill(journal, 4)
        await journal.advance("database", Cursor(n, n))
        monkeypatch.setattr(files, "sync_directory", synced)
        begun = journal.stats().segments
        while journal.stats().segments >= begun:
            n += 1
            await journal.append([transition(n)], [batch(n, 200)])
        assert journal.stats().segments < begun - 1, "several were to be freed at once"
    freed = [set(before) - set(after) for before, after in pairwise(held)]
    assert max(map(len, freed)) == 1
