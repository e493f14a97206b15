"""Running the parts of something together: the first that fails ends the others, and is what is raised.

Not a `TaskGroup`: that forgets a cancellation which comes at the instant a part fails, and whoever cancelled
then waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first fails, end the others, and raise that failure by itself.

    Returns when all have returned. All have ended when this ends, however it does.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        for failure in failures:
            if failure is not None:
                raise failure
    finally:
        await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what runs and wait for it; a cancellation meanwhile is passed on when all have ended."""
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # what others failed with while they were ended is an echo
    if cancelled is not None:
        raise cancelled
