"""The time of the running event loop, moved on by hand: what takes long in the field need not take long here.

What is due by then comes in the next turns of the loop, whatever the pace of the machine. Bounds a test sets
for itself with `asyncio.timeout` go by the same time: leave them before, or set them after.
"""

from __future__ import annotations

import asyncio


def later(seconds: float) -> None:
    """Have it be so much later, at once."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]
