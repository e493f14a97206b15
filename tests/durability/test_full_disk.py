"""A disk that others fill to the last byte, under a gateway at work: no transition lost, nothing Unknown.

On a real small file system (tmpfs), so it needs root.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.clock import SystemClock
from gateway.config.schema import JournalSettings
from gateway.journal import Journal, files
from statemodel.records import Recorded
from statemodel.types import Gap, Transition
from tests.durability.carousel import Carousel, faults
from tests.support.processes import GatewayProcess, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
MB = 1_000_000
#: How long is waited for what has to come some day.
PATIENCE_S = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A data directory on a disk of its own, of 128 MB."""
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m,mode=0700", "tmpfs", str(data)], check=True)
    try:
        yield data
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill(disk: Path) -> Path:
    """Write until not a byte is left."""
    path = disk / "somebody-elses.log"
    with path.open("wb", buffering=0) as file:
        for size in (MB, 4096):
            try:
                while file.write(b"\xff" * size) == size:
                    pass
            except OSError:
                pass
    return path


async def all_events(disk: Path) -> Sequence[Recorded]:
    journal = await Journal.open(
        disk / "journal", gateway="carousel", settings=JournalSettings(), clock=SystemClock()
    )
    try:
        return await journal.read(0, 10**6)
    finally:
        await journal.close()


def row(recorded: Recorded) -> Mapping[str, Any]:
    event = recorded.event
    assert isinstance(event, Transition)
    told = {name: getattr(event, name) for name in ("sequence", "from_state", "to_state", "duration_s")}
    return {"equipment": recorded.equipment, "recorded_at": recorded.recorded_at, **told}


def configuration(carousel: Carousel, directory: Path, port: int) -> Path:
    """No database and no broker: what is recorded stays in the journal, in one segment that nobody frees."""
    path = carousel.config(directory, values={"historian": "", "broker": "", "listen": f"127.0.0.1:{port}"})
    text = re.sub(r"\[historian\]\n.*\n\[mqtt\]\n.*\n", "", path.read_text())
    path.write_text(re.sub(r"journal = .*\n", "", text))
    return path


def sheds(report: dict[str, Any]) -> bool:
    return "no samples" in (report["parts"]["journal"]["reason"] or "")


async def figure(gateway: GatewayProcess, name: str) -> float:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=PATIENCE_S) as http:
        text = (await http.get("/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.mark.timeout(500)
async def test_a_full_disk_costs_samples_that_are_counted_and_not_one_transition(
    tmp_path: Path, disk: Path
) -> None:
    port = free_port()
    async with Carousel(15, seed=5) as carousel:
        gateway = GatewayProcess(configuration(carousel, tmp_path, port), port)
        try:
            carousel.new_life()
            await gateway.start()
            async with asyncio.timeout(PATIENCE_S):
                while files.ballast_bytes(disk / "journal") != files.BALLAST_BYTES:
                    await asyncio.sleep(0.05)

            filler = await asyncio.to_thread(fill, disk)
            begun_s = time.monotonic()
            await gateway.until(sheds, PATIENCE_S)
            told_s = time.monotonic() - begun_s
            before = await figure(gateway, "andon_journal_last_seq")
            await asyncio.sleep(4)
            async with asyncio.timeout(PATIENCE_S):  # events go on
                while await figure(gateway, "andon_journal_last_seq") <= before + 50:
                    await asyncio.sleep(0.2)
            assert await figure(gateway, "andon_journal_shedding") == 1
            assert await figure(gateway, "andon_journal_full") == 0
            shed = await figure(gateway, "andon_journal_shed_samples")
            assert 0 < files.ballast_bytes(disk / "journal") < files.BALLAST_BYTES

            filler.unlink()
            begun_s = time.monotonic()
            await gateway.until(lambda report: report["parts"]["journal"]["ok"], PATIENCE_S)
            recovered_s = time.monotonic() - begun_s
            await asyncio.sleep(1)
            await carousel.stand_still()
            await asyncio.sleep(0.5)
            shed_in_all = await figure(gateway, "andon_journal_shed_samples")
            await gateway.stop()
        finally:
            if gateway.alive:
                await gateway.kill()
        carousel.lives[-1].told = {name: list(told) for name, told in carousel.lives[-1].told.items()}
        events = await all_events(disk)

    rows = [row(item) for item in events if item.type == "transition"]
    assert faults(carousel.lives, carousel.names, rows) == []
    # "Unknown" only by the farewell, when the process ended.
    assert [r for r in rows[: -len(carousel.names)] if r["to_state"] == "Unknown"] == []
    gaps = [item.event for item in events if isinstance(item.event, Gap)]
    lost = [gap for gap in gaps if "samples were not recorded" in gap.reason]
    assert sum(int(gap.reason.split()[0]) for gap in lost) == shed_in_all >= shed > 0
    assert {gap.connection for gap in lost} == {"plc"}
    print(
        f"told after {told_s:.2f} s, as before after {recovered_s:.2f} s, {shed_in_all:.0f} samples left out"
    )


@pytest.mark.timeout(500)
async def test_a_gateway_starts_on_a_full_disk_and_records(tmp_path: Path, disk: Path) -> None:
    port = free_port()
    async with Carousel(5, seed=6) as carousel:
        gateway = GatewayProcess(configuration(carousel, tmp_path, port), port)
        try:
            carousel.new_life()
            await gateway.start()
            async with asyncio.timeout(PATIENCE_S):
                while files.ballast_bytes(disk / "journal") != files.BALLAST_BYTES:
                    await asyncio.sleep(0.05)
            await gateway.kill()
            carousel.end_life()
            filler = await asyncio.to_thread(fill, disk)
            carousel.new_life()
            await gateway.start()
            await gateway.until(sheds, PATIENCE_S)
            await asyncio.sleep(1)
            filler.unlink()
            await gateway.until(lambda report: report["parts"]["journal"]["ok"], PATIENCE_S)
            await gateway.stop()
        finally:
            if gateway.alive:
                await gateway.kill()
        carousel.end_life()
        events = await all_events(disk)
    assert faults(carousel.lives, carousel.names, [row(i) for i in events if i.type == "transition"]) == []


@pytest.mark.timeout(200)
async def test_a_disk_that_is_too_small_is_refused_in_one_line(tmp_path: Path, disk: Path) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=8m", str(disk)], check=True)
    port = free_port()
    async with Carousel(2, seed=6) as carousel:
        gateway = GatewayProcess(configuration(carousel, tmp_path, port), port)
        await gateway.launch()
        assert gateway._process is not None
        async with asyncio.timeout(PATIENCE_S):
            await gateway._process.child.wait()
        assert gateway._process.child.returncode == 1
        words = gateway.words()
    assert "Traceback" not in words
    assert f"{disk}/journal" in words
    assert "too small for a journal: it needs" in words
