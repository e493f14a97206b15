"""Sees that files of the configuration have changed, by looking at them every two seconds.

A look costs a few `stat` calls; only what looks changed is read. A change counts when it has stood still for
one look, so that a file somebody is still writing is left alone. Files that were looked for in vain belong to
it, and so do those that references to secrets lead to: a new certificate or password takes effect too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from connectors.base import Clock

EVERY_S = 2.0


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
    ) -> None:
        self._clock = clock
        self._wanted = wanted
        self._changed = changed
        self._paths: tuple[Path, ...] = ()
        self._seen: tuple[Look | None, ...] = ()
        self._sums: tuple[str | None, ...] = ()

    def follow(self, paths: Iterable[Path]) -> None:
        """From now on these are the files. New ones are known as they are now; the others as they were when
        they were looked at last: what has changed since may not have been read yet."""
        known = dict(zip(self._paths, zip(self._seen, self._sums, strict=True), strict=True))
        self._paths = tuple(dict.fromkeys(paths))
        found = [known.get(path) or (_look_at(path), _sum_of(path)) for path in self._paths]
        self._seen = tuple(look for look, _ in found)
        self._sums = tuple(sum_ for _, sum_ in found)

    async def run(self) -> None:
        """Look, for as long as it is let."""
        while True:
            await self._clock.sleep(EVERY_S)
            if self._wanted():
                await self.look()

    async def look(self) -> None:
        """Look once: tell of a change that stands still."""
        present = self._look()
        if present == self._seen:
            return
        await self._clock.sleep(EVERY_S)
        if self._look() != present:
            return  # still being written; the next look sees it
        self._seen = present
        sums = self._read()
        if sums != self._sums:  # touched is not changed
            self._sums = sums
            await self._changed()

    def _look(self) -> tuple[Look | None, ...]:
        return tuple(_look_at(path) for path in self._paths)

    def _read(self) -> tuple[str | None, ...]:
        return tuple(_sum_of(path) for path in self._paths)


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
