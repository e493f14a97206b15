"""Stale tags: a tag that has said nothing for longer than it may is bad, whoever is to blame.

It must see every sample, repetitions too, so it belongs before any filter that drops them. What it finds
are ordinary samples, bad with substatus `stale`; it knows nothing of what they will do to a state.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime, timedelta

from statemodel.types import Quality, SampleBatch, TagSample

#: Substatus of a sample made here.
STALE = "stale"


class StaleWatch:
    """Watches the tags that have a limit.

    A tag is watched from its first sample on: before that nothing is known of it anyway. After a lost
    connection `forget` it, for its tags are bad already.
    """

    def __init__(self, limits: Mapping[str, timedelta]) -> None:
        self._limits = dict(limits)
        self._latest: dict[str, TagSample] = {}
        #: At most one entry a tag; one that has had samples since is put back when it comes up.
        self._due: list[tuple[datetime, str]] = []
        self._queued: set[str] = set()

    def note(self, batch: SampleBatch) -> None:
        """Take in samples on their way."""
        for sample in batch.samples:
            limit = self._limits.get(sample.tag)
            if limit is None:
                continue
            self._latest[sample.tag] = sample
            if sample.tag not in self._queued:
                self._queued.add(sample.tag)
                heapq.heappush(self._due, (sample.received_at + limit, sample.tag))

    def forget(self, connection: str) -> None:
        """The connection is lost: wait for fresh samples of its tags."""
        prefix = connection + "/"
        for tag in [tag for tag in self._latest if tag.startswith(prefix)]:
            del self._latest[tag]

    def wake_at(self) -> datetime | None:
        """When to ask again at the latest; never later than the first tag to become stale."""
        return self._due[0][0] if self._due else None

    def overdue(self, now: datetime) -> tuple[SampleBatch, ...]:
        """Tags whose time is up, each once, as bad samples dated to that instant; a batch per connection."""
        found: dict[str, list[TagSample]] = {}
        while self._due and self._due[0][0] <= now:
            _, tag = heapq.heappop(self._due)
            self._queued.discard(tag)
            sample = self._latest.get(tag)
            if sample is None:
                continue
            due = sample.received_at + self._limits[tag]
            if due > now:
                self._queued.add(tag)
                heapq.heappush(self._due, (due, tag))
                continue
            stale = TagSample(tag, sample.value, Quality.BAD, sample.source_at, due, STALE)
            found.setdefault(tag.partition("/")[0], []).append(stale)
        return tuple(
            SampleBatch(connection, samples[-1].received_at, tuple(samples))
            for connection, samples in found.items()
        )
