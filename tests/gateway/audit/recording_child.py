"""A process that records until it is killed, and says of each value when it was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.audit.store import Limits
from gateway.audit.trail import AuditTrail
from gateway.clock import SystemClock
from tests.gateway.audit.trails import entry


async def main(data_dir: Path, first: int) -> None:
    trail = AuditTrail(data_dir, gateway="line-1", clock=SystemClock(), limits=Limits(20_000, 10**9))
    await trail.open()
    next_value = first

    async def recorder() -> None:
        nonlocal next_value
        while True:
            value, next_value = next_value, next_value + 1
            n = await trail.record(entry(value))
            sys.stdout.write(f"{n} {value}\n")
            sys.stdout.flush()

    await asyncio.gather(*(recorder() for _ in range(8)))


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
