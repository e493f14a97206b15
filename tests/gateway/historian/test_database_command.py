"""`andon database`: what it tells of a database, up and down, and rows written again, as people call it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.commands.database import RowsRefused
from gateway.commands.when import WrongArgument
from gateway.embedded_postgres import dsn_of_running
from gateway.errors import SinkUnavailable
from gateway.historian.migrate import migrations
from gateway.snapshots.database import server_of
from tests.gateway.historian.databases import Database, drained, running
from tests.gateway.journal.builders import opened, transition

NEWEST = len(migrations())


def write_config(directory: Path, dsn: str) -> Path:
    path = directory / "andon.toml"
    path.write_text(
        '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\ndata_dir = "."\n'
        f'[historian]\ndsn = "{dsn}"\n',
        encoding="utf-8",
    )
    return path


async def called(*words: object) -> Result:
    """The command in a thread, for it has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["database", *map(str, words)])


async def told(*words: object) -> Any:
    done = await called(*words, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]


async def test_up_down_and_what_it_is(database: Database, tmp_path: Path) -> None:
    config = write_config(tmp_path, database.dsn)
    [empty] = await told("status", config)
    assert [step["applied"] for step in empty["migrations"]] == [False] * NEWEST
    assert (await told("migrate", config))[0]["done"] == list(range(1, NEWEST + 1))
    assert "nothing to do" in (await called("migrate", config)).output
    async with opened(tmp_path / "journal") as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [])
        await drained(historian, journal)
        [found] = await told("status", config)
        assert all(step["applied"] for step in found["migrations"])
        assert found["cursors"][0]["seq"] == 1
        assert "andon line-1" in found["connected"]
        assert (found["chunks"] is not None) == bool(found["server"]["timescale"])
        # While a gateway is at work nothing is taken back, whatever was agreed to.
        refused = (await called("migrate", config, "--to", 2, "--yes")).exception
        assert isinstance(refused, WrongArgument)
        assert "in use" in refused.reason
    await database.alone()
    text = (await called("status", config)).output
    assert f"{NEWEST} of {NEWEST}" in text
    refused = (await called("migrate", config, "--to", 0)).exception
    assert isinstance(refused, WrongArgument)
    assert "the whole history" in refused.reason
    assert await database.value("SELECT count(*) FROM andon.transition") == 1
    assert (await told("migrate", config, "--to", 2, "--yes"))[0]["done"] == list(range(NEWEST, 2, -1))
    [older] = await told("status", config)
    assert [step["applied"] for step in older["migrations"]] == [n < 2 for n in range(NEWEST)]
    assert await database.value("SELECT count(*) FROM andon.transition") == 1
    assert isinstance((await called("migrate", config, "--to", NEWEST + 1)).exception, WrongArgument)


async def test_rows_are_listed_written_again_and_left(database: Database, tmp_path: Path) -> None:
    config = write_config(tmp_path, database.dsn)
    async with opened(tmp_path / "journal") as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [])
        await drained(historian, journal)
        assert "no row" in (await called("set-aside", "list", config)).output
        await database.do("ALTER TABLE andon.transition ADD CONSTRAINT odd CHECK (seq < 2) NOT VALID")
        await journal.append([transition(2), transition(3)], [])
        await drained(historian, journal)
        first, second = await told("set-aside", "list", config)
        assert (first["first"], second["first"], first["tries"]) == (2, 3, 0)
        again = await called("set-aside", "retry", config)
        assert isinstance(again.exception, RowsRefused)
        assert "0 written, 2 refused again" in again.output
        await database.do("ALTER TABLE andon.transition DROP CONSTRAINT odd")
        [done] = await told("set-aside", "retry", config, "--id", first["id"])
        assert done == {"written": [first["id"]], "refused": [], "empty": []}
        assert isinstance((await called("set-aside", "drop", config)).exception, WrongArgument)
        assert isinstance((await called("set-aside", "retry", config, "--id", 999)).exception, WrongArgument)
        assert (await told("set-aside", "drop", config, "--id", second["id"])) == [
            {"dropped": [second["id"]]}
        ]
        assert await told("set-aside", "list", config) == []
        assert await database.value("SELECT count(*) FROM andon.transition") == 2


@pytest.mark.parametrize("verb", ["status", "migrate"])
async def test_a_database_that_is_away_is_said_to_be(tmp_path: Path, verb: str) -> None:
    config = write_config(tmp_path, "postgresql://nobody@127.0.0.1:1/none")
    away = (await called(verb, config)).exception
    assert isinstance(away, SinkUnavailable)
    assert away.reason == "the database none at 127.0.0.1:1: Connection refused"
    assert "historian.dsn" in away.hint


@pytest.mark.parametrize("words", [("list",), ("retry",), ("drop", "--id", "1")])
async def test_a_database_without_tables_is_said_to_have_none(
    database: Database, tmp_path: Path, words: tuple[str, ...]
) -> None:
    config = write_config(tmp_path, database.dsn)
    refused = (await called("set-aside", words[0], config, *words[1:])).exception
    assert isinstance(refused, WrongArgument)
    assert "no tables" in refused.reason
    assert "andon database migrate" in refused.hint


async def test_what_is_said_to_be_lost_is_what_is_lost(database: Database, tmp_path: Path) -> None:
    config = write_config(tmp_path, database.dsn)
    await told("migrate", config)
    refused = (await called("migrate", config, "--to", 3)).exception
    assert isinstance(refused, WrongArgument)
    assert refused.reason == (
        f"taking back {', '.join(map(str, range(4, NEWEST + 1)))} loses which stretches came late; figures "
        "by the hour, also of samples that have been deleted; which processes have written"
    )
    # An index is no loss.
    assert (await told("migrate", config, "--to", 7))[0]["done"] == list(range(NEWEST, 7, -1))


async def test_an_embedded_database_answers_whether_its_gateway_runs_or_not(tmp_path: Path) -> None:
    config = write_config(tmp_path, "embedded")
    none_yet = (await called("status", config)).exception
    assert isinstance(none_yet, WrongArgument)
    assert "no embedded database" in none_yet.reason
    async with server_of(tmp_path) as dsn:
        assert (await told("migrate", config))[0]["done"] == list(range(1, NEWEST + 1))
        assert dsn_of_running(tmp_path) == dsn
    # Nothing runs now, as after the gateway has been stopped for a downgrade.
    assert dsn_of_running(tmp_path) is None
    assert (await told("migrate", config, "--to", 2, "--yes"))[0]["done"] == list(range(NEWEST, 2, -1))
    shown = await called("status", config)
    assert shown.exit_code == 0, shown.output
    assert f"embedded, in {tmp_path}" in shown.output
    assert dsn_of_running(tmp_path) is None


async def test_the_rows_of_tables_nobody_has_counted_yet_are_not_told_as_none(
    database: Database, tmp_path: Path
) -> None:
    config = write_config(tmp_path, database.dsn)
    async with opened(tmp_path / "journal") as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(number) for number in (1, 2, 3)], [])
        await drained(historian, journal)
    [found] = await told("status", config)
    rows = {table["table"]: table["rows"] for table in found["tables"]}
    assert rows["transition"] in (3, None)
    await database.do("ANALYZE andon.transition")
    [found] = await told("status", config)
    rows = {table["table"]: table["rows"] for table in found["tables"]}
    assert rows["transition"] == 3
