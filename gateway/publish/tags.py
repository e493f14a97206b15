"""Saying tags: the newest value of each, as fast as the broker takes them, and never an older one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.mqtt.link import Link
from gateway.publish.voice import Voice
from statemodel.types import TagSample


@dataclass(frozen=True)
class PublishedTag:
    """A tag with `publish = true`: its unit, and the paths of equipment bound to it (none: the site)."""

    unit: str = ""
    paths: tuple[str, ...] = ()


class Tags:
    """The published tags, for one broker. Bounded by their number: a value makes way for a newer one."""

    def __init__(self, tags: Mapping[str, PublishedTag], voice: Voice) -> None:
        self._tags = dict(tags)
        self._voice = voice
        self._latest: dict[str, TagSample] = {}
        self._said: dict[str, TagSample] = {}
        self._due: dict[str, None] = {}
        self._saying: str | None = None
        self._standing: dict[str, TagSample] = {}
        self._news = asyncio.Event()
        self.merged = 0
        """Values that were overtaken by a newer one before they could be said."""

    def take(self, sample: TagSample) -> None:
        """The newest value of a tag. Never waits; a tag that is not published is ignored."""
        if sample.tag not in self._tags:
            return
        self.merged += sample.tag in self._due
        self._latest[sample.tag] = sample
        self._due[sample.tag] = None
        self._news.set()

    def latest(self, tag: str) -> TagSample | None:
        """Its newest value."""
        return self._latest.get(tag)

    def said(self, tag: str) -> TagSample | None:
        """The value that was said last; a newer one may not have been said yet."""
        return self._said.get(tag)

    def is_said(self, tag: str) -> bool:
        """Whether its newest value was said, on all of its topics."""
        latest = self._latest.get(tag)
        return latest is not None and latest == self._said.get(tag) and tag not in (self._saying, *self._due)

    def stands(self, tag: str) -> None:
        """Its newest value need not be said at first: the broker has it."""
        if (latest := self._latest.get(tag)) is not None:
            self._said[tag] = self._standing[tag] = latest

    def all_latest(self) -> Iterator[tuple[str, TagSample]]:
        """The newest value of each tag that has one."""
        yield from self._latest.items()

    async def say(self, link: Link) -> None:
        """Say all of them, then what changes, until the connection is over."""
        stands, self._standing = self._standing, {}
        # The broker may have lost them all.
        self._due = {tag: None for tag, latest in self._latest.items() if stands.get(tag) != latest}
        share = max(1, link.limit // 2)  # the rest is for events, however fast tags change
        while True:
            while not self._due:
                self._news.clear()
                await self._news.wait()
            if link.full or link.in_flight >= share:
                await link.room(share)
            tag = next(iter(self._due))
            del self._due[tag]
            self._saying = tag
            for topic in self._voice.tag_topics(tag):
                if link.full or link.in_flight >= share:
                    await link.room(share)
                self.say_on(link, tag, topic)
            self._saying = None

    def say_on(self, link: Link, tag: str, topic: str) -> None:
        """Say the newest value of a tag on one of its topics, if it has one. Call when there is room."""
        if (sample := self._latest.get(tag)) is not None:
            self._said[tag] = sample
            self._voice.tag(link, topic, sample)
