"""A trail in a backup that is made while records come, and a trail that is begun anew."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.audit import folder
from gateway.audit.anew import begin_anew
from gateway.audit.form import ANEW
from gateway.audit.reading import Question, read
from gateway.audit.store import AuditStore, TrailDamaged
from gateway.audit.verifying import Anchor, verify
from gateway.errors import JournalInUse
from gateway.snapshots import backup
from gateway.snapshots.contents import Contents, Source
from tests.gateway.audit.trails import AT, entry, written


def test_a_backup_made_while_records_come_is_a_sound_trail_that_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "audit"
    store = written(directory, 10, segment_bytes=1_000_000)
    files = sorted(path for path in directory.iterdir() if path.name != "lock")
    contents = Contents(tmp_path / "andon.toml", "line-1", tmp_path / "data", "data")
    contents.sources.extend(Source(f"data/audit/{path.name}", path) for path in files)
    copied = tmp_path / "restored"
    copied.mkdir()
    with ExitStack() as stack:
        opened = backup._open_all(contents, stack)
        store.open(AT)
        for n in range(20):
            store.append([entry(n)], AT)
        store.close()
        for item in opened:
            target = copied / item.source.path.name
            target.write_bytes(item.file.read(item.size))
            target.chmod(0o600)
    verdict = verify(copied)
    assert (verdict.sound, verdict.last_n) == (True, 11)
    again = AuditStore(copied, "line-1")
    again.open(AT)
    assert again.append([entry()], AT) == 12
    again.close()


def test_a_harmed_trail_is_put_aside_as_it_is_and_the_new_one_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    written(directory, 10)
    old = max(folder.heads_in(directory), key=lambda head: head.n)
    anchor = Anchor(old.n, old.hash, old.key, old.at, old.signature, "the database")
    (directory / "key").unlink()
    store = AuditStore(directory, "line-1")
    with pytest.raises(TrailDamaged, match="key"):
        store.open(AT)
    with pytest.raises(JournalInUse):
        begin_anew(tmp_path, "line-1", reason="x", actor="ada", now=AT)
    store.close()
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    aside = begin_anew(tmp_path, "line-1", reason="the key was lost", actor="ada", now=AT)

    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    [record] = read(folder.segments_of(directory), Question(action=ANEW))
    assert (record.actor, record.detail["reason"], record.detail["n_before"]) == (
        "ada",
        "the key was lost",
        old.n,
    )
    verdict = verify(directory, anchors=[anchor])
    assert verdict.sound, "the anchors of before are of what was put aside"
    assert "begun anew" in verdict.remarks[0]
    stranger = Anchor(3, "ab" * 32, "cd" * 32, where="the database")
    assert [fault.kind for fault in verify(directory, anchors=[anchor, stranger]).faults] == ["key"]
