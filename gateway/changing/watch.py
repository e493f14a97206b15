"""Sees that files of the configuration have changed, by looking at them every two seconds.

A look costs a few `stat` calls; only what looks changed is read. A change counts when it has stood still for
one look, so that a file somebody is still writing is left alone. Files that were looked for in vain belong to
it, and so do those that references to secrets lead to: a new certificate or password takes effect too. Looks
are made in a thread: a file may lie on a share that does not answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from connectors.base import Clock

EVERY_S = 2.0

T = TypeVar("T")


class Aside(Protocol):
    """Does something apart from everything else, and gives what came of it."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Do it."""
        ...


class Look(NamedTuple):
    """How a file looks from outside."""

    modified_ns: int
    size: int
    inode: int


class Watch:
    """Calls `changed` when a file has, while that is `wanted`."""

    def __init__(
        self,
        clock: Clock,
        changed: Callable[[], Awaitable[object]],
        wanted: Callable[[], bool] = lambda: True,
        aside: Aside | None = None,
    ) -> None:
        """`aside` does work that may hang, `in_thread` unless it is said."""
        self._in_thread: Aside = aside or in_thread
        self._looking = asyncio.Lock()
        self._clock = clock
        self._wanted = wanted
        self._changed = changed
        self._paths: tuple[Path, ...] = ()
        self._seen: tuple[Look | None, ...] = ()
        self._sums: tuple[str | None, ...] = ()

    async def follow(self, paths: Iterable[Path]) -> None:
        """From now on these are the files. New ones are known as they are now; the others as they were when
        they were looked at last: what has changed since may not have been read yet."""
        wanted = tuple(dict.fromkeys(paths))
        new = tuple(path for path in wanted if path not in self._paths)
        found = dict(
            zip(new, await self._aside(lambda: [(_look_at(p), _sum_of(p)) for p in new]), strict=True)
        )
        known = dict(zip(self._paths, zip(self._seen, self._sums, strict=True), strict=True))
        both = [known.get(path) or found.get(path, (None, None)) for path in wanted]
        self._paths = wanted
        self._seen = tuple(look for look, _ in both)
        self._sums = tuple(sum_ for _, sum_ in both)

    async def run(self) -> None:
        """Look, for as long as it is let."""
        while True:
            await self._clock.sleep(EVERY_S)
            if self._wanted():
                await self.look()

    async def look(self) -> None:
        """Look once: tell of a change that stands still."""
        paths = self._paths
        present = await self._look(paths)
        if self._paths is not paths or present == self._seen:
            return
        await self._clock.sleep(EVERY_S)
        if await self._look(paths) != present:
            return  # still being written; the next look sees it
        sums = await self._aside(lambda: tuple(_sum_of(path) for path in paths))
        if self._paths is not paths:
            return  # other files are followed since; the next look is at those
        self._seen = present
        if sums != self._sums:  # touched is not changed
            self._sums = sums
            await self._changed()

    async def _look(self, paths: tuple[Path, ...]) -> tuple[Look | None, ...]:
        return await self._aside(lambda: tuple(_look_at(path) for path in paths))

    async def _aside(self, work: Callable[[], T]) -> T:
        """Work that may hang, one at a time: a share that is gone holds up nothing but the next look."""
        async with self._looking:
            return await self._in_thread(work)


async def in_thread(work: Callable[[], T]) -> T:
    """Do something in a thread of its own that keeps no process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(found: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(found)  # type: ignore[arg-type]

    def run() -> None:
        found, failed = None, None
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            failed = error
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(tell, found, failed)

    threading.Thread(target=run, name="configuration watch", daemon=True).start()
    return await done


def _look_at(path: Path) -> Look | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: what no path can be, such as one with a NUL
        return None
    return Look(found.st_mtime_ns, found.st_size, found.st_ino)


def _sum_of(path: Path) -> str | None:
    try:
        if not path.is_file():  # opening a pipe waits for whoever writes to it
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
