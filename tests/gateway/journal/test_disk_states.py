"""Whatever a kill or the loss of power leaves of a turn of segments, a fold or a freeing: it opens as it was.

Every call that changes the disk is recorded, and what may lie there in between is laid down and opened. With
`ANDON_TEST_PROFILE=long` after each call and more often, else after some of them. Needs strace.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.gateway.journal.builders import PATIENCE_S, opened, transition
from tests.gateway.journal.disk_states import CALLS, Disk, calls_of
from tests.gateway.journal.faults import FAST, LONG

WRITER = Path(__file__).with_name("turning_writer.py")
ROOT = Path(__file__).resolve().parents[3]
EVERY, DARK = (1, 4) if LONG else (7, 2)


def recorded(folder: Path, trace: Path) -> None:
    """Run the writer, and record its calls."""
    subprocess.run(
        [
            *("strace", "-f", "-qq", "-xx", "-s", "2000000", "-e", f"trace={CALLS}", "-o", str(trace)),
            *(sys.executable, str(WRITER), str(folder)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=True,
    )


async def judge(trial: Path, stream: str, acknowledged: int, kept: int) -> None:
    """Nothing that was acknowledged is missing, nothing is called damaged, and it goes on."""
    for _ in range(2):
        async with opened(trial, keep=timedelta(0)) as journal:
            assert not stream or journal.stream == stream
            position = journal.position
            assert min(position.last_seq, position.last_batch) >= acknowledged
            seqs = [r.seq for r in await journal.read(0, 10**6)]
            assert seqs == [*range(position.first_seq, position.last_seq + 1)]
            assert int(await journal.kept("lasting:n") or b"0") >= kept
            assert (journal.stats().damaged, journal.untold(), await journal.verify()) == ((), (), [])
            stream = journal.stream
            [added] = await journal.append([transition(position.last_seq + 1)])
            assert added.seq == position.last_seq + 1
    assert not (trial / "set-aside").exists()


@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.skipif(shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not here")
async def test_whatever_is_left_in_between_is_gone_on_with(tmp_path: Path) -> None:
    folder, trace, chance = tmp_path / "journal", tmp_path / "trace", random.Random(3)
    recorded(folder, trace)
    trial = (FAST or tmp_path) / f"andon-states-{os.getpid()}"
    disk, said, states, seen = Disk(), ("", 0, 0), 0, set[str]()
    try:
        for at, call in enumerate(calls_of(trace, folder)):
            if call.kind == "said":
                stream, n, kept = call.data.decode().split()
                said = (stream, int(n), int(kept))
                continue
            disk.do(call)
            seen.add(call.kind)
            if at % EVERY and call.kind not in ("unlink", "rename"):
                continue
            for left in (disk.killed(), *(disk.dark(chance) for _ in range(DARK))):
                shutil.rmtree(trial, ignore_errors=True)
                trial.mkdir(mode=0o700)
                for name, data in left.items():
                    if not name.endswith("-shm") and name != "ballast":
                        (trial / name).write_bytes(data)
                try:
                    await judge(trial, *said)
                except Exception as error:
                    error.add_note(f"call {at}: {call.kind} {call.name}; {said}; {sorted(left)}")
                    raise
                states += 1
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    assert said[1] == 28, "the writer came to its end"
    assert seen == {"create", "write", "cut", "sync", "rename", "unlink"}
    assert states > 300
