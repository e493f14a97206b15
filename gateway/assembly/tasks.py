"""The tasks of a run by name, so that one of them can be ended and another take its place."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

_log = structlog.get_logger("andon")

#: Longest wait for a task that was told to end; then the others do not wait for it any more.
END_S_MAX = 15.0


class Tasks:
    """Tasks of one group. The first that fails ends the group, as in any `TaskGroup`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin something under a name that is free."""
        before = self._tasks.get(name)
        assert before is None or before.done(), f"{name} runs already"
        task = self._tasks[name] = self._group.create_task(work, name=name)
        return task

    async def end(self, names: Iterable[str]) -> None:
        """End some of them and wait until they have ended; those that do not run are passed over."""
        tasks = [task for name in names if (task := self._tasks.pop(name, None)) is not None]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=END_S_MAX)
        for task in late:
            _log.error("a part does not end", part=task.get_name(), waited_s=END_S_MAX)

    def names(self) -> list[str]:
        """Those that run."""
        return [name for name, task in self._tasks.items() if not task.done()]


def task_of(connection: str) -> str:
    """The name of the task of a connection."""
    return f"connection {connection}"
