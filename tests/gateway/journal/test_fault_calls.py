"""Every call by which the journal writes, refused once: with an error of the disk, and for want of room.

A process is traced and one call of it refused (strace). Nothing acknowledged is lost, no number is used
twice, nothing is acknowledged after the disk refused to sync, the process ends as it should, and the next
start finds all of it. ANDON_TEST_PROFILE=long refuses each of the first 200 calls, else a sample of them.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import pytest

from tests.gateway.journal.builders import PATIENCE_S, opened, transition
from tests.gateway.journal.faults import FAST, LONG

SERVER = Path(__file__).with_name("fault_server.py")
ROOT = Path(__file__).resolve().parents[3]
CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,truncate,rename,unlink,fallocate,mkdir,rmdir"
FIRST = 200
SAMPLE = 50
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not here"
)


class Call(msgspec.Struct, frozen=True):
    """A call of the traced process: by which thread, of what, with what, whether it was refused."""

    thread: int
    name: str
    rest: str

    @property
    def refused(self) -> bool:
        return "(INJECTED)" in self.rest

    @property
    def syncs_records(self) -> bool:
        """Whether it makes records durable: of a segment or its log, not of a note or the reserve."""
        return self.name in ("fsync", "fdatasync") and "/journal-" in self.rest


class Trial(msgspec.Struct):
    """How a traced life went."""

    code: int
    calls: list[Call]
    acks: list[tuple[int, int, int]]
    told: str


class Server:
    """The process that forks lives."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-B", str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout

    def live(self, directory: Path, inject: str = "") -> Trial:
        """One life under strace, with a call refused."""
        trace = directory.with_suffix(".trace")
        self._in.write(f"{directory}\n")
        self._in.flush()
        pid = int(self._out.readline())
        # Paths are told with descriptors; nothing but what matters is traced.
        command = ["strace", "-f", "-y", "-o", str(trace), "-p", str(pid), "-e", f"trace={CALLS},writev"]
        tracer = subprocess.Popen(
            command + (["-e", f"inject={inject}"] if inject else []), stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline(), "strace may not attach: run as root"
        os.kill(pid, 18)  # SIGCONT
        code = int(self._out.readline())
        tracer.communicate(timeout=PATIENCE_S)
        calls = [
            Call(int(found[1]), found[2], found[3])
            for line in trace.read_text(errors="replace").splitlines()
            if (found := _LINE.match(line))
        ]
        told, failed = directory.with_suffix(".told"), directory.with_suffix(".traceback")
        assert not failed.exists(), failed.read_text()
        lines = directory.with_suffix(".acks").read_text().splitlines()
        acks = [tuple(map(int, line.split())) for line in lines]
        return Trial(code, calls, acks, told.read_text() if told.exists() else "")  # type: ignore[arg-type]

    def close(self) -> None:
        self._in.close()
        self._process.wait(PATIENCE_S)
        self._out.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    place = (FAST or tmp_path) / f"andon-calls-{os.getpid()}-{tmp_path.name}"
    place.mkdir()
    running = Server()
    try:
        yield running, place
    finally:
        running.close()
        shutil.rmtree(place)


def plan(calls: list[Call], first: int = FIRST) -> list[tuple[str, int]]:
    """The first calls that the journal's thread makes, each by its name and which of that name it is."""
    writing = Counter(call.thread for call in calls if call.syncs_records).most_common(1)[0][0]
    seen: Counter[str] = Counter()
    found = []
    for call in calls:
        if call.thread == writing and call.name != "writev":
            seen[call.name] += 1
            found.append((call.name, seen[call.name]))
    return found[:first]


async def check(directory: Path, trial: Trial, what: str) -> None:
    """Hold a life with a refused call against what it promised."""
    refused = [i for i, call in enumerate(trial.calls) if call.refused]
    assert refused, f"{what}: nothing was refused"
    assert trial.code in (0, 1), f"{what}: ended with {trial.code}"
    assert (trial.code == 1) == bool(trial.told), what
    if trial.code == 0:
        assert len(trial.acks) == 30, what
    unsynced = [i for i in refused if trial.calls[i].syncs_records]
    if unsynced:
        later = [call for call in trial.calls[unsynced[0] :] if call.name == "writev"]
        assert not later, f"{what}: acknowledged after {trial.calls[unsynced[0]]}"
    async with opened(directory) as journal:
        position = journal.position
        events = {r.seq: r for r in await journal.read(0, 10**6)}
        assert sorted(events) == list(range(position.first_seq, position.last_seq + 1)), what
        sequences = [r.event.sequence for r in events.values() if r.type == "transition"]  # type: ignore[union-attr]
        assert sequences == sorted(set(sequences)), f"{what}: a record is there twice"
        for seq, n, last_batch in trial.acks:
            assert seq <= position.last_seq, f"{what}: event {seq} was acknowledged and is gone"
            assert last_batch <= position.last_batch, what
            if seq in events:
                assert events[seq].event.sequence == n, f"{what}: event {seq} is another one"  # type: ignore[union-attr]
            else:
                assert seq < position.first_seq, what
        assert len({seq for seq, _, _ in trial.acks}) == len(trial.acks), f"{what}: a number was used twice"
        assert await journal.verify() == [], what
        [added] = await journal.append([transition(99)])
        assert added.seq == position.last_seq + 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_every_call_refused_once(server: tuple[Server, Path], error: str) -> None:
    running, place = server
    whole = running.live(place / "turning-whole")
    assert (whole.code, len(whole.acks)) == (0, 30)
    planned = plan(whole.calls)
    assert len(planned) > 150, "the life was meant to be busier"
    if not LONG:
        # All that is rare, and a sample of what is not.
        rare = {name for name, count in Counter(name for name, _ in planned).items() if count <= 3}
        chance = random.Random(error)
        planned = [p for p in planned if p[0] in rare] + chance.sample(
            [p for p in planned if p[0] not in rare], SAMPLE
        )
    ended: Counter[tuple[str, int]] = Counter()
    begun_s = time.monotonic()
    for i, (name, k) in enumerate(planned):
        folder = place / f"turning-{error}-{i}"
        trial = running.live(folder, f"{name}:error={error}:when={k}")
        ended[name, trial.code] += 1
        await check(folder, trial, f"{error} at {name} {k}")
        shutil.rmtree(folder)
    print(error, dict(ended), f"{len(planned)} calls refused in {time.monotonic() - begun_s:.0f} s")


@pytest.mark.timeout(900)
async def test_a_log_that_cannot_be_folded_in_ends_the_process(server: tuple[Server, Path]) -> None:
    """SQLite itself would pass over it, fold again, and forget the log that holds what the file does not."""
    running, place = server
    whole = running.live(place / "folding-whole")
    assert whole.code == 0
    planned = [(name, k) for name, k in plan(whole.calls, 10**6) if name in ("fsync", "fdatasync")]
    folds = [c for c in whole.calls if c.syncs_records and ".db>" in c.rest]
    assert len(folds) > 3, "the life was meant to fold its log in"
    for i, (name, k) in enumerate(planned):
        folder = place / f"folding-{i}"
        trial = running.live(folder, f"{name}:error=EIO:when={k}")
        await check(folder, trial, f"EIO at {name} {k}")
        shutil.rmtree(folder)
