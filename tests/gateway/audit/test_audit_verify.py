"""Every way to change the trail afterwards is found, and named with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.auditing import AuditEntry, AuditHead, Verdict
from gateway.audit import folder
from gateway.audit.form import GENESIS, head_bytes, line_of
from gateway.audit.keys import load_key
from gateway.audit.verifying import Anchor, verify
from tests.gateway.audit.trails import AT, all_lines, entry, with_lines, written


def kinds(verdict: Verdict) -> set[str]:
    return {fault.kind for fault in verdict.faults}


def head_of(directory: Path) -> AuditHead:
    found = folder.newest_sound(folder.heads_in(directory), load_key(directory).public)
    assert found is not None
    return found


def anchor_of(head: AuditHead) -> Anchor:
    return Anchor(head.n, head.hash, head.key, head.at, head.signature, "the database")


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trail") / "audit"
    written(directory, 50)
    return directory


def copy(trail: Path, to: Path) -> Path:
    to.mkdir(mode=0o700)
    for file in trail.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
        (to / file.name).chmod(0o600)
    return to


def rewritten(directory: Path, change: Callable[[dict[str, object]], None], from_n: int) -> None:
    """All records from one on computed anew after a change, as somebody without the key can."""
    previous = GENESIS
    for path in dict.fromkeys(path for path, _, _ in all_lines(directory)):
        lines = []
        for line in path.read_bytes().splitlines():
            told = json.loads(line)
            n, at = told.pop("n"), datetime.fromisoformat(told.pop("at"))
            told.pop("previous"), told.pop("hash")
            if n == from_n:
                change(told)
            new, previous = line_of(AuditEntry(**told), n, previous, at)
            lines.append(new)
        with_lines(path, lines)


def signed_anew(directory: Path) -> None:
    """A new head by the key of the trail: what a thief of the key can do."""
    key = load_key(directory)
    last = json.loads(all_lines(directory)[-1][2])
    bare = AuditHead(last["n"], last["hash"], AT, "", key.public)
    head = AuditHead(bare.n, bare.hash, AT, key.sign(head_bytes(bare)), key.public)
    (directory / "head").unlink()
    folder.begin_heads(directory, head)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(
    trail: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = copy(trail, tmp_path_factory.mktemp("changed") / "audit")
    path = data.draw(st.sampled_from([segment.path for segment in folder.segments_of(directory)]))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    verdict = verify(directory)
    assert not verdict.sound
    assert path.name in verdict.faults[0].place or verdict.faults[0].kind in ("truncated", "missing")


@pytest.mark.parametrize("number", [1, 13, 30, 49])
def test_a_deleted_record_is_found(trail: Path, tmp_path: Path, number: int) -> None:
    directory = copy(trail, tmp_path / "audit")
    path, place, line = all_lines(directory)[number]
    lines = path.read_bytes().splitlines()
    assert lines[place] == line
    with_lines(path, lines[:place] + lines[place + 1 :])
    [fault] = verify(directory).faults
    assert (fault.kind, fault.n) == ("missing", number + 1)
    assert fault.reason == f"record {number + 1} is missing before this line"


def test_one_record_written_anew_with_its_own_hash_is_found(trail: Path, tmp_path: Path) -> None:
    directory = copy(trail, tmp_path / "audit")
    path = folder.segments_of(directory)[1].path
    lines = path.read_bytes().splitlines()
    told = json.loads(lines[2])
    n, at, previous = told.pop("n"), datetime.fromisoformat(told.pop("at")), told.pop("previous")
    del told["hash"]
    lines[2], _ = line_of(AuditEntry(**(told | {"actor": "mallory"})), n, previous, at)
    with_lines(path, lines)
    [fault] = verify(directory).faults
    assert (fault.kind, fault.n, fault.place) == ("changed", n + 1, f"{path.name}:4")


def test_a_deleted_file_is_found(trail: Path, tmp_path: Path) -> None:
    for number, kind in ((0, "missing"), (2, "missing"), (-1, "truncated")):
        directory = copy(trail, tmp_path / f"audit{number}")
        folder.segments_of(directory)[number].path.unlink()
        assert kinds(verify(directory)) == {kind}


def test_two_exchanged_records_are_found(trail: Path, tmp_path: Path) -> None:
    directory = copy(trail, tmp_path / "audit")
    path = folder.segments_of(directory)[1].path
    lines = path.read_bytes().splitlines()
    lines[1:3] = lines[2], lines[1]
    with_lines(path, lines)
    verdict = verify(directory)
    assert "reordered" in kinds(verdict)
    assert path.name in verdict.faults[0].place


@pytest.mark.parametrize("records", [1, 3, 20])
def test_a_tail_cut_off_is_found(trail: Path, tmp_path: Path, records: int) -> None:
    directory = copy(trail, tmp_path / "audit")
    gone = all_lines(directory)[-records:]
    for path in {path for path, _, _ in gone}:
        kept = [line for other, _, line in all_lines(directory)[:-records] if other == path]
        with_lines(path, kept) if kept else path.unlink()
    [fault] = verify(directory).faults
    assert (fault.kind, fault.n) == ("truncated", 52 - records)


def test_all_of_it_computed_anew_is_found_by_the_head(trail: Path, tmp_path: Path) -> None:
    directory = copy(trail, tmp_path / "audit")
    rewritten(directory, lambda told: told.update(actor="mallory"), 10)
    assert kinds(verify(directory)) == {"rewritten"}


def test_what_a_thief_of_the_key_signs_anew_is_found_by_an_anchor_and_only_by_it(
    trail: Path, tmp_path: Path
) -> None:
    directory = copy(trail, tmp_path / "audit")
    anchor = anchor_of(head_of(directory))
    rewritten(directory, lambda told: told.update(actor="mallory"), 10)
    signed_anew(directory)
    assert verify(directory).sound, "the chain and the head agree: this is what anchors are for"
    verdict = verify(directory, anchors=[anchor])
    assert kinds(verdict) == {"rewritten"}
    assert "anchored in the database" in verdict.faults[0].reason


def test_a_folder_put_back_to_an_hour_ago_is_found_by_an_anchor(tmp_path: Path) -> None:
    store = written(tmp_path / "audit", 30)
    old = copy(tmp_path / "audit", tmp_path / "old")
    store.open(AT)
    store.append([entry(1)], AT)
    store.close()
    anchor = anchor_of(head_of(tmp_path / "audit"))
    assert verify(old).sound
    assert kinds(verify(old, anchors=[anchor])) == {"truncated"}


def test_anchors_of_what_is_there_vouch_for_it(trail: Path) -> None:
    verdict = verify(trail, anchors=[anchor_of(head_of(trail))])
    assert (verdict.sound, verdict.anchors, verdict.anchored_n) == (True, 1, 51)


def test_a_forged_anchor_does_not_accuse_a_sound_trail_of_anything_else(trail: Path) -> None:
    head = head_of(trail)
    forged = Anchor(head.n, "00" * 32, head.key, head.at, head.signature, "the journal")
    assert kinds(verify(trail, anchors=[forged])) == {"anchor"}


def test_another_key_is_found(trail: Path, tmp_path: Path) -> None:
    written(tmp_path / "other", 50)
    stranger = head_of(tmp_path / "other")
    assert kinds(verify(trail, key=stranger.key)) >= {"key"}
    assert kinds(verify(trail, anchors=[anchor_of(stranger)])) == {"key"}
    assert verify(trail, key=head_of(trail).key).sound
    directory = copy(trail, tmp_path / "audit")
    for name in ("key", "head"):
        (directory / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert "key" in kinds(verify(directory)), "the first record names the key it began with"


def test_a_head_that_is_gone_or_was_not_signed_is_found(trail: Path, tmp_path: Path) -> None:
    directory = copy(trail, tmp_path / "audit")
    head = head_of(directory)
    folder.begin_heads(directory, AuditHead(head.n, "11" * 32, head.at, head.signature, head.key))
    assert kinds(verify(directory)) == {"head"}
    (directory / "head").unlink()
    assert kinds(verify(directory)) == {"head"}


def test_it_can_be_verified_by_whoever_has_no_right_to_the_key(trail: Path, tmp_path: Path) -> None:
    directory = copy(trail, tmp_path / "audit")
    key = load_key(directory).public
    (directory / "key").unlink()
    verdict = verify(directory, key=key)
    assert (verdict.sound, verdict.remarks) == (True, ())
    assert "was not read" in verify(directory).remarks[0]


def test_a_heap_of_faults_is_bounded(tmp_path: Path) -> None:
    written(tmp_path / "audit", 400, segment_bytes=1_000_000, group=100)
    [segment] = folder.segments_of(tmp_path / "audit")
    segment.path.write_bytes(segment.path.read_bytes().replace(b'"value"', b'"VALUE"'))
    verdict = verify(tmp_path / "audit")
    assert len(verdict.faults) == 101
    assert verdict.faults[-1].kind == "more"
