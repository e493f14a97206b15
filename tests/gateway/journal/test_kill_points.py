"""Killed inside a system call: while a segment is begun, finished, renamed or freed, or a commit synced.

The kernel kills the writer at its n-th call of a kind, so every step of every rotation is hit on purpose and
not by luck. Needs strace. With `ANDON_TEST_PROFILE=long` every call of the first 150 is tried.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from pathlib import Path

import pytest

from tests.gateway.journal.faults import LONG
from tests.gateway.journal.test_crash import WRITER, whole

#: How many calls of each kind the first few rotations of the writer make, or more.
CALLS = {"rename": 16, "unlink": 16, "ftruncate": 10, "fsync": 40, "fdatasync": 60, "pwrite64": 400}
AT_ONCE = 3


def points(call: str) -> list[int]:
    """Which calls to die at: the first ones, and some of the later ones by chance."""
    if LONG:
        return list(range(1, min(CALLS[call], 150) + 1))
    chance = random.Random(call)
    return [*range(1, 5), *sorted(chance.sample(range(5, CALLS[call] + 1), 4))]


async def killed_at(directory: Path, call: str, n: int) -> tuple[int, int]:
    """The last event and batch a writer was told are durable, before its n-th call of a kind killed it."""
    writer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"),
        *("-e", f"inject={call}:signal=KILL:when={n}", sys.executable, str(WRITER), str(directory)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(200):
        told, said = await writer.communicate()
    assert b"Traceback" not in said, said.decode()
    lines = [line.split() for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
    return (int(lines[-1][0]), int(lines[-1][1])) if lines else (0, 0)


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", CALLS)
async def test_a_kill_inside_any_call_loses_nothing_that_was_acknowledged(tmp_path: Path, call: str) -> None:
    turns = asyncio.Semaphore(AT_ONCE)
    reached = []

    async def one(n: int) -> None:
        directory = tmp_path / str(n)
        async with turns:
            acknowledged = await killed_at(directory, call, n)
        directory.mkdir(exist_ok=True)
        await whole(directory, acknowledged)
        for _ in range(2):  # and what the start made of it is whole as well
            await whole(directory, acknowledged)
        reached.append(acknowledged[0])
        shutil.rmtree(directory)

    async with asyncio.TaskGroup() as group:
        for n in points(call):
            group.create_task(one(n))
    assert max(reached) > 30, "no kill came after the first rotations"
