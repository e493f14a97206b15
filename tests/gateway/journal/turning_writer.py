"""Begins, folds, finishes and frees small segments, in two runs; prints what is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.journal import Cursor, segment
from tests.gateway.journal.builders import START, batch, opened, transition


async def main(directory: Path) -> None:
    n = 0
    for _ in range(2):
        async with opened(directory, segment_bytes=90_000, keep=timedelta(0)) as journal:
            journal.require("database", events=True, batches=True)
            for _ in range(14):
                n += 1
                await journal.append([transition(n)], [batch(n, (3, 900, 60)[n % 3])], {f"plc-{n}": START})
                if n % 5 == 0:
                    await journal.keep("lasting:n", b"%d" % n, now=True)
                sys.stdout.write(f"{journal.stream} {n} {n - n % 5}\n")
                sys.stdout.flush()
                if n % 7 == 0:
                    await journal.advance("database", Cursor(n - 3, n - 3))


with pytest.MonkeyPatch.context() as patched:
    patched.setattr(segment, "FOLD_BYTES", 30_000)
    asyncio.run(main(Path(sys.argv[1])))
