"""An event loop whose clock jumps to the next timer, so that minutes of time-outs pass in no time.

Nothing outside the process may be waited for in it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 11, 22, tzinfo=UTC)


class _Jump(selectors.SelectSelector):
    """Waiting costs nothing, and moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        # A little more than asked, or timers would be found to lie a rounding error ahead for ever.
        self.now += timeout + 1e-9 if timeout > 0 else 0.0
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class VirtualClock:
    """The clock of the loop that runs."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtually(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, in a loop of its own. What is raised in a callback is raised here."""
    loop = _Loop()
    raised: list[Mapping[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    try:
        result = loop.run_until_complete(main)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert raised == []
    return result
