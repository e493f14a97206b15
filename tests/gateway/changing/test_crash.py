"""Killed at any step of a change, the next start runs the old configuration or the new, never a mixture."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs

from gateway.changing.beginning import begin
from gateway.changing.revisions import Revisions
from gateway.config.problems import ConfigurationRefused
from tests.gateway.changing.changing_site import CSV, MAIN, Site

ROOT = Path(__file__).parents[3]
NEW_MAIN = (
    MAIN.replace('"1s"', '"2s"').replace('name = "fast"', 'name = "quick"')
    + '\n[[equipment]]\nname = "oven-1"\npath = "oven-1"\nmodel = "oven.toml"\n'
    + 'bind = { on = "filler-plc/count" }\n'
)
NEW_CSV = CSV + "rejects,holding:12,uint32\n"
MODEL = """name = "oven"
initial = "Off"
states = [{ name = "Off" }, { name = "On" }]
transitions = [{ from = "Off", to = "On" }, { from = "On", to = "Off" }]
rules = [{ state = "On", when = "on > 0" }, { state = "Off", when = "True" }]
"""


def prepared(folder: Path) -> Path:
    """A site that runs, and new files for it."""
    folder.mkdir()
    Site(folder)
    new = folder / "new"
    (new / "lists").mkdir(parents=True)
    for name, text in (("line-1.toml", NEW_MAIN), ("lists/slow.csv", NEW_CSV), ("oven.toml", MODEL)):
        (new / name).write_text(text)
    return folder


def run_killed(folder: Path, step: int) -> subprocess.CompletedProcess[str]:
    """Apply the new files in a process that dies at a step."""
    command = [sys.executable, "-m", "tests.gateway.changing.killed", str(folder), str(step)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def steps_of(done: subprocess.CompletedProcess[str]) -> int:
    """How many steps a change has that is not cut off."""
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def state_of(folder: Path) -> str:
    """What the next start runs: `old`, `new`, or what else."""
    loaded = begin(folder / "line-1.toml")
    groups = [group.name for group in loaded.configuration.connections[0].groups]
    tags = [tag.name for tag in loaded.configuration.connections[0].tags()]
    equipment = [item.name for item in loaded.configuration.equipment]
    if (groups, tags, equipment) == (["fast"], ["state", "count"], ["filler-1"]):
        return "old"
    if (groups, tags, equipment) == (["quick"], ["state", "count", "rejects"], ["filler-1", "oven-1"]):
        return "new"
    return f"a mixture: {groups} {tags} {equipment}"


@pytest.mark.timeout(900)
def test_killed_at_every_step(tmp_path: Path) -> None:
    template = prepared(tmp_path / "template")
    counted = shutil.copytree(template, tmp_path / "counted", symlinks=True)
    done = run_killed(counted, 0)
    steps = steps_of(done)
    assert steps >= 10
    assert state_of(counted) == "new"
    found = []
    for step in range(1, steps + 1):
        folder = shutil.copytree(template, tmp_path / f"step-{step}", symlinks=True)
        killed = run_killed(folder, step)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        found.append(state_of(folder))
        revisions = Revisions(folder / "data")
        revisions.open()
        newest = revisions.newest()
        assert newest is not None
        # What runs is the newest revision: a crash is no edit by hand.
        assert newest.number == (2 if found[-1] == "new" else 1)
        assert revisions.pending() is None
        assert state_of(folder) == found[-1]
    turn = found.index("new")
    assert 0 < turn < len(found) - 1, found
    assert found == ["old"] * turn + ["new"] * (len(found) - turn)


def test_killed_while_going_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that finishes the change may be cut off as well."""
    folder = prepared(tmp_path / "site")
    total = steps_of(run_killed(shutil.copytree(folder, tmp_path / "counted", symlinks=True), 0))
    run_killed(folder, total - 6)
    revisions = Revisions(folder / "data")
    revisions.open()
    assert revisions.pending() is not None
    real = Path.rename
    left = [2]

    def cut_off(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", cut_off)
    with pytest.raises(KeyboardInterrupt):
        begin(folder / "line-1.toml")
    monkeypatch.undo()
    assert state_of(folder) == "new"


def test_what_somebody_edited_after_the_crash_stays(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "site")
    total = steps_of(run_killed(shutil.copytree(folder, tmp_path / "counted", symlinks=True), 0))
    run_killed(folder, total - 6)
    mine = MAIN.replace('"1s"', '"7s"')
    (folder / "line-1.toml").write_text(mine)
    begin(folder / "line-1.toml")
    assert (folder / "line-1.toml").read_text() == mine
    revisions = Revisions(folder / "data")
    revisions.open()
    assert revisions.pending() is None


def test_a_change_another_process_is_making_is_left_to_it(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "site")
    total = steps_of(run_killed(shutil.copytree(folder, tmp_path / "counted", symlinks=True), 0))
    run_killed(folder, total - 6)
    (folder / "data/journal").mkdir()
    with (folder / "data/journal/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(ConfigurationRefused):  # it may see half of it; it will not get past the journal
            begin(folder / "line-1.toml")
        assert Revisions(folder / "data").pending() is not None
    assert state_of(folder) == "new"


def test_an_older_one_that_was_never_named_does_not_come_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (newest,) = site.kept.infos()
    (site.kept.folder / "000001.json").rename(site.kept.folder / "000001.next")
    kept = site.kept.pending()
    assert kept is not None
    assert kept.revision.info == newest
    site.kept.add(structs.replace(kept.revision, info=structs.replace(newest, number=2)))
    assert site.kept.pending() is None
