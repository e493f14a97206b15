"""A look into the journal from outside changes nothing, and finds what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.errors import JournalDamaged
from gateway.journal import Cursor
from gateway.journal.survey import look, verify
from tests.gateway.journal.builders import batch, fill, opened, transition
from tests.gateway.journal.damaging import spoil

_CONFIGURATION = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
data_dir = "."

[mqtt]
broker = "mqtt://127.0.0.1:1883"
"""


def fingerprint(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(directory.iterdir())}


def files_bytes(directory: Path) -> int:
    """What the segments and their logs take; SQLite's shared index beside them is memory, not journal."""
    return sum(path.stat().st_size for path in directory.glob("journal-*") if not path.name.endswith("-shm"))


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*.db"))


async def test_a_journal_in_use_is_told_without_being_touched(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 3)
        await journal.append([transition(journal.position.last_seq + 1)], [batch(1)])
        await journal.advance("mqtt", Cursor(4, 0))
        await journal.append([transition(journal.position.last_seq + 1)])
        before = fingerprint(tmp_path)
        survey = look(tmp_path)
        verdicts = list(verify(tmp_path))
        assert fingerprint(tmp_path) == before
        assert survey is not None
        assert survey.position == journal.position
        assert (survey.gateway, survey.holder, survey.sinks) == (
            "line-1",
            str(os.getpid()),
            {"mqtt": Cursor(4, 0)},
        )
        assert [view.name for view in survey.segments] == [verdict.name for verdict in verdicts]
        assert survey.bytes == files_bytes(tmp_path)
        assert sum(verdict.events for verdict in verdicts) == journal.position.last_seq
        assert sum(verdict.batches for verdict in verdicts) == journal.position.last_batch
        assert not any(verdict.damage for verdict in verdicts)
    after = look(tmp_path)
    assert after is not None
    assert after.holder == ""


async def test_every_kind_of_damage_is_found_and_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 4)
    paths = segments(tmp_path)
    spoil(paths[0], seq=2)
    with closing(sqlite3.connect(paths[0])) as db, db:
        db.execute("DELETE FROM block WHERE batch <= 4 AND batch + batch_count > 4")
    paths[1].unlink()
    first, third, newest = verify(tmp_path)
    found = [(d.seq, d.batch, d.reason) for d in first.damage]
    assert (2, 0, "its checksum is wrong") in found
    assert (0, 4, "batch 4 is missing before batch 5") in found
    assert "a segment before this one is missing" in [d.reason for d in third.damage]
    assert newest.damage == ()


async def test_a_newest_part_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1)])
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes()[:4096] + bytes(8192))
    with pytest.raises(JournalDamaged, match=path.name):
        look(tmp_path)


async def test_what_a_stopped_sink_leaves_room_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await fill(journal, 3)
        second = segments(tmp_path)[1]
        passed = Cursor(int(second.stem.split("-")[2]) - 1, int(second.stem.split("-")[3]) - 1)
        await journal.advance("read", passed)
        await journal.append([transition(journal.position.last_seq + 1)])
        survey = look(tmp_path)
    assert survey is not None
    survey = msgspec.structs.replace(survey, free_bytes=10**15, growth_bytes_per_s=10.0)
    room = 1_000_000
    all_unread, first_read = (survey.hours_left(survey.bytes + room, sink) for sink in ("unheard-of", "read"))
    assert all_unread == pytest.approx(room / 10 / 3600)
    assert first_read == pytest.approx((room + survey.segments[0].bytes) / 10 / 3600)
    on_a_full_disk = msgspec.structs.replace(survey, free_bytes=0)
    assert on_a_full_disk.hours_left(survey.bytes + room, "unheard-of") == 0
    assert msgspec.structs.replace(survey, growth_bytes_per_s=None).hours_left(room, "read") is None


async def test_the_command_tells_people_and_programs_and_ends_with_3_on_damage(tmp_path: Path) -> None:
    config = tmp_path / "andon.toml"
    config.write_text(_CONFIGURATION)
    run = CliRunner()
    none = run.invoke(app, ["journal", "status", str(config)])
    assert "there is no journal" in str(none.exception)
    async with opened(tmp_path / "journal", keep=timedelta(days=1)) as journal:
        await fill(journal, 2)
    told = run.invoke(app, ["journal", "status", str(config)])
    assert (told.exit_code, "by nobody" in told.output, "mqtt" in told.output) == (0, True, True)
    json = msgspec.json.decode(run.invoke(app, ["journal", "status", str(config), "--json"]).output)
    assert json["journal"]["gateway"] == "line-1"
    sound = run.invoke(app, ["journal", "verify", str(config)])
    assert (sound.exit_code, sound.output.count("sound")) == (0, 2)
    spoil(segments(tmp_path / "journal")[0], batch=2)
    damaged = run.invoke(app, ["journal", "verify", str(config)])
    assert isinstance(damaged.exception, JournalDamaged)
    assert damaged.exception.exit_code == 3
    assert "batch 2: its checksum is wrong" in damaged.output
