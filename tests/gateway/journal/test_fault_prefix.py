"""A process killed, its log cut at every length: the start finds the longest whole beginning, and says so."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal import wal
from tests.gateway.journal.builders import PATIENCE_S, opened, transition
from tests.gateway.journal.faults import FAST, LONG, everything, put_down, segments, truth_of

WRITER = Path(__file__).with_name("prefix_writer.py")
ROOT = Path(__file__).resolve().parents[3]
COMMITS = 150
PAGE_BYTES = 4096
#: One in so many lengths of the last three commits is tried, and one in so many of those before.
LAST, BEFORE = (1, 512) if LONG else (97, 8192)


def killed(directory: Path) -> None:
    """A journal of some commits whose process was killed; its log was never folded in."""
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(directory), str(COMMITS)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdout is not None
    told = [next(writer.stdout) for _ in range(COMMITS)]
    writer.kill()
    writer.wait(PATIENCE_S)
    writer.stdout.close()
    assert int(told[-1]) == COMMITS


@pytest.mark.timeout(3600 if LONG else 400)
async def test_every_beginning_of_the_log_opens_with_what_it_holds(tmp_path: Path) -> None:
    place = (FAST or tmp_path) / f"andon-prefix-{os.getpid()}"
    trial = place / "trial"
    try:
        await asyncio.to_thread(killed, place / "killed")
        shutil.copytree(place / "killed", place / "pristine")
        log = next((place / "pristine").glob("*-wal"))
        whole = log.read_bytes()[: wal.judge(log.read_bytes()).valid_bytes]
        async with opened(place / "killed") as journal:
            truth = await truth_of(journal)
        ends = commit_ends(whole)
        assert len(ends) >= COMMITS == len(truth.events)
        edges = {end + by for end in ends[-12:] for by in (-4097, -25, -24, -1, 0, 1, 24)}
        lengths = {0, 31, 32, 33, *range(0, ends[-4], BEFORE), *range(ends[-4], len(whole), LAST), *edges}
        tried, found = 0, set()
        for size in sorted(size for size in lengths if size <= len(whole)):
            for tail in (b"", b"\x00" * 4096):
                put_down(place / "pristine", trial, {log.name: whole[:size] + tail})
                async with opened(trial) as journal:
                    assert journal.stream == truth.stream
                    events, batches = await everything(journal)
                    kept, cut = journal.stats().damaged, journal.stats().cut_bytes
                    assert kept == ()
                    assert list(events.items()) == list(truth.events.items())[: len(events)]
                    assert list(batches.items()) == list(truth.batches.items())[: len(batches)]
                    at = max((end for end in ends if end <= size), default=0)
                    assert len(events) >= len([end for end in ends if end <= size]) - (len(ends) - COMMITS)
                    if not 0 < size - max(at, 32) <= 24:  # too little to be told from nothing
                        assert bool(cut) == (size > max(at, 32) or 0 < size < 32), f"{size}: {cut} told"
                    [added] = await journal.append([transition(999)])
                    assert added.seq == len(events) + 1
                    found.add(len(events))
                tried += 1
        assert {0, COMMITS, COMMITS - 1, COMMITS - 2, COMMITS - 3} <= found
        print(f"{tried} beginnings of a log of {len(whole)} bytes and {COMMITS} commits")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.timeout(3600 if LONG else 400)
async def test_a_fold_cut_short_anywhere_costs_nothing(tmp_path: Path) -> None:
    """Killed while the log is folded in, page by page, or the power gone with any of the pages written: the
    file by itself is neither what it was nor what it was to be, and its log still holds everything."""
    pristine, trial = tmp_path / "pristine", tmp_path / "trial"
    await asyncio.to_thread(killed, pristine)
    [path] = segments(pristine)
    shutil.copytree(pristine, trial)
    before, after = path.read_bytes(), folded_by_sqlite(trial / path.name)
    assert wal.folded(before, path.with_name(path.name + "-wal").read_bytes()) == after
    pages, chance = range(0, len(after), PAGE_BYTES), random.Random(7)
    written = [set(pages[:count]) for count in range(len(pages) + 1)]
    written += [{page for page in pages if chance.random() < 0.5} for _ in range(len(pages))]
    truth = None
    for some in written:
        end = max((page + PAGE_BYTES for page in some), default=0)
        mixed = b"".join(
            after[page : page + PAGE_BYTES]
            if page in some
            else before[page : page + PAGE_BYTES].ljust(PAGE_BYTES if page < end else 0, b"\x00")
            for page in pages
        )
        assert wal.folded(mixed, path.with_name(path.name + "-wal").read_bytes()) == after
        put_down(pristine, trial, {path.name: mixed})
        async with opened(trial) as journal:
            found = await truth_of(journal)
            truth = truth or found
            assert (found.stream, [*found.events]) == (truth.stream, [*range(1, COMMITS + 1)])
            assert (found.events, found.batches) == (truth.events, truth.batches)
            assert (journal.stats().damaged, journal.stats().cut_bytes) == ((), 0)
        assert not (trial / "set-aside").exists(), f"{len(some)} of {len(pages)} pages were written"


def folded_by_sqlite(path: Path) -> bytes:
    """What SQLite makes of a file and its log."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return path.read_bytes()


def commit_ends(log: bytes) -> list[int]:
    """Where each commit ends: behind a frame that says how large the file is then."""
    page = int.from_bytes(log[8:12], "big")
    frames = range(32, len(log) - 24, 24 + page)
    return [at + 24 + page for at in frames if int.from_bytes(log[at + 4 : at + 8], "big")]


async def test_every_beginning_of_the_newest_file_opens(tmp_path: Path) -> None:
    """The file behind the log, cut as no crash cuts it: never a refusal, never a wrong record."""
    pristine, trial = tmp_path / "pristine", tmp_path / "trial"
    async with opened(pristine, segment_bytes=10**9) as journal:
        for n in range(1, 60):
            await journal.append([transition(n)])
        truth = await truth_of(journal)
    [path] = segments(pristine)
    whole = path.read_bytes()
    for size in range(0, len(whole), 1024 if LONG else 3079):
        put_down(pristine, trial, {path.name: whole[:size]})
        async with opened(trial) as journal:
            events, _ = await everything(journal)
            assert journal.stats().damaged
            assert events.items() <= truth.events.items()
            [added] = await journal.append([transition(999)])
            assert added.seq == 1 if journal.stream != truth.stream else added.seq > truth.last_seq
