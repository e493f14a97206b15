"""Report by exception: pass a sample on when it says something new. Pure; knows no states and no sinks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeGuard

from connectors.settings import ConnectionSettings
from statemodel.types import Quality, SampleBatch, TagSample, TagValue


class ChangeFilter:
    """Drops repeated values and changes within a tag's deadband.

    The deadband is measured from the last value passed on, so slow drift still comes through. A change of
    quality always passes. After a lost link everything is new again.
    """

    def __init__(self, connections: Iterable[ConnectionSettings]) -> None:
        self._deadband: Mapping[str, float] = {
            connection.tag_id(tag): tag.deadband
            for connection in connections
            for tag in connection.tags()
            if tag.deadband > 0
        }
        self._passed: dict[str, TagSample] = {}

    def apply(self, batch: SampleBatch) -> SampleBatch:
        """The batch without what is not news; the same object when all of it is."""
        passed = self._passed
        kept = []
        for sample in batch.samples:
            last = passed.get(sample.tag)
            if last is None or self._is_news(last, sample):
                passed[sample.tag] = sample
                kept.append(sample)
        if len(kept) == len(batch.samples):
            return batch
        return SampleBatch(batch.connection, batch.received_at, tuple(kept), batch.source_time)

    def forget(self, connection: str) -> None:
        """The link was lost: the next sample of each of its tags is news whatever it says."""
        prefix = connection + "/"
        for tag in [tag for tag in self._passed if tag.startswith(prefix)]:
            del self._passed[tag]

    def _is_news(self, last: TagSample, sample: TagSample) -> bool:
        if sample.quality is not last.quality or sample.substatus != last.substatus:
            return True
        value, before = sample.value, last.value
        if value == before and type(value) is type(before):
            return False
        deadband = self._deadband.get(sample.tag, 0.0)
        if deadband and _is_number(value) and _is_number(before):
            return abs(value - before) > deadband
        return True


def _is_number(value: TagValue) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def no_communication(connection: ConnectionSettings, at: datetime) -> SampleBatch:
    """What the tags of a lost connection are worth: nothing, from the instant of the loss."""
    return SampleBatch(
        connection.name,
        at,
        tuple(
            TagSample(
                tag=connection.tag_id(tag),
                value=None,
                quality=Quality.BAD,
                source_at=None,
                received_at=at,
                substatus="no_communication",
            )
            for tag in connection.tags()
        ),
    )
