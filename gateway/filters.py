"""Report by exception: pass a sample on when it says something new. Pure; knows no states and no sinks.

What passes here is what the state engine and `GET /tags` see, at once. What of it is recorded and published,
and when, is for `reporting` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeGuard

from connectors.settings import ConnectionSettings, in_units
from gateway.timers import Timers
from statemodel.types import Quality, SampleBatch, TagSample, TagValue

_AT_ONCE = timedelta(0)


class _Deadband:
    """The deadband of one tag, and the newest value within it while `report_max` holds one back."""

    __slots__ = ("_range", "_setting", "held", "longest", "width")

    def __init__(
        self, setting: float | str, range_: tuple[float, float] | None, longest: timedelta | None
    ) -> None:
        self._setting, self._range = setting, range_
        self.width = 0.0
        self.longest = longest
        self.measure(None)
        self.held: TagSample | None = None

    def measure(self, range_: tuple[float, float] | None) -> None:
        """Take the range the device gave, where none is configured. A percentage of nothing drops nothing."""
        self.width = in_units(self._setting, self._range or range_) or 0.0

    def passes(self, last: TagSample, sample: TagSample) -> bool:
        """Whether the change is news; otherwise the sample is held back, if it may be needed."""
        value, before = sample.value, last.value
        # Not (difference > width): what cannot be compared, such as NaN, passes.
        if not (is_number(value) and is_number(before) and abs(value - before) <= self.width):
            return True
        if self.longest is None:
            return False
        return not _AT_ONCE <= sample.received_at - last.received_at < self.longest


class ChangeFilter:
    """Drops repeated values and changes within a tag's deadband.

    The deadband is measured from the last value passed on, so slow drift still comes through. A change of
    quality always passes. A tag with `report_max` passes a value from within the deadband when the last it
    passed is that old: with a sample, or when `due` is asked. After a lost link everything is new again.
    """

    def __init__(self, connections: Iterable[ConnectionSettings]) -> None:
        self._rules: dict[str, dict[str, _Deadband]] = {}
        self._passed: dict[str, dict[str, TagSample]] = {}
        self._source_time: dict[str, bool] = {}
        self._timers = Timers()
        for connection in connections:
            self.add(connection)

    def add(self, connection: ConnectionSettings) -> None:
        """One more connection."""
        rules = {
            connection.tag_id(tag): _Deadband(tag.deadband, tag.range, group.report_times(tag).report_max)
            for group in connection.groups
            for tag in group.tags
            if tag.deadband
        }
        if rules:
            self._rules[connection.name] = rules
            self._source_time[connection.name] = connection.time == "source"

    def drop(self, connection: str) -> None:
        """A connection is taken out, with all that is remembered of it."""
        self.forget(connection)
        self._rules.pop(connection, None)
        self._source_time.pop(connection, None)

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Ranges the device gave, by full tag id."""
        for rules in self._rules.values():
            for tag in rules.keys() & ranges.keys():
                rules[tag].measure(ranges[tag])

    def apply(self, batch: SampleBatch) -> SampleBatch:
        """The batch without what is not news; the same object when all of it is."""
        passed = self._passed.get(batch.connection)
        if passed is None:
            passed = self._passed[batch.connection] = {}
        rules = self._rules.get(batch.connection)
        kept: list[TagSample] = []
        for sample in batch.samples:
            tag = sample.tag
            last = passed.get(tag)
            if last is not None and sample.quality is last.quality and sample.substatus == last.substatus:
                value, before = sample.value, last.value
                if value == before and type(value) is type(before):
                    if rules is not None and tag in rules:
                        self._let_go(rules[tag], tag)
                    continue
                if rules is not None and tag in rules and not rules[tag].passes(last, sample):
                    self._hold(rules[tag], last, sample)
                    continue
            if rules is not None and tag in rules:
                self._let_go(rules[tag], tag)
            passed[tag] = sample
            kept.append(sample)
        if len(kept) == len(batch.samples):
            return batch
        return SampleBatch(batch.connection, batch.received_at, tuple(kept), batch.source_time)

    def forget(self, connection: str) -> None:
        """The link was lost: the next sample of each of its tags is news whatever it says."""
        self._passed.pop(connection, None)
        for tag, rule in self._rules.get(connection, {}).items():
            self._let_go(rule, tag)

    def wake_at(self) -> datetime | None:
        """When to ask `due` at the latest; None when nothing is held back."""
        return self._timers.wake_at()

    def due(self, now: datetime) -> tuple[SampleBatch, ...]:
        """What has been held back for long enough: the newest sample of each tag, as it was received."""
        found: dict[str, list[TagSample]] = {}
        for tag in self._timers.pop(now):
            connection = tag.partition("/")[0]
            rule = self._rules[connection][tag]
            sample, rule.held = rule.held, None
            assert sample is not None, "an alarm stands only while a value is held back"
            self._passed[connection][tag] = sample
            found.setdefault(connection, []).append(sample)
        return tuple(
            SampleBatch(connection, now, tuple(samples), self._source_time[connection])
            for connection, samples in found.items()
        )

    def _hold(self, rule: _Deadband, last: TagSample, sample: TagSample) -> None:
        if rule.longest is not None:
            rule.held = sample
            self._timers.set(sample.tag, last.received_at + rule.longest)

    def _let_go(self, rule: _Deadband, tag: str) -> None:
        if rule.held is not None:
            rule.held = None
            self._timers.cancel(tag)


def is_number(value: TagValue) -> TypeGuard[int | float]:
    """Whether a value can be measured with; a bool cannot."""
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
