"""How long a newcomer waits: from the typed command to the first state, and to all six."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure

EQUIPMENT = 6


async def measure(directory: Path) -> Sequence[Figure]:
    """Run the demo as a person would and read its event lines."""
    python_s = await _seconds(sys.executable, "-c", "import asyncio")
    began = time.monotonic()
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", "--for", "25s", "--json", "--keep", str(directory)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert demo.stdout is not None
    known: dict[str, float] = {}
    while len(known) < EQUIPMENT and (line := await demo.stdout.readline()):
        event = json.loads(line)
        if event["type"] == "transition":
            known.setdefault(event["equipment"], time.monotonic() - began)
    demo.terminate()
    await demo.communicate()
    what = "the interpreter starting"
    return [
        Figure("start: command to first state", min(known.values()), "s", python_s, what),
        Figure("start: command to all six states", max(known.values()), "s", python_s, what),
    ]


async def _seconds(*command: str) -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command)
    await process.wait()
    return time.monotonic() - began
