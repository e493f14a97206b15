"""Commands that are under way: in lines, only so many, and going on when whoever waits for one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog

from api.commanding import CommandRefused, CommandView, UnknownCommand
from gateway.control.carrying import Halt
from gateway.control.facts import halt
from gateway.control.lines import Lines

_log = structlog.get_logger("andon.commands")

#: Most commands that wait for one tag or equipment, and that are under way altogether.
LINE_MAX, COMMANDS_MAX = 8, 256
#: How long a stop waits for what is under way.
STOP_S_MAX = 5.0
#: When somebody should try again who came while it was busy, or while the same was worked on.
RETRY_S = 1.0


class UnderWay:
    """Owns the tasks of commands. `unsettled` says how many more have ended and are still being told."""

    def __init__(self, unsettled: Callable[[], int]) -> None:
        self._unsettled, self._lines = unsettled, Lines(LINE_MAX)
        self._tasks: set[asyncio.Task[CommandView]] = set()

    def no_room(self, name: str) -> Halt | None:
        """Why nothing more can be taken for a tag or equipment."""
        if self._lines.is_full(name):
            return halt("busy", f"{LINE_MAX} commands wait for {name}", retry_after_s=RETRY_S)
        if len(self._tasks) + self._unsettled() >= COMMANDS_MAX:
            return halt("busy", f"{COMMANDS_MAX} commands are under way", retry_after_s=RETRY_S)
        return None

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn at a tag or equipment."""
        return self._lines.turn(name)

    async def owned(self, work: Coroutine[Any, Any, CommandView], name: str) -> CommandView:
        """Work that goes on when whoever waits for it is gone."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._let_go)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Let what is under way come to its end for a moment."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_S_MAX)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _let_go(self, task: asyncio.Task[CommandView]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CommandRefused | UnknownCommand):
            _log.error("a command failed unexpectedly", command=task.get_name(), exc_info=error)
