"""`andon backup`, `restore` and `snapshot` as people call them: honest mistakes, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.commands.when import WrongArgument
from gateway.snapshots.folder import SnapshotFolder
from tests.gateway.snapshots.builders import AT, content, header
from tests.gateway.snapshots.sites import lay_out


def call(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.parametrize("verb", [("backup", "verify"), ("restore",)])
@pytest.mark.parametrize(("name", "said"), [("nosuch", "no such file"), ("folder", "is a folder")])
def test_a_backup_that_is_not_there_is_a_wrong_argument(
    tmp_path: Path, verb: tuple[str, ...], name: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    to = ("--to", tmp_path / "new") if verb == ("restore",) else ()
    refused = call(*verb, tmp_path / name, *to).exception
    assert isinstance(refused, WrongArgument)
    assert said in refused.reason
    assert str(tmp_path / name) in refused.reason
    assert "andon backup list" in refused.hint


def site_with_snapshot(root: Path) -> tuple[Path, str]:
    """A configuration and the name of its one sound snapshot."""
    config = lay_out(
        root, **{"andon.toml": '[gateway]\nid = "line-1"\nenterprise = "acme"\nsite = "berlin"\n'}
    )
    (root / "data/snapshots/20260101T000000.000Z-full.snap").unlink()
    folder = SnapshotFolder(root / "data/snapshots", None)
    name = folder.name_at(AT, "full")
    folder.write(header(name), content({"m1": 6}))
    return config, name


def test_snapshots_that_were_verified_are_said_to_be_sound(tmp_path: Path) -> None:
    config, name = site_with_snapshot(tmp_path)
    verified = call("snapshot", "verify", config)
    assert verified.exit_code == 0
    [line] = [line for line in verified.output.splitlines() if line.startswith(name)]
    assert "sound" in line.split()
    # A list has read the headers only, and does not say so.
    assert "sound" not in call("snapshot", "list", config).output


def test_a_snapshot_nobody_has_is_a_wrong_argument(tmp_path: Path) -> None:
    config, name = site_with_snapshot(tmp_path)
    refused = call("snapshot", "restore", config, name.replace("full", "fall")).exception
    assert isinstance(refused, WrongArgument)
    assert name in refused.hint
    assert not (tmp_path / "data/journal").exists()
