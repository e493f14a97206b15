"""Runs one operation again and again, killed at its first step, its second, and so on; judges what is left.

A step is whatever the interpreter tells its audit hooks of: a file opened, renamed, removed, a folder made.
The last run is the one that comes to its end. Prints how many there were.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway import log
from gateway.clock import SystemClock
from gateway.snapshots import backup
from gateway.snapshots.folder import SnapshotFolder
from gateway.snapshots.restore import restore
from tests.gateway.journal.builders import ManualClock, opened
from tests.gateway.snapshots.builders import content, header
from tests.gateway.snapshots.sites import lay_out, write_journal

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
STEPS_MAX = 2_000


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do some work in a process of its own that is killed at a step; whether it came to its end before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking: there is one thread here
        child = os.fork()
    if child == 0:
        left = step

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in ("open", "sqlite3.connect") or event.startswith(("os.", "shutil.", "ctypes.")):
                left -= 1
                if left == 0:  # killing is a step as well
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return not os.WIFSIGNALED(status)


def until_it_ends(root: Path, work: Callable[[Path], object], judge: Callable[[Path, bool], None]) -> int:
    """Kill at every step; `root` is laid out anew each time. The number of steps."""
    for step in range(1, STEPS_MAX):
        place = root.with_name(f"{root.name}-{step}")
        shutil.copytree(root, place)
        ended = killed_at(step, lambda place=place: work(place))  # type: ignore[misc]
        judge(place, ended)
        shutil.rmtree(place)
        if ended:
            return step
    raise AssertionError("it never ended")


def files_in(root: Path) -> dict[str, bytes]:
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    return {
        name: data for name, data in found.items() if not name.endswith("journal/lock")
    }  # says who held it


# -- the operations


def snapshot(root: Path) -> int:
    """A snapshot beside one that is there."""
    old, new = header("old-full"), header("new-full", minute=1)
    SnapshotFolder(root).write(old, content({"m1": 6}))

    def judge(place: Path, ended: bool) -> None:
        folder = SnapshotFolder(place)
        assert folder.load("old-full").content == content({"m1": 6})
        judged = folder.verify()
        assert [e.problem for e in judged] == [""] * len(judged)
        assert {e.file for e in judged} in ({"old-full.snap"}, {"old-full.snap", "new-full.snap"})
        assert not ended or len(judged) == 2
        folder.write(header("next-full", minute=2), content({"m1": 4}))
        assert all(path.suffix == ".snap" for path in place.iterdir()), "nothing half written is left"

    return until_it_ends(root, lambda at: SnapshotFolder(at).write(new, content({"m1": 11})), judge)


def make_backup(root: Path) -> int:
    """A backup of a site with a journal."""
    lay_out(root)
    asyncio.run(write_journal(root, events=4))
    before = files_in(root)

    def work(place: Path) -> object:
        return backup.make(place / "andon.toml", None, secret=None, with_secrets=False, version="1", now=NOW)

    def judge(place: Path, ended: bool) -> None:
        assert {n: d for n, d in files_in(place).items() if not n.startswith("backups/")} == before
        found = backup.listing(place / "backups")
        assert len(found) == 1 if ended else len(found) < 2
        for item in found:
            backup.verify(Path(item.file), None)
        work(place)
        assert len(list((place / "backups").iterdir())) == 1, "nothing half written is left"

    return until_it_ends(root, work, judge)


def restore_new(root: Path) -> int:
    """A restore to where nothing is."""
    return _restore(root, force=False)


def restore_over(root: Path) -> int:
    """A restore over a gateway that is there."""
    return _restore(root, force=True)


def _restore(root: Path, *, force: bool) -> int:
    site = root / "site"
    lay_out(site)
    asyncio.run(write_journal(site, events=4))
    made = backup.make(
        site / "andon.toml", root / "one.zst", secret=None, with_secrets=False, version="1", now=NOW
    )
    if force:
        shutil.copytree(site, root / "target")
        (root / "target/mine").write_text("mine")
    before = files_in(root / "target")

    def work(place: Path) -> object:
        return restore(place / "one.zst", place / "target", secret=None, force=force, clock=SystemClock())

    def judge(place: Path, ended: bool) -> None:
        target = place / "target"
        if force:
            judge_what_was_there(place, ended)
        if files_in(target) == before and target.exists() is force:
            assert not ended
            return
        assert (target / "andon.toml").read_bytes() == (site / "andon.toml").read_bytes()
        assert not (target / "mine").exists()
        asyncio.run(_goes_on(target / "data/journal", made.head.stream))

    def judge_what_was_there(place: Path, ended: bool) -> None:
        """It lies there whole, and no further restore takes it away."""
        if (place / "target/mine").exists():
            return
        again = place.with_name(f"{place.name}-again")
        shutil.copytree(place, again)
        restore(again / "one.zst", again / "target", secret=None, force=True, clock=ManualClock())
        for root in (place, again):
            [kept] = root.glob("**/mine")
            assert files_in(kept.parent) == before
            if ended:
                assert kept.parent.name.startswith("target.before-")
        shutil.rmtree(again)

    return until_it_ends(root, work, judge)


async def _goes_on(journal: Path, old_stream: str) -> None:
    async with opened(journal) as restored:
        assert restored.stream != old_stream
        assert "filler-1" in await restored.last_transitions()


if __name__ == "__main__":
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        log.configure("critical", json=True, file=nowhere)
        operation = {f.__name__: f for f in (snapshot, make_backup, restore_new, restore_over)}[sys.argv[1]]
        place_ = Path(sys.argv[2])
        place_.mkdir(parents=True)
        sys.stdout.write(f"{operation(place_)}\n")
