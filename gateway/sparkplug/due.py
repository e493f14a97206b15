"""Values of tags that are to be told: the newest of each, so that a slow link never has to catch up."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from statemodel.types import TagSample


class DueTags:
    """The newest sample of each tag that has not been told. Bounded by the number of tags."""

    def __init__(self, tags: Collection[str]) -> None:
        self._tags = frozenset(tags)
        self._due: dict[str, TagSample] = {}
        self._news = asyncio.Event()
        #: Samples that were overtaken by a newer one before they could be told.
        self.merged = 0
        self._overtaken: set[str] = set()

    def __len__(self) -> int:
        return len(self._due)

    def put(self, sample: TagSample) -> None:
        """Tell this one instead of an older one; other tags than ours are passed over."""
        if sample.tag not in self._tags:
            return
        # Popped, so that the order stays that of the samples.
        if self._due.pop(sample.tag, None) is not None:
            self.merged += 1
            self._overtaken.add(sample.tag)
        self._due[sample.tag] = sample
        self._news.set()

    def take(self, count: int | None = None) -> Sequence[TagSample]:
        """The oldest of them, all unless a number is given; they are due no longer."""
        if count is None or count >= len(self._due):
            taken = list(self._due.values())
            self._due.clear()
            return taken
        return [self._due.pop(tag) for tag in list(self._due)[:count]]

    def overtaken(self) -> frozenset[str]:
        """Tags of which a value was overtaken since this was asked last."""
        found = frozenset(self._overtaken)
        self._overtaken.clear()
        return found

    async def some(self) -> None:
        """Return when there is one."""
        while not self._due:
            self._news.clear()
            await self._news.wait()
