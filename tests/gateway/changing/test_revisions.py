"""Revisions as they lie on the disk: found again, bounded, and never taken for what they are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.configuring import MAIN_FILE, Revision, RevisionInfo
from gateway.changing import revisions as kept
from gateway.changing.canonical import hash_of
from gateway.changing.revisions import Revisions

FILES = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5)


def revision(number: int, text: str = "a = 1\n") -> Revision:
    """One with one file."""
    files = {MAIN_FILE: text}
    at = datetime(2026, 11, 21, tzinfo=UTC)
    return Revision(RevisionInfo(number, at, "anna", "why", hash_of(files), "rest"), files)


@pytest.fixture
def revisions(tmp_path: Path) -> Revisions:
    """A folder of them, empty."""
    found = Revisions(tmp_path)
    found.open()
    return found


@given(FILES, st.randoms())
def test_the_hash_is_of_the_content(files: dict[str, str], dice: object) -> None:
    names = list(files)
    dice.shuffle(names)  # type: ignore[attr-defined]
    assert hash_of({name: files[name] for name in names}) == hash_of(files)
    assert hash_of(
        {name: "\ufeff" + text for name, text in files.items() if not text.startswith("\ufeff")}
    ) == hash_of({name: text for name, text in files.items() if not text.startswith("\ufeff")})


@given(FILES, FILES)
def test_two_sets_have_two_hashes(one: dict[str, str], other: dict[str, str]) -> None:
    def plain(files: dict[str, str]) -> dict[str, str]:
        return {name: text.removeprefix("\ufeff").replace("\r\n", "\n") for name, text in files.items()}

    assert (hash_of(one) == hash_of(other)) == (plain(one) == plain(other))


def test_a_name_that_runs_into_its_text() -> None:
    assert hash_of({"ab": "c"}) != hash_of({"a": "bc"})
    assert hash_of({"a": "b", "c": "d"}) != hash_of({"a": "bcd"})


def test_they_are_found_again(revisions: Revisions, tmp_path: Path) -> None:
    for number in range(1, 4):
        revisions.add(revision(number, f"a = {number}\n"))
    again = Revisions(tmp_path)
    again.open()
    assert [info.number for info in again.infos()] == [3, 2, 1]
    assert again.read(2) == revision(2, "a = 2\n")
    assert again.next_number() == 4


def test_the_oldest_go(revisions: Revisions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEEP_MAX", 5)
    for number in range(1, 9):
        revisions.add(revision(number))
    assert [info.number for info in revisions.infos()] == [8, 7, 6, 5, 4]
    assert len(list(revisions.folder.iterdir())) == 5
    monkeypatch.setattr(kept, "KEEP_BYTES_MAX", 10)
    revisions.add(revision(9))
    assert [info.number for info in revisions.infos()] == [9, 8]


@pytest.mark.parametrize("spoil", ["text", "torn", "empty", "number", "form", "bytes", "deep"])
def test_one_that_was_changed_is_none(revisions: Revisions, tmp_path: Path, spoil: str) -> None:
    for number in (1, 2):
        revisions.add(revision(number))
    path = revisions.folder / "000001.json"
    raw = path.read_text()
    path.write_bytes(
        {
            "text": raw.replace("a = 1", "a = 2").encode(),
            "torn": raw[: len(raw) // 2].encode(),
            "empty": b"",
            "number": raw.replace('"number":1', '"number":7').encode(),
            "form": raw.replace('"form":1', '"form":2').encode(),
            "bytes": raw.encode().replace(b"a = 1", b"\xf0 = 1"),
            "deep": b"[" * 100_000,
        }[spoil]
    )
    again = Revisions(tmp_path)
    again.open()
    assert [info.number for info in again.infos()] == [2]
    assert len(again.unreadable) == 1
    assert again.unreadable[0].startswith("000001.json: ")
    assert revisions.read(1) is None


def test_what_a_killed_process_left_is_cleared(revisions: Revisions, tmp_path: Path) -> None:
    (revisions.folder / ".000001.next.part").write_text("{")
    revisions.folder.chmod(0o755)
    again = Revisions(tmp_path)
    again.open()
    assert list(again.folder.iterdir()) == []
    assert again.folder.stat().st_mode & 0o777 == 0o700
    assert again.pending() is None
