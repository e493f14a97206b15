"""Makes so many commits, tells each once it is acknowledged, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.gateway.journal.builders import batch, opened, transition


async def main(directory: Path, commits: int) -> None:
    async with opened(directory, segment_bytes=10**9) as journal:
        for n in range(1, commits + 1):
            await journal.append([transition(n)], [batch(n)])
            print(n, flush=True)
        await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
