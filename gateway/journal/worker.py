"""The journal's thread: it does one thing after the other, and answers on the loop.

A queue and one wake-up of the loop for each piece of work: half of what an executor's futures cost. It does
not know what the work is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")

#: Called on the loop with the result and None, or with None and what the work raised.
Then = Callable[[Any, BaseException | None], None]


class Worker:
    """One thread and the loop it answers to: the one that runs when it is made."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Callable[[], Any], Then] | None] = SimpleQueue()
        # A daemon: it can be killed at any instant, and nobody must wait for a thread without work.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], Any], then: Then) -> None:
        """Have something done after all that was handed in before."""
        self._queue.put((work, then))

    async def call(self, work: Callable[[], R]) -> R:
        """The result of some work. Cancelling the caller does not stop it."""
        done: asyncio.Future[R] = self._loop.create_future()

        def answer(result: R, error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        self.submit(work, answer)
        return await done

    def stop(self) -> None:
        """End the thread once all that was handed in is done."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, then = item
            result, failure = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whoever asked is told, whatever it is
                failure = error
            try:
                self._loop.call_soon_threadsafe(then, result, failure)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del item, work, then, result, failure
