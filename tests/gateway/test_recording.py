"""What was recorded is read as it was written: beside a running gateway, after a crash, from a file."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from gateway.errors import JournalDamaged, JournalForeign
from gateway.journal import Journal
from gateway.recording import (
    NoRecording,
    RecordingUnreadable,
    only,
    read_journal,
    read_lines,
    write_lines,
)
from statemodel.records import Recorded
from statemodel.replay import Recording
from statemodel.types import SampleBatch, SourceLost
from tests.gateway.journal.builders import START, ManualClock, batch, opened, transition
from tests.gateway.journal.damaging import spoil


def parts(recording: Recording) -> tuple[list[int], list[SampleBatch]]:
    """The numbers of the events and the batches, each in order."""
    events = [entry.seq for entry in recording.entries if isinstance(entry, Recorded)]
    return events, [entry for entry in recording.entries if isinstance(entry, SampleBatch)]


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a journal."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "ballast"}


def segment_in(directory: Path) -> Path:
    """The only segment of a journal."""
    (path,) = directory.glob("journal-*.db")
    return path


async def filled(journal: Journal, numbers: Sequence[int]) -> list[SampleBatch]:
    batches = [batch(n, 400) for n in numbers]
    for n, item in zip(numbers, batches, strict=True):
        await journal.append([transition(n)], [item], {"plc": item.received_at})
    return batches


async def test_the_journal_of_a_running_gateway_is_read_beside_it(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as journal:
        written = await filled(journal, range(1, 30))
        assert journal.stats().segments > 1
        before = contents(tmp_path)
        found = read_journal(tmp_path, "line-1")
        assert contents(tmp_path) == before, "nothing is written"
        assert parts(found.recording) == (list(range(1, 30)), written)
        assert (found.damaged, found.recording.whole, found.recording.first_seq) == ([], True, 1)
        assert found.recording.end_at == written[-1].received_at
        await filled(journal, range(30, 33))
        assert parts(read_journal(tmp_path, "line-1").recording)[0] == list(range(1, 33))


async def test_reading_and_writing_go_on_at_the_same_time(tmp_path: Path) -> None:
    """Every reading is a true beginning of what is written, however often segments turn over meanwhile."""
    async with opened(tmp_path, clock=ManualClock()) as journal:
        await filled(journal, range(1, 3))

        async def write() -> None:
            for n in range(3, 120):
                await filled(journal, [n])

        writing = asyncio.create_task(write())
        readings = 0
        while not writing.done():
            found = await asyncio.to_thread(read_journal, tmp_path, "line-1")
            events, batches = parts(found.recording)
            assert found.damaged == []
            assert events == list(range(1, len(events) + 1))
            assert batches == [batch(n, 400) for n in events]
            readings += 1
        await writing
        assert readings > 1
        assert journal.stats().segments > 3


async def test_what_a_crash_left_is_read_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "live", clock=ManualClock()) as journal:
        written = await filled(journal, range(1, 6))
        shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    assert any(path.name.endswith("-wal") for path in (tmp_path / "crashed").iterdir())
    found = read_journal(tmp_path / "crashed", "line-1")
    assert parts(found.recording) == ([1, 2, 3, 4, 5], written)
    stopped = read_journal(tmp_path / "live", "line-1")
    assert parts(stopped.recording) == ([1, 2, 3, 4, 5], written)


async def test_a_log_begun_anew_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "live", clock=ManualClock()) as journal:
        await filled(journal, range(1, 6))
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    path, copied, copies = segment_in(tmp_path / "copy"), shutil.copyfile, list[Path]()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:

        def copy_slowly(source: Path, target: Path) -> None:
            copied(source, target)
            copies.append(source)
            if len(copies) == 1:  # what the log held goes into the file, and the log begins anew
                writer.execute("PRAGMA wal_checkpoint(RESTART)")
                writer.execute("DELETE FROM cursor")
                writer.execute("INSERT INTO cursor (sink, seq, batch, crc) VALUES ('x', 0, 0, 0)")
                writer.execute("DELETE FROM cursor")

        monkeypatch.setattr("gateway.journal.copied.shutil.copyfile", copy_slowly)
        found = read_journal(tmp_path / "copy", "line-1")
    assert copies.count(path) == 2
    assert parts(found.recording)[0] == [1, 2, 3, 4, 5]


async def test_only_the_samples_that_are_wanted_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as journal:
        await filled(journal, [1, 2])
        await journal.append(
            [transition(9, "other"), SourceLost("plc", START, "x"), SourceLost("b", START, "y")]
        )
        found = read_journal(tmp_path, "line-1", {"plc/tag-1"})
        assert [[s.tag for s in item.samples] for item in parts(found.recording)[1]] == [["plc/tag-1"]] * 2
        mine = only(found.recording, {"filler-1"}, {"plc"})
        assert parts(mine)[0] == [1, 2, 4]
        assert parts(read_journal(tmp_path, "line-1", {"plc/nothing"}).recording)[1] == []


async def test_a_journal_that_freed_its_beginning_says_what_was_in_force(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock(), keep=timedelta(0)) as journal:
        await journal.append([transition(1, "quiet")])
        n = 1
        while journal.position.first_seq < 5:
            n += 1
            await filled(journal, [n])
        await filled(journal, [n + 1, n + 2])
        n += 2
        found = read_journal(tmp_path, "line-1").recording
        first = journal.position.first_seq
        assert (found.whole, found.first_seq) == (False, first)
        events, _ = parts(found)
        assert events[0] == 1, "carried over"
        assert [seq for seq in events if seq >= first] == list(range(first, n + 1))


async def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as journal:
        await filled(journal, range(1, 4))
        await journal.append([SourceLost("plc", START, "gone")])
        recording = read_journal(tmp_path, "line-1").recording
    file = tmp_path / "recording.jsonl"
    file.write_bytes(b"\n".join(write_lines(recording)) + b"\n\n")
    assert read_lines(file).recording == recording
    some = read_lines(file, {"plc/tag-2"}).recording
    assert {s.tag for item in parts(some)[1] for s in item.samples} == {"plc/tag-2"}
    assert all(msgspec.json.decode(line)["type"] for line in file.read_bytes().split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("nonsense\n", ":1: "),
        ('{"type":"batch"}\n', ":1: "),
        ('HEAD\n{"type":"song"}\n', ':2: "song" is no type of event'),
        ('HEAD\n\n{"type":"transition","seq":1}\n', ":3: "),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    head = b"".join(write_lines(Recording("g", START, START, 1, True, ()))).decode()
    file = tmp_path / "x.jsonl"
    file.write_text(text.replace("HEAD", head), encoding="utf-8")
    with pytest.raises(RecordingUnreadable) as refused:
        read_lines(file)
    assert words in refused.value.reason
    assert refused.value.exit_code == 2
    with pytest.raises(RecordingUnreadable, match="No such file"):
        read_lines(tmp_path / "nothing")


async def test_what_is_no_journal_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRecording, match="no journal"):
        read_journal(tmp_path / "nowhere", "line-1")
    async with opened(tmp_path / "j", clock=ManualClock()) as journal:
        with pytest.raises(NoRecording, match="nothing is recorded"):
            read_journal(tmp_path / "j", "line-1")
        await filled(journal, [1])
    with pytest.raises(JournalForeign, match='belongs to gateway "line-1"'):
        read_journal(tmp_path / "j", "line-2")
    path = segment_in(tmp_path / "j")
    whole = path.read_bytes()
    path.write_bytes(b"no journal at all" * 20)
    with pytest.raises(JournalDamaged, match="does not begin as"):
        read_journal(tmp_path / "j", "line-1")
    path.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(JournalDamaged):
        read_journal(tmp_path / "j", "line-1")


async def test_one_damaged_record_is_left_out_and_named(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as journal:
        for n in (1, 2, 3):
            await journal.append([transition(n)])
    spoil(segment_in(tmp_path), seq=2)
    found = read_journal(tmp_path, "line-1")
    assert parts(found.recording)[0] == [1, 3]
    assert "event 2" in found.damaged[0]
