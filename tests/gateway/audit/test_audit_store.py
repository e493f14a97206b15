"""What the trail on the disk keeps through crashes, full disks and hands that were in it."""

from __future__ import annotations

import base64
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.audit import folder
from gateway.audit.reading import Question, read
from gateway.audit.store import AuditStore, Limits, TrailDamaged
from gateway.audit.verifying import verify
from gateway.errors import JournalInUse
from tests.gateway.audit.trails import AT, all_lines, entry, with_lines, written


def reopened(directory: Path) -> AuditStore:
    store = AuditStore(directory, "line-1", Limits(4_000, 1_000_000_000))
    store.open(AT + timedelta(hours=1))
    return store


def records(directory: Path) -> list[tuple[int, str, object]]:
    found = read(folder.segments_of(directory), Question(limit=10_000))
    return [(record.n, record.action, record.detail.get("value")) for record in found]


def test_what_was_appended_is_there_in_order_and_sound(tmp_path: Path) -> None:
    written(tmp_path / "audit", 40)
    assert [n for n, _, _ in records(tmp_path / "audit")] == list(range(1, 42))
    assert [value for _, _, value in records(tmp_path / "audit")[1:]] == list(range(40))
    verdict = verify(tmp_path / "audit")
    assert (verdict.sound, verdict.records, verdict.first_n, verdict.last_n) == (True, 41, 1, 41)
    assert verdict.segments > 3
    assert verdict.remarks == ()


def test_the_files_are_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(tmp_path / "audit", 30)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "audit").iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    written(tmp_path / "audit", 7)
    store = reopened(tmp_path / "audit")
    assert store.append([entry(7)], AT) == 9
    store.close()
    assert verify(tmp_path / "audit").sound


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "audit", "line-1")
    store.open(AT)
    with pytest.raises(JournalInUse):
        AuditStore(tmp_path / "audit", "line-1").open(AT)
    store.close()


def test_every_place_at_which_an_append_can_be_torn_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A crash in the write of record 4, at every byte: 1 to 3 are there, what is cut is said."""
    written(tmp_path / "base", 2, segment_bytes=1_000_000)
    [segment] = folder.segments_of(tmp_path / "base")
    sound = segment.path.read_bytes()
    head = (tmp_path / "base" / "head").read_bytes()
    store = reopened(tmp_path / "base")
    store.append([entry(2)], AT)
    store.close()
    longer = segment.path.read_bytes()
    for cut in range(len(sound), len(longer) + 1, 7):
        segment.path.write_bytes(longer[:cut])
        (tmp_path / "base" / "head").write_bytes(head)
        store = reopened(tmp_path / "base")
        store.close()
        found = [action for _, action, _ in records(tmp_path / "base")]
        assert found[:3] == ["audit.begin", "command", "command"]
        torn = cut > len(sound) and cut < len(longer)
        assert found[3:] == (["audit.cut"] if torn else ["command"] if cut == len(longer) else [])
        assert verify(tmp_path / "base").sound
    assert torn or cut == len(longer) or cut > len(longer) - 7


def test_garbage_beyond_the_head_is_cut_and_told(tmp_path: Path) -> None:
    written(tmp_path / "audit", 3, segment_bytes=1_000_000)
    [segment] = folder.segments_of(tmp_path / "audit")
    with segment.path.open("ab") as file:
        file.write(b"\x00" * 100 + b"\n" + b"\xff" * 33)
    reopened(tmp_path / "audit").close()
    [last] = read(folder.segments_of(tmp_path / "audit"), Question(after=4))
    assert last.action == "audit.cut"
    assert last.detail["bytes"] == 134
    assert verify(tmp_path / "audit").sound


@pytest.mark.parametrize(
    "harm", ["byte", "tail", "head", "key", "segment", "readable", "forged", "checkpoint", "kind of key"]
)
def test_nothing_is_appended_to_a_trail_that_was_harmed(tmp_path: Path, harm: str) -> None:
    directory = tmp_path / "audit"
    written(directory, 40)
    path, _, _ = all_lines(directory)[-1]
    match harm:
        case "byte":
            data = bytearray(path.read_bytes())
            data[100] ^= 1
            path.write_bytes(data)
        case "tail":
            with_lines(path, path.read_bytes().splitlines()[:-1])
        case "head":
            (directory / "head").unlink()
        case "key":
            (directory / "key").unlink()
        case "segment":
            path.unlink()
        case "readable":
            (directory / "key").chmod(0o644)
        case "checkpoint":
            (directory / "checkpoint").write_bytes(b'{"hash":"\xf0a"}')
        case "kind of key":
            (directory / "key").write_bytes(of_an_unknown_kind((directory / "key").read_bytes()))
        case _:
            other = tmp_path / "other"
            written(other, 40)
            (directory / "head").write_bytes((other / "head").read_bytes())
    before = {file: file.read_bytes() for file in directory.iterdir() if file.name != "lock"}
    store = AuditStore(directory, "line-1")
    with pytest.raises(TrailDamaged):
        store.open(AT)
    store.close()
    assert {file: file.read_bytes() for file in directory.iterdir() if file.name != "lock"} == before
    assert not (harm == "checkpoint" and verify(directory).sound)
    verify(directory)  # whatever it is, it is told


def of_an_unknown_kind(pem: bytes) -> bytes:
    """A key with another algorithm in its place: one flipped bit is enough."""
    raw = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    raw[raw.index(b"\x2b\x65\x70") + 1] ^= 0x10
    body = base64.b64encode(bytes(raw))
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"


def test_a_head_torn_in_the_middle_leaves_the_one_before(tmp_path: Path) -> None:
    """The machine stops while the newest head is written: the other slot is whole, and nothing is lost."""
    directory = tmp_path / "audit"
    written(directory, 6, group=1)
    heads = folder.heads_in(directory)
    assert sorted(head.n for head in heads) == [6, 7]
    newest = next(place for place, head in enumerate(heads) if head.n == 7)
    data = bytearray((directory / "head").read_bytes())
    half = newest * len(data) // 2 + 100
    data[half : half + 150] = b"\0" * 150
    (directory / "head").write_bytes(data)
    assert verify(directory).sound
    store = reopened(directory)
    assert store.append([entry(7)], AT) == 8
    store.close()
    assert verify(directory).sound


def test_other_records_under_the_same_head_are_not_gone_on_with(tmp_path: Path) -> None:
    directory, other = tmp_path / "audit", tmp_path / "other"
    written(directory, 40)
    other.mkdir(mode=0o700)
    (other / "key").write_bytes((directory / "key").read_bytes())
    (other / "key").chmod(0o600)
    store = AuditStore(other, "line-1", Limits(4_000, 1_000_000_000))
    store.open(AT)
    for n in range(40):
        store.append([entry(n, actor="eve")], AT)
    store.close()
    for segment in folder.segments_of(directory):
        segment.path.unlink()
    for segment in folder.segments_of(other):
        (directory / segment.path.name).write_bytes(segment.path.read_bytes())
    store = AuditStore(directory, "line-1")
    with pytest.raises(TrailDamaged, match="not the one that was signed for"):
        store.open(AT)
    store.close()


def test_the_oldest_go_only_under_a_signed_checkpoint_and_the_rest_still_verifies(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    written(directory, 60)
    firsts = [segment.first_n for segment in folder.segments_of(directory)]
    assert len(firsts) > 4
    store = reopened(directory)
    removed = store.remove(firsts[3], "ab" * 32, entry(action="x"), AT)
    store.append([entry(99)], AT)
    store.close()
    assert removed == firsts[3] - 1
    assert [segment.first_n for segment in folder.segments_of(directory)][:2] == firsts[3:5]
    verdict = verify(directory)
    assert (verdict.sound, verdict.first_n, verdict.last_n) == (True, firsts[3], 63)
    assert f"records up to {removed} were removed" in verdict.remarks[0]
    reopened(directory).close()

    (directory / "checkpoint").unlink()
    assert [fault.kind for fault in verify(directory).faults] == ["missing"]


def test_a_removal_cut_short_is_finished_at_the_next_opening(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    written(directory, 60)
    kept = {one.path: one.path.read_bytes() for one in folder.segments_of(directory)}
    store = reopened(directory)
    through = store.remove(30, "ab" * 32, entry(), AT)
    store.close()
    for path in [one for one in kept if int(one.stem.partition("-")[2]) <= through][1:]:
        path.write_bytes(kept[path])
    assert verify(directory).sound, "half removed it is still sound"
    reopened(directory).close()
    assert folder.segments_of(directory)[0].first_n == through + 1
    assert verify(directory).sound
