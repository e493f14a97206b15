"""`andon wipe`: nothing the gateway made stays, nothing else goes, and never under a gateway that runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway import wiping
from gateway.cli import app
from gateway.commands.when import WrongArgument
from gateway.errors import JournalInUse
from gateway.journal.files import Lock
from tests.gateway.assembly.living_site import Machine, Site, running
from tests.gateway.snapshots.sites import CONFIG, lay_out
from tests.support.small_plc import small_plcs


def call(*words: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), input=typed)


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


async def test_of_a_gateway_that_ran_nothing_is_left_but_its_configuration(tmp_path: Path) -> None:
    async with small_plcs(1) as [plc]:
        site = Site(
            links={"left": (plc.port, 1, 20)}, machines={"press": Machine("left/r0")}, listen="127.0.0.1:0"
        )
        async with running(tmp_path, site) as gateway:
            await gateway.until_up()
            refused = call("wipe", tmp_path / "andon.toml", "--yes")
            assert isinstance(refused.exception, JournalInUse)
            assert refused.exception.exit_code == 3
            assert "nothing was touched" in refused.exception.hint
            assert (tmp_path / "data/access/local.key").exists()
    assert {"access", "audit", "journal"} <= {path.name for path in (tmp_path / "data").iterdir()}

    done = call("wipe", tmp_path / "andon.toml", "--yes")

    assert done.exit_code == 0, done.output
    assert not (tmp_path / "data").exists()
    assert files_below(tmp_path) == {"andon.toml", "ring.toml"}


def test_what_is_somebody_elses_stays_and_is_named(tmp_path: Path) -> None:
    """The data directory may be any folder, even that of the configuration."""
    config = lay_out(
        tmp_path,
        **{
            "andon.toml": CONFIG.replace('site = "berlin"', 'site = "berlin"\ndata_dir = "."')
            + '[[mqtt]]\nname = "hall"\nbroker = "mqtt://user:hush@hall"\n',
            "journal/0.seg": "x",
            "access/users.json": "{}",
            "audit/key": "k",
            "audit-set-aside-20260101T000000Z/key": "k",
            "opcua/own/private/andon.pem": "k",
            "published-hall.json": "{}",
            "postgres-log/a.log": "x",
            "notes/mine.txt": "mine",
        },
    )
    done = call("wipe", config, "--yes", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {path.name for path in tmp_path.iterdir()} == {
        "andon.toml", "tags.csv", "models", "secrets", "notes", "data"
    }  # fmt: skip
    assert told["removed"][:2] == ["access", "audit"]
    assert told["removed"][-1] == "journal", "the lock is held to the end"
    left = "\n".join(told["left"])
    for words in ("notes", "[historian]", '"hall"', "backups", "OPC UA", "andon.toml"):
        assert words in left
    assert "hush" not in done.output


@pytest.mark.parametrize("typed", ["", "yes\n", "line-2\n"])
def test_nothing_is_removed_before_the_right_id_is_typed(tmp_path: Path, typed: str) -> None:
    config = lay_out(tmp_path)
    before = files_below(tmp_path)
    refused = call("wipe", config, typed=typed)
    assert refused.exit_code != 0
    if typed:
        assert isinstance(refused.exception, WrongArgument)
    assert files_below(tmp_path) == before


def test_the_id_is_enough(tmp_path: Path) -> None:
    config = lay_out(tmp_path)
    assert call("wipe", config, typed="line-1\n").exit_code == 0
    assert not (tmp_path / "data").exists()
    again = call("wipe", config, "--yes")
    assert again.exit_code == 0
    assert "there was nothing" in again.output


def test_while_the_journal_is_held_nothing_is_touched(tmp_path: Path) -> None:
    config = lay_out(tmp_path, **{"data/journal/0.seg": "x"})
    lock = Lock(tmp_path / "data/journal")
    try:
        before = files_below(tmp_path)
        assert isinstance(call("wipe", config, "--yes").exception, JournalInUse)
        assert files_below(tmp_path) == before
    finally:
        lock.release()


def test_while_the_embedded_database_runs_nothing_is_touched(tmp_path: Path) -> None:
    pid = f"{os.getpid()}\n{tmp_path}\n0\n5432\n{tmp_path}/data/postgres-socket\n"
    config = lay_out(tmp_path, **{"data/postgres/postmaster.pid": pid})
    before = files_below(tmp_path)
    assert isinstance(call("wipe", config, "--yes").exception, JournalInUse)
    assert files_below(tmp_path) == before


def test_where_a_link_was_put_what_it_leads_to_goes_too(tmp_path: Path) -> None:
    config = lay_out(tmp_path, **{"big-disk/journal/0.seg": "x", "big-disk/other": "mine"})
    (tmp_path / "data/journal").symlink_to(tmp_path / "big-disk/journal")
    (tmp_path / "data/snapshots/link").symlink_to(tmp_path / "big-disk")
    assert call("wipe", config, "--yes").exit_code == 0
    assert not (tmp_path / "data").exists()
    assert files_below(tmp_path / "big-disk") == {"other"}, "links inside are not followed"


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = lay_out(tmp_path)

    def refuses(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuses)
    refused = call("wipe", config, "--yes").exception
    assert isinstance(refused, wiping.WipeFailed)
    assert str(tmp_path / "data/opcua/own") in refused.reason
    assert "Permission denied" in refused.reason
