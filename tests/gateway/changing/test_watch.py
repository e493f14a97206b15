"""A change of the files is seen once it stands still; what only looks changed is no change."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.changing import watch as watching
from gateway.changing.watch import EVERY_S, Watch
from tests.gateway.changing.changing_site import MAIN, Site
from tests.support.manual_clock import ManualClock

T = TypeVar("T")


async def at_once(work: Callable[[], T]) -> T:
    """Without a thread, so that time can be told to pass."""
    return work()


class Watched:
    """Two files that are watched, by a clock that moves when told to."""

    def __init__(self, folder: Path) -> None:
        self.main, self.other = folder / "a.toml", folder / "b.csv"
        self.main.write_text("one")
        self.other.write_text("two")
        self.clock = ManualClock()
        self.wanted = True
        self.count = 0
        self.watch = Watch(self.clock, self._changed, lambda: self.wanted, at_once)

    async def _changed(self) -> None:
        self.count += 1

    async def pass_(self, seconds: float) -> None:
        """Let time pass, one look after the other."""
        for _ in range(round(seconds / EVERY_S)):
            for _ in range(5):
                await asyncio.sleep(0)
            self.clock.advance(EVERY_S)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def watched(tmp_path: Path) -> Watched:
    """Files that are watched."""
    watched = Watched(tmp_path)
    await watched.watch.follow([watched.main, watched.other])
    return watched


async def running(watched: Watched) -> asyncio.Task[None]:
    """The watch at work."""
    return asyncio.create_task(watched.watch.run())


async def test_a_change_is_told_once(watched: Watched) -> None:
    task = await running(watched)
    await watched.pass_(10)
    assert watched.count == 0
    watched.other.write_text("three")
    await watched.pass_(20)
    assert watched.count == 1
    task.cancel()


async def test_a_file_that_is_still_being_written_is_left_alone(watched: Watched) -> None:
    task = await running(watched)
    for number in range(6):
        watched.main.write_text("x" * (number + 10))
        await watched.pass_(2)
        assert watched.count == 0
    await watched.pass_(6)
    assert watched.count == 1
    task.cancel()


async def test_touched_is_not_changed(watched: Watched) -> None:
    task = await running(watched)
    os.utime(watched.main, (1, 1))
    await watched.pass_(10)
    assert watched.count == 0
    task.cancel()


@pytest.mark.parametrize("how", ["gone", "there", "replaced"])
async def test_files_come_go_and_are_replaced(watched: Watched, tmp_path: Path, how: str) -> None:
    await watched.watch.follow([watched.main, tmp_path / "c.toml"])
    task = await running(watched)
    if how == "gone":
        watched.main.unlink()
    elif how == "there":
        (tmp_path / "c.toml").write_text("new")
    else:
        (tmp_path / "draft").write_text("ONE")
        (tmp_path / "draft").rename(watched.main)
    await watched.pass_(10)
    assert watched.count == 1
    task.cancel()


async def test_only_while_it_is_wanted(watched: Watched) -> None:
    watched.wanted = False
    task = await running(watched)
    watched.main.write_text("other")
    await watched.pass_(10)
    assert watched.count == 0
    watched.wanted = True
    await watched.pass_(10)
    assert watched.count == 1
    task.cancel()


async def test_what_was_looked_for_in_vain_is_watched_too(tmp_path: Path) -> None:
    site = Site(tmp_path)
    found: list[Path] = []

    async def looked_at(paths: Sequence[Path]) -> None:
        found.extend(paths)

    site.desk.looked_at = looked_at
    site.write("andon.toml", MAIN.replace("lists/slow.csv", "lists/late.csv"))
    assert await site.desk.read_again("watch") is None
    assert tmp_path / "lists/late.csv" in found
    site.write("lists/late.csv", "name,address,type\ncount,holding:10,uint32\n")
    assert await site.desk.read_again("watch") is not None


async def test_a_change_that_falls_into_the_reading_of_another_is_seen(watched: Watched) -> None:
    async def changed() -> None:
        watched.count += 1
        if watched.count == 1:
            watched.other.write_text("written while the first change is being made")
        await watched.watch.follow([watched.main, watched.other])

    watched.watch = Watch(watched.clock, changed, aside=at_once)
    await watched.watch.follow([watched.main, watched.other])
    task = await running(watched)
    watched.main.write_text("changed")
    await watched.pass_(20)
    assert watched.count == 2
    task.cancel()


async def test_the_files_that_were_read_are_known_before_the_change_is_made(tmp_path: Path) -> None:
    site = Site(tmp_path)
    order: list[str] = []

    async def looked_at(paths: Sequence[Path]) -> None:
        order.append("known" if tmp_path / "lists/new.csv" in paths else "")

    site.desk.looked_at = looked_at
    site.exchange.before = lambda: order.append("exchanged")
    site.write("lists/new.csv", (tmp_path / "lists/slow.csv").read_text() + "more,holding:90,uint16\n")
    site.write("andon.toml", MAIN.replace("lists/slow.csv", "lists/new.csv"))
    assert await site.desk.read_again("watch") is not None
    assert order[:2] == ["known", "exchanged"]


async def test_a_name_no_file_can_have_is_a_file_that_is_not_there(watched: Watched) -> None:
    """A reference to a secret may say anything."""
    await watched.watch.follow([watched.main, Path("secret\0")])
    task = await running(watched)
    await watched.pass_(4)
    watched.main.write_text("another")
    await watched.pass_(20)
    assert (watched.count, task.done()) == (1, False)
    task.cancel()


@pytest.mark.timeout(100)
async def test_a_share_that_hangs_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, begun = threading.Event(), threading.Event()
    look_at, looks = watching._look_at, list[Path]()

    def hanging(path: Path) -> watching.Look | None:
        looks.append(path)
        begun.set()
        hangs.wait(100)
        return look_at(path)

    path = tmp_path / "a.toml"
    path.write_text("one")

    async def changed() -> None:
        raise AssertionError

    watch = Watch(ManualClock(), changed)
    await watch.follow([path])
    monkeypatch.setattr(watching, "_look_at", hanging)
    looking = [asyncio.create_task(watch.look()) for _ in range(3)]
    while not begun.is_set():
        await asyncio.sleep(0)  # everything else goes on
    assert not any(task.done() for task in looking)
    assert len(looks) == 1, "one look at a time"
    hangs.set()
    await asyncio.gather(*looking)
    assert len(looks) == 3
