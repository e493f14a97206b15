"""kill -9 while it records, again and again: what was acknowledged is there, and the chain holds."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from gateway.audit import folder
from gateway.audit.reading import Question, read
from gateway.audit.verifying import verify
from tests.support.processes import Process

KILLS = 500 if os.environ.get("ANDON_TEST_PROFILE") == "long" else 20
ROOT = Path(__file__).parents[3]


async def one_life(data_dir: Path, log: Path, first: int, acknowledgements: int) -> dict[int, int]:
    """Record until so many were acknowledged, then kill; value to number."""
    command = [sys.executable, "-m", "tests.gateway.audit.recording_child", str(data_dir), str(first)]
    child = await Process.start(command, log, environment={"PYTHONPATH": str(ROOT)})
    told: dict[int, int] = {}
    try:
        assert child.child.stdout is not None
        async with asyncio.timeout(60):
            while len(told) < acknowledgements:
                line = await child.child.stdout.readline()
                assert line, child.words()
                n, value = map(int, line.split())
                told[value] = n
        child.child.kill()
        async with asyncio.timeout(60):
            rest = await child.child.stdout.read()
        for line in rest.splitlines(keepends=True):
            if line.endswith(b"\n"):
                n, value = map(int, line.split())
                told[value] = n
    finally:
        await child.kill()
    return told


@pytest.mark.timeout(200 + 15 * KILLS)
async def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    told: dict[int, int] = {}
    for life in range(KILLS):
        told |= await one_life(tmp_path, tmp_path / "log", life * 100_000, chance.randint(1, 60))
        verdict = verify(tmp_path / "audit")
        torn = [one for one in verdict.remarks if "not whole" in one or "after the newest" in one]
        assert verdict.sound, verdict.faults
        assert len(verdict.remarks) == len(torn)
    found = read(folder.segments_of(tmp_path / "audit"), Question(limit=10**6))
    kept = {record.detail["value"]: record.n for record in found if record.action == "command"}
    assert len(told) > 10 * KILLS
    assert told.items() <= kept.items()
    assert len(kept) == len([record for record in found if record.action == "command"]), "none is there twice"
