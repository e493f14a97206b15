"""The books as they lie in a folder: the same as in the gateway, and proved by what is really there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.accounts.keeper import Accounts
from gateway.accounts.survey import look_at_books
from gateway.cli import app
from gateway.commands.journal import BooksDoNotAddUp
from tests.gateway.accounts.sinks import SINK, Kept, SmallSink
from tests.gateway.journal.builders import ManualClock, batch, opened

_CONFIGURATION = """
[gateway]
id = "line-1"
enterprise = "acme"
site = "berlin"
data_dir = "."

[historian]
dsn = "postgresql://nobody@127.0.0.1:1/none"
"""
_WITHOUT = _CONFIGURATION.partition("[historian]")[0]


@pytest.fixture
async def site(tmp_path: Path) -> Path:
    """A gateway that was killed: 13 batches of 3 samples, 7 handed over, the books kept after the fifth."""
    clock, kept = ManualClock(), Kept()
    live = tmp_path / "live"
    async with opened(live, clock=clock, segment_bytes=1) as journal:
        accounts = await Accounts.open(journal, clock)
        sink = SmallSink(kept, journal, accounts)
        await sink.meet()
        for number in range(12):
            await journal.append((), [batch(number)])
            if number == 4:
                await sink.take(5, refuse=7)
                await journal.keep_watched()
        await sink.take(2)
        await journal.append((), [batch(12)])  # with the cursor
        dead = tmp_path / "journal"
        shutil.copytree(live, dead)
    (tmp_path / "andon.toml").write_text(_CONFIGURATION, encoding="utf-8")
    return tmp_path


async def test_the_books_of_a_folder_go_up_to_its_end(site: Path) -> None:
    books = look_at_books(site / "journal", tags=True)
    assert books is not None
    assert (books.adds_up, books.recorded) == (True, 39)
    line = books.sinks[SINK]
    assert (line.recorded, line.delivered + line.set_aside, line.buffered, line.difference) == (39, 21, 18, 0)
    assert line.set_aside > 0
    assert [one.tag for one in books.tags] == ["plc/tag-0", "plc/tag-1", "plc/tag-2"]
    assert all(one.sinks[SINK].buffered == 6 for one in books.tags)


async def test_the_command_tells_sums_and_tags(site: Path) -> None:
    config = str(site / "andon.toml")
    told = CliRunner().invoke(app, ["journal", "status", config, "--tags"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    rows = [line.split() for line in told.output.splitlines()]
    assert ["plc/tag-0", "historian", "13"] in [row[:3] for row in rows]
    told = CliRunner().invoke(app, ["journal", "status", config, "--json"])
    accounts = json.loads(told.output)["accounts"]
    assert (accounts["adds_up"], accounts["recorded"], accounts["tags"]) == (True, 39, [])


async def test_a_database_that_has_not_been_met_yet_is_not_told_as_none(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "journal", clock=clock) as journal:
        await Accounts.open(journal, clock)
        await journal.append((), [batch(1)])
        await journal.keep_watched()
    config = tmp_path / "andon.toml"
    for text, said in ((_CONFIGURATION, "historian, not counted yet"), (_WITHOUT, "no sink takes samples")):
        config.write_text(text, encoding="utf-8")
        told = CliRunner().invoke(app, ["journal", "status", str(config)], env={"COLUMNS": "200"})
        assert told.exit_code == 0, told.output
        assert said in told.output


async def test_what_cannot_be_read_beyond_the_sink_is_missing(site: Path) -> None:
    victim = next((site / "journal").glob("journal-*-1-10.db"))
    victim.write_bytes(b"\x00" * victim.stat().st_size)
    books = look_at_books(site / "journal", tags=True)
    assert books is not None
    assert (books.sinks[SINK].missing, books.sinks[SINK].buffered, books.adds_up) == (3, 15, True)


async def test_samples_nobody_can_account_for_are_told_and_end_with_1(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "journal", clock=clock) as journal:
        accounts = await Accounts.open(journal, clock)
        accounts.since_batch(SINK)
        await journal.append((), [batch(n) for n in range(4)])
        accounts.handed_over(SINK, 1, 4, [(1, batch(0)), (2, batch(1)), (3, batch(2))], None)
        await accounts.close()
    (tmp_path / "andon.toml").write_text(_CONFIGURATION, encoding="utf-8")
    told = CliRunner().invoke(
        app, ["journal", "status", str(tmp_path / "andon.toml")], env={"COLUMNS": "200"}
    )
    assert told.exit_code == 1
    assert isinstance(told.exception, BooksDoNotAddUp)


async def test_a_journal_without_books_has_none_to_tell(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal") as journal:
        await journal.append((), [batch(1)])
    assert look_at_books(tmp_path / "journal", tags=True) is None
    assert look_at_books(tmp_path / "nothing", tags=True) is None
