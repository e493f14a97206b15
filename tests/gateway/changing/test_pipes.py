"""A pipe where a file of the configuration was holds up nobody: opening one waits for who writes to it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from api.configuring import NotDone
from gateway.changing.watch import EVERY_S, Watch
from tests.gateway.changing.changing_site import ADA, MAIN, Site
from tests.support.manual_clock import ManualClock


@pytest.mark.timeout(100)
async def test_a_pipe_is_a_problem_that_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    main = site.desk.carrier.main
    before = main.read_bytes()
    main.unlink()
    os.mkfifo(main)
    assert await site.desk.read_again("sighup") is None
    assert "pipe" in site.desk.trouble
    with pytest.raises(NotDone) as caught:
        await site.put(site.edited("hall 3", "hall 4"), ADA)
    assert caught.value.code == "configuration_edited_on_disk"
    main.unlink()
    main.write_bytes(before)
    assert await site.desk.read_again("sighup") is not None
    assert not site.desk.trouble


@pytest.mark.timeout(100)
async def test_a_pipe_is_looked_at_from_outside_only(tmp_path: Path) -> None:
    told: list[str] = []
    clock = ManualClock()
    path = tmp_path / "a.toml"
    path.write_text(MAIN)

    async def changed() -> None:
        told.append("changed")

    watch = Watch(clock, changed)
    await watch.follow([path])
    path.unlink()
    os.mkfifo(path)
    looking = asyncio.create_task(watch.look())
    while not clock.pauses:
        await asyncio.sleep(0)
    clock.advance(EVERY_S)
    await looking
    assert told == ["changed"]
