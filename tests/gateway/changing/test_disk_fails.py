"""A disk that fails at any step of a change: what runs, what is known to run and what is kept stay one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.configuring import MAIN_FILE, NotDone, Outcome
from gateway.changing.canonical import hash_of, texts
from gateway.changing.placing import NotPlaced, go_on
from gateway.changing.revisions import Revisions
from tests.gateway.changing.changing_site import ADA, CSV, Site
from tests.gateway.changing.killed import CALLS

NEW_CSV = CSV + "rejects,holding:12,uint32\n"
#: More than a change has.
STEPS_MAX = 60


class Disk:
    """Counts what is asked of the disk, and refuses one step, or all from it on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, *, for_good: bool) -> None:
        self.steps = 0
        self._step, self._for_good = step, for_good
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        for name in ("read_bytes", "stat"):
            monkeypatch.setattr(Path, name, self._counted(getattr(Path, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.steps += 1
            if self.steps == self._step or (self._for_good and self.steps > self._step):
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **more)

        return call


def changed(site: Site) -> dict[str, str]:
    """New texts of both files."""
    return site.edited('"1s"', '"2s"', **{"lists/slow.csv": NEW_CSV})


async def sent(site: Site) -> Outcome | None:
    """They are sent; None when they are refused."""
    try:
        return await site.put(changed(site), ADA)
    except NotDone:
        return None


async def read_again(site: Site) -> Outcome | None:
    """They lie on the disk already, and are read again; None when they are refused."""
    return await site.desk.read_again("watch")


def is_one(site: Site) -> None:
    """What runs is what is known to run."""
    runs = hash_of(texts(site.exchange.loaded.files, site.main.name))
    assert site.desk.running().hash == site.carrier.hash == runs


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("way", [sent, read_again])
async def test_a_disk_that_fails_at_any_step(tmp_path: Path, way: Any, for_good: bool) -> None:
    failed = 0
    for step in range(1, STEPS_MAX):
        (tmp_path / str(step)).mkdir()
        site = Site(tmp_path / str(step))
        before, old = site.on_disk(), site.carrier.hash
        if way is read_again:
            for name, text in changed(site).items():
                site.write(name, text)
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = Disk(monkeypatch, step, for_good=for_good)
            outcome = await way(site)
        is_one(site)
        assert (outcome is None) == (site.carrier.hash == old)
        if outcome is None:
            failed += 1
        if not for_good:
            assert site.on_disk() == (before if way is sent and outcome is None else changed(site))
            assert outcome is not None or site.kept.pending() is None
        if disk.steps < step:
            break
    else:
        pytest.fail("the disk never came to its end")
    assert failed >= 5
    assert outcome is not None


async def test_what_stays_for_the_next_start_is_said(tmp_path: Path) -> None:
    """The note of a change that failed cannot be taken away: a person has to know, before a start does."""
    site = Site(tmp_path)
    real_rename, real_unlink = os.rename, os.unlink

    def rename(source: Any, target: Any, **more: Any) -> None:
        if str(target).endswith("slow.csv"):
            raise OSError(errno.EIO, "Input/output error")
        real_rename(source, target, **more)

    def unlink(path: Any, **more: Any) -> None:
        if str(path).endswith("000002.next"):
            raise OSError(errno.EIO, "Input/output error")
        real_unlink(path, **more)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(os, "unlink", unlink)
        with pytest.raises(NotDone) as caught:
            await site.put(changed(site), ADA)
    assert "slow.csv cannot be replaced" in caught.value.reason
    assert "000002.next" in caught.value.hint
    is_one(site)


async def test_a_start_that_cannot_read_its_files_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    kept = site.kept.read(1)
    assert kept is not None
    site.kept.begin(kept, {MAIN_FILE: None})
    (site.kept.folder / "000001.json").unlink()
    revisions = Revisions(site.carrier.loaded.data_dir)
    revisions.open()
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == site.main.name:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(NotPlaced, match=r"line-1\.toml"):
        go_on(site.main, revisions)
