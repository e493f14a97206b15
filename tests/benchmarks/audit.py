"""The audit trail: verifying a million records, and recording one and many at once.

The floor of verifying is reading the same bytes and hashing each line of them; that of recording is writing
the same bytes and two fdatasyncs, which is what one commit costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from api.auditing import AuditEntry
from gateway.audit.folder import segments_of
from gateway.audit.store import AuditStore, Limits
from gateway.audit.trail import AuditTrail
from gateway.audit.verifying import verify
from gateway.clock import SystemClock
from tests.benchmarks.figures import Figure, percentile

RECORDS = 1_000_000
GOAL_S = 30.0
_GROUP = 2_000
_ALONE, _AT_ONCE, _EACH = 300, 64, 100


def entry(n: int) -> AuditEntry:
    """What a command leaves behind."""
    return AuditEntry(
        action="command",
        actor="ada.lovelace",
        kind="user",
        via="rest",
        target="filler-plc/speed_sp",
        result="verified",
        detail={"id": f"c-{n:08d}", "value": n % 120, "read": n % 120, "equipment": "filler-1"},
        peer="10.20.30.40",
    )


async def measure(directory: Path) -> Sequence[Figure]:
    """All figures."""
    return [*_verifying(directory / "large"), *await _recording(directory / "small")]


def _verifying(directory: Path) -> Sequence[Figure]:
    store = AuditStore(directory, "bench", Limits(16_000_000, 10**12))
    now = datetime.now(UTC)
    store.open(now)
    for first in range(0, RECORDS, _GROUP):
        store.append([entry(n) for n in range(first, first + _GROUP)], now)
    store.close()
    segments = segments_of(directory)
    begun_s = time.monotonic()
    for segment in segments:
        for line in segment.path.read_bytes().split(b"\n"):
            hashlib.sha256(line).digest()
    floor_s = time.monotonic() - begun_s
    begun_s = time.monotonic()
    verdict = verify(directory)
    value_s = time.monotonic() - begun_s
    assert verdict.sound
    assert verdict.records == RECORDS + 1
    begun_s = time.monotonic()
    verify(directory, gentle=True)
    gentle_s = time.monotonic() - begun_s
    name = f"audit: verify {RECORDS:,} records"
    floor = "reading and hashing the same lines"
    return [
        Figure(name, value_s, "s", floor_s, floor, goal=GOAL_S),
        Figure(f"{name} beside a gateway at work", gentle_s, "s", floor_s, floor, goal=GOAL_S),
        Figure("audit: bytes of a record", sum(one.bytes for one in segments) / RECORDS, "bytes"),
    ]


async def _recording(data_dir: Path) -> Sequence[Figure]:
    trail = AuditTrail(data_dir, gateway="bench", clock=SystemClock())
    await trail.open()
    alone = []
    for n in range(_ALONE):
        begun_s = time.monotonic()
        await trail.record(entry(n))
        alone.append((time.monotonic() - begun_s) * 1000)

    async def client() -> None:
        for n in range(_EACH):
            await trail.record(entry(n))

    begun_s = time.monotonic()
    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))
    rate = _AT_ONCE * _EACH / (time.monotonic() - begun_s)
    await trail.close()
    floor = [_commit_ms(data_dir) for _ in range(_ALONE)]
    figures = [
        Figure(
            f"audit: one record alone, durable, p{percent}",
            percentile(alone, percent),
            "ms",
            percentile(floor, percent),
            "the same bytes and two fdatasyncs",
        )
        for percent in (50, 99)
    ]
    at_once = Figure(f"audit: records of {_AT_ONCE} callers at once, durable", rate, "1/s")
    return [*figures, at_once]


def _commit_ms(directory: Path) -> float:
    """What one commit costs the disk."""
    path = directory / "floor"
    fds = [os.open(path.with_suffix(end), os.O_WRONLY | os.O_CREAT | os.O_APPEND) for end in (".a", ".b")]
    begun_s = time.monotonic()
    for fd in fds:
        os.write(fd, b"x" * 500)
        os.fdatasync(fd)
    took_ms = (time.monotonic() - begun_s) * 1000
    for fd in fds:
        os.close(fd)
    return took_ms
