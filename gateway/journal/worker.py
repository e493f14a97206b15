"""The journal's thread: it does one thing after the other, and answers on the loop.

One lock to wake the thread and one wake-up of the loop for each piece of work: half of what an executor's
futures cost. It does not know what the work is.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.errors import JournalFailed

R = TypeVar("R")

#: Most pieces of work that wait. Whoever hands one in waits for its result, so these are callers at once.
WAITING_MAX = 10_000

#: Called on the loop with the result and None, or with None and what the work raised.
Then = Callable[[Any, BaseException | None], None]


class Worker:
    """One thread and the loop it answers to: the one that runs when it is made."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Callable[[], Any], Then] | None] = deque()
        #: Free when there may be work: the thread takes it before it looks, the loop lets go of it.
        self._news = threading.Lock()
        # A daemon: it can be killed at any instant, and nobody must wait for a thread without work.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], Any], then: Then) -> None:
        """Have something done after all that was handed in before; `then` is told of it on the loop."""
        self._hand_in((work, then))

    def _hand_in(self, item: tuple[Callable[[], Any], Then] | None) -> None:
        self._waiting.append(item)
        if self._news.locked():
            self._news.release()

    async def call(self, work: Callable[[], R]) -> R:
        """The result of some work. Cancelling the caller does not stop it.

        Raises:
            JournalFailed: too many wait already.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise JournalFailed(f"{WAITING_MAX} calls wait for the journal", hint="is its disk failing?")
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
        self._hand_in(None)

    def _run(self) -> None:
        while True:
            self._news.acquire()
            while self._waiting:
                item = self._waiting.popleft()
                if item is None or not self._do(*item):
                    return

    def _do(self, work: Callable[[], Any], then: Then) -> bool:
        """Whether there is still a loop to answer to."""
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whoever asked is told, whatever it is
            failure = error
        try:
            self._loop.call_soon_threadsafe(then, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return False
        return True
