"""The folder of snapshots: chains, the newest that can be used, and what has to go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.snapshots.failures import FileRefused, NotWritten
from gateway.snapshots.folder import Entry, Limits, SnapshotFolder, doomed, merged, since
from tests.gateway.snapshots.builders import AT, STREAM, content, header

LIMITS = Limits(count=100, age=timedelta(days=14), bytes=10_000_000)
FULL, LATER = {"m1": 6, "m2": 4, "m3": 2}, {"m1": 6, "m2": 3, "m4": 2}


def write(folder: SnapshotFolder, minute: int, codes: dict[str, int], parent: str = "") -> str:
    kind = "incremental" if parent else "full"
    name = folder.name_at(AT + timedelta(minutes=minute), kind)
    whole = content(codes)
    if parent:
        base = folder.load(parent).content
        told = header(
            name,
            "incremental",
            minute=minute,
            parent=parent,
            parent_sum=folder.sum_of(parent),
            seq=5 + minute,
        )
        folder.write(told, since(base, whole))
    else:
        folder.write(header(name, minute=minute, seq=5 + minute), whole)
    return name


def test_an_incremental_one_is_put_together_with_its_parent(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "snapshots")
    full = write(folder, 0, FULL)
    later = write(folder, 1, LATER, full)

    assert folder.load(later).content == content(LATER)
    small, large = (entry.bytes for entry in reversed(folder.entries()))
    assert small < large + 200


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2)), st.data())
def test_what_is_left_out_of_an_incremental_one_comes_back(
    before: dict[str, bytes], data: st.DataObject
) -> None:
    after = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2)))
    full = content({}, equipment=before, last=before)
    whole = content({}, equipment=after, last=after)
    assert merged(full, since(full, whole)) == whole


@pytest.mark.parametrize("harm", ["gone", "changed", "another"])
def test_a_broken_parent_is_told_and_nothing_is_restored_by_half(tmp_path: Path, harm: str) -> None:
    folder = SnapshotFolder(tmp_path)
    older = write(folder, 0, FULL)
    full = write(folder, 1, FULL)
    later = write(folder, 2, LATER, full)
    path = tmp_path / f"{full}.snap"
    if harm == "gone":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    else:
        folder.write(header(full, minute=1), content({"m1": 4}))

    with pytest.raises(FileRefused, match=full):
        folder.load(later)
    found, problems = folder.newest(gateway="line-1")
    assert found is not None
    assert found.header.name == (full if harm == "another" else older)
    assert any(full in problem for problem in problems)
    assert [e.file for e in folder.verify() if e.problem][-1] == f"{later}.snap"


def test_the_newest_is_that_of_the_stream_and_not_beyond_the_journal(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    fit = write(folder, 0, FULL)
    write(folder, 3, FULL)  # of event 8
    folder.write(header("20270101T000000.000Z-full", stream="another", minute=9), content(FULL))
    (tmp_path / "20280101T000000.000Z-full.snap").write_bytes(b"no snapshot at all")

    found, problems = folder.newest(gateway="line-1", stream=STREAM, last_seq=7, last_batch=99)

    assert found is not None
    assert found.header.name == fit
    assert any("event 8" in problem for problem in problems)
    assert folder.newest(gateway="line-2")[0] is None


def test_a_half_written_one_is_not_there_and_is_removed_by_the_next(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    (tmp_path / ".20260101T000000.000Z-full.snap.part").write_bytes(b"ANDSNAP")
    assert folder.entries() == []
    write(folder, 0, FULL)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    name = write(folder, 0, FULL)
    (tmp_path / ".next-full.snap.part").mkdir()  # nobody can write there, not even root
    (tmp_path / ".next-full.snap.part" / "x").touch()
    with pytest.raises(NotWritten, match=r"next-full\.snap|cannot be used"):
        folder.write(header("next-full"), content(FULL))
    assert [entry.file for entry in folder.entries()] == [f"{name}.snap"]


# -- what has to go


def entry(name: str, minute: int, parent: str = "", size: int = 100) -> Entry:
    kind = "incremental" if parent else "full"
    return Entry(f"{name}.snap", size, header(name, kind, minute=minute, parent=parent))  # type: ignore[arg-type]


CHAINS = [entry("f1", 0), entry("i1", 1, "f1"), entry("f2", 2), entry("i2", 3, "f2"), entry("i3", 4, "f2")]


def names(gone: list[Entry]) -> list[str]:
    return [item.file.removesuffix(".snap") for item in gone]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (LIMITS, []),
        (Limits(4, LIMITS.age, 10_000), ["i1"]),
        (Limits(3, LIMITS.age, 10_000), ["i1", "f1"]),
        (Limits(2, LIMITS.age, 10_000), ["i1", "f1", "i2"]),
        (Limits(100, LIMITS.age, 250), ["i1", "f1", "i2"]),
        (Limits(100, timedelta(minutes=90), 10_000), []),
        (Limits(100, timedelta(seconds=0), 10_000), ["i1", "f1", "i2"]),
    ],
)
def test_the_oldest_chain_goes_first_leaves_before_roots(limits: Limits, expected: list[str]) -> None:
    assert names(list(doomed(CHAINS, limits, AT + timedelta(minutes=5), "f2"))) == expected


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 12),
    st.integers(1, 400),
)
def test_what_stays_can_be_read_and_holds_the_newest(
    made: list[tuple[bool, int]], count: int, minutes: int, size: int
) -> None:
    there: list[Entry] = []
    full = ""
    for minute, (whole, bytes_) in enumerate(made):
        name = f"s{minute}"
        there.append(entry(name, minute, "" if whole or not full else full, bytes_))
        if there[-1].header is not None and there[-1].header.kind == "full":
            full = name
    gone = doomed(there, Limits(count, timedelta(minutes=minutes), size), AT + timedelta(minutes=12), full)
    left = {item.header.name: item.header for item in there if item not in gone and item.header is not None}
    assert full in left
    assert there[-1] not in gone
    assert all(not head.parent or head.parent in left for head in left.values())


def test_pruning_keeps_the_newest_full_one_that_is_sound(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    sound, damaged = write(folder, 0, FULL), write(folder, 1, FULL)
    path = tmp_path / f"{damaged}.snap"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")

    folder.prune(Limits(1, timedelta(0), 1), AT + timedelta(days=9))

    assert sound in [e.header.name for e in folder.entries() if e.header is not None]
    assert msgspec.structs.asdict(folder.load(sound).header)["name"] == sound


def test_what_was_taken_with_a_fast_clock_does_not_outlive_what_is_newer(tmp_path: Path) -> None:
    folder, limits = SnapshotFolder(tmp_path), Limits(3, timedelta(days=14), 10**9)
    ahead = 60 * 24 * 3650
    for n in range(3):
        folder.write(header(f"ahead-{n}", minute=ahead + n, seq=n, batch=n), content(FULL))
        folder.prune(limits, AT + timedelta(minutes=ahead + n))
    for n in range(3, 6):
        written, _ = folder.write(header(f"right-{n}", minute=n, seq=n, batch=n), content(FULL))
        folder.prune(limits, AT + timedelta(minutes=n))
        newest, problems = folder.newest(gateway="line-1", stream=STREAM, last_seq=9, last_batch=9)
        assert newest is not None
        assert (newest.header.name, problems) == (written.name, [])
    assert [e.file for e in folder.entries()] == ["right-3.snap", "right-4.snap", "right-5.snap"]
