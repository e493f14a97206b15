"""Stale tags: a tag nobody has proved for longer than it may go without is bad, whoever is to blame.

A proof is a sample of the tag, or a complete reading of its group (a poll cycle; a publish response of its
subscription, the empty ones that only keep it alive too): what is reported by exception and was not reported
had not changed. It must see every sample, repetitions too, so it belongs before any filter that drops
them. What it finds are ordinary samples, bad with substatus `stale`; it knows nothing of what they will do
to a state, and nothing of a value that stands still although it is read: that is `age(x)`, in a rule.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime, timedelta

from statemodel.types import Quality, SampleBatch, TagSample

#: Substatus of a sample made here.
STALE = "stale"


class StaleWatch:
    """Watches the tags that have a limit; `groups` says with which others (by any key) each is read.

    A tag is watched from its first good or uncertain sample on: before that, and while its source itself
    calls it bad, there is nothing to distrust. After a lost connection `forget` it, for its tags are bad
    already and the next session reads each of them anew.
    """

    def __init__(self, limits: Mapping[str, timedelta], groups: Mapping[str, str] | None = None) -> None:
        self._limits = dict(limits)
        self._group_of = {tag: group for tag, group in (groups or {}).items() if tag in self._limits}
        #: When each group was last read completely; empty for groups in which no tag has a limit.
        self._read_at: dict[str, datetime | None] = dict.fromkeys(self._group_of.values())
        self._latest: dict[str, TagSample] = {}
        #: Tags called stale, by group, until they have a sample or their group is read again.
        self._stale: dict[str, set[str]] = {}
        #: At most one entry a tag; one that has been proved since is put back when it comes up.
        self._due: list[tuple[datetime, str]] = []
        self._queued: set[str] = set()

    def add(self, limits: Mapping[str, timedelta], groups: Mapping[str, str]) -> None:
        """Watch further tags, with the same meaning as at the beginning."""
        self._limits.update(limits)
        found = {tag: group for tag, group in groups.items() if tag in limits}
        self._group_of.update(found)
        for group in found.values():
            self._read_at.setdefault(group, None)

    def drop(self, connection: str) -> None:
        """The tags of a connection are watched no more."""
        self.forget(connection)
        prefix = connection + "/"
        for tag in [tag for tag in self._limits if tag.startswith(prefix)]:
            del self._limits[tag]
            group = self._group_of.pop(tag, None)
            if group is not None:
                self._read_at.pop(group, None)
                self._stale.pop(group, None)
            self._queued.discard(tag)
        self._due = [(at, tag) for at, tag in self._due if not tag.startswith(prefix)]
        heapq.heapify(self._due)

    def note(self, batch: SampleBatch) -> None:
        """Take in samples on their way."""
        if not self._limits:
            return
        for sample in batch.samples:
            tag = sample.tag
            limit = self._limits.get(tag)
            if limit is None:
                continue
            self._stale.get(self._group_of.get(tag, ""), set()).discard(tag)
            if sample.quality is Quality.BAD:
                self._latest.pop(tag, None)
                continue
            self._latest[tag] = sample
            if tag not in self._queued:
                self._queued.add(tag)
                heapq.heappush(self._due, (sample.received_at + limit, tag))

    def read(self, group: str, at: datetime) -> bool:
        """A group has been read completely at `at`; True when that may make stale tags of it `fresh`.

        The samples of that reading may still be on their way: call `fresh` only after them.
        """
        if group not in self._read_at:
            return False
        self._read_at[group] = at
        return bool(self._stale.get(group))

    def fresh(self, group: str, at: datetime) -> tuple[TagSample, ...]:
        """Stale tags of a group that was read completely at `at` and had nothing new to say of them: what
        was last known of them holds, and they are watched again."""
        proved = []
        for tag in sorted(self._stale.pop(group, ())):
            last = self._latest[tag]
            proved.append(TagSample(tag, last.value, last.quality, last.source_at, at, last.substatus))
        return tuple(proved)

    def forget(self, connection: str) -> None:
        """The connection is lost: wait for fresh samples of its tags."""
        prefix = connection + "/"
        for tag in [tag for tag in self._latest if tag.startswith(prefix)]:
            del self._latest[tag]
            self._stale.get(self._group_of.get(tag, ""), set()).discard(tag)

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
            group = self._group_of.get(tag)
            proved_at = sample.received_at
            if group is not None and (read_at := self._read_at[group]) is not None:
                proved_at = max(proved_at, read_at)
            due = proved_at + self._limits[tag]
            if due > now:
                self._queued.add(tag)
                heapq.heappush(self._due, (due, tag))
                continue
            if group is not None:
                self._stale.setdefault(group, set()).add(tag)
            stale = TagSample(tag, sample.value, Quality.BAD, sample.source_at, due, STALE)
            found.setdefault(tag.partition("/")[0], []).append(stale)
        return tuple(
            SampleBatch(connection, samples[-1].received_at, tuple(samples))
            for connection, samples in found.items()
        )
