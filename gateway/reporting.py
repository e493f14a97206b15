"""What of the news goes to topics and to history, and when: the report times, heartbeats and swinging doors.

Pure; comes after the change filter. The state engine and `GET /tags` see what the filter passes, before any
of this and not delayed by it. Nothing here makes up a value: what is told was read, and carries the time of a
reading. Tags without such a rule pass through untouched.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings, in_units
from gateway.filters import is_number
from gateway.historian.rows import dated
from gateway.swinging_door import Point, SwingingDoor
from gateway.timers import Timers
from statemodel.types import Quality, SampleBatch, TagSample

#: Longest time a swinging door holds a point back when nothing else is configured.
HELD_MAX = timedelta(minutes=1)
#: Readings of a group remembered to date the end of a standstill.
READINGS_KEPT = 64
_AT_ONCE = timedelta(0)


class Report(msgspec.Struct):
    """What is to be told of some samples: `topics` what their topics get, `history` what is recorded."""

    topics: list[TagSample] = msgspec.field(default_factory=list)
    history: list[TagSample] = msgspec.field(default_factory=list)


class _Group:
    """The readings of one group, and its tags that have rules."""

    def __init__(self) -> None:
        self.tags: list[_Tag] = []
        self._quiet_until: datetime | None = None
        self.read_at: deque[datetime] = deque(maxlen=READINGS_KEPT)

    def wants_beat(self, at: datetime) -> bool:
        """Whether a reading at this instant would be told of any of its tags."""
        if self._quiet_until is not None and at < self._quiet_until:
            return False
        dues = [due for tag in self.tags if (due := tag.beat_due(at)) is not None]
        self._quiet_until = min(dues, default=None)
        return self._quiet_until is not None and self._quiet_until <= at

    def last_reading(self, before: datetime) -> datetime | None:
        """The last complete reading before an instant."""
        place = bisect_left(self.read_at, before)
        return self.read_at[place - 1] if place else None


class _Tag:
    """The rules of one tag, and what they have to remember."""

    def __init__(
        self, connection: ConnectionSettings, group: GroupSettings, tag: TagSettings, readings: _Group
    ) -> None:
        self.name = connection.tag_id(tag)
        self._shortest, longest, self._heartbeat = group.report_times(tag)
        self._longest = longest or HELD_MAX
        self._source_time = connection.time == "source"
        self._swing, self._range = tag.swing, tag.range
        self._readings = readings
        self._door: SwingingDoor[TagSample] | None = None
        self.measure(None)
        #: The newest sample, whether it was news or not.
        self._latest: TagSample | None = None
        self._told: TagSample | None = None
        self._told_at: datetime | None = None
        #: News that wait for `report_min` to pass.
        self._waiting: TagSample | None = None
        #: When they, and what the door holds, have to go out.
        self.tell_at: datetime | None = None
        self.open_at: datetime | None = None
        self._line: Point[TagSample] | None = None

    def measure(self, range_: tuple[float, float] | None) -> None:
        """Take the range the device gave, where none is configured. A percentage of nothing is no swing."""
        swing = None if self._swing is None else in_units(self._swing, self._range or range_)
        if swing:
            self._door = SwingingDoor(swing)

    def take(self, sample: TagSample, now: datetime, report: Report, *, is_news: bool) -> None:
        """A sample, and whether the change filter passed it."""
        latest = self._latest
        if sample is latest:  # held back by the filter until now, and seen by the door when it came
            self._news(sample, now, report)
            return
        self._latest = sample
        if self._door is not None:
            self._swing_to(self._door, latest, sample, report.history)
            self._watch_door(self._door, now)
        if is_news:
            self._news(sample, now, report)
        elif self.wants_beat(sample.received_at) and self._waiting is None:
            self._beat(sample, now, report)

    def wants_beat(self, at: datetime) -> bool:
        """Whether a reading at this instant would be told although it is no news."""
        if self._heartbeat is None or self._told_at is None:
            return False
        return not _AT_ONCE <= at - self._told_at < self._heartbeat

    def beat_due(self, at: datetime) -> datetime | None:
        """When a reading will be told although it is no news; None when it has no heartbeat."""
        if self._heartbeat is None:
            return None
        return (at if self._told_at is None else self._told_at) + self._heartbeat

    def proved(self, at: datetime, now: datetime, report: Report) -> None:
        """Its group was read completely at this instant, and all that had to say is known."""
        latest = self._latest
        if latest is not None and self._waiting is None and at > latest.received_at and self.wants_beat(at):
            self._beat(self._read_again(latest, at), now, report)

    def open(self, report: Report) -> None:
        """The door has held a point back for long enough."""
        if self._door is not None:
            report.history += self._door.flush()
            self.open_at = self._line = None

    def tell_waiting(self, now: datetime, report: Report) -> None:
        """`report_min` has passed: tell what waits, unless that is what was told last."""
        waiting = self._waiting
        if waiting is not None:
            self._waiting = self.tell_at = None
            if self._told is None or not _same(waiting, self._told):
                self._tell(waiting, now, report)

    def end(self, now: datetime, report: Report) -> None:
        """Nobody looks at the tag any more: tell what is held back, and forget everything."""
        self.open(report)
        if self._door is not None:
            self._door.reset()
        self.tell_waiting(now, report)
        self._latest = self._told = self._told_at = None

    # -- topics, and history without a door ----------------------------------------------------

    def _news(self, sample: TagSample, now: datetime, report: Report) -> None:
        told = self._told
        if (
            self._shortest is not None
            and told is not None
            and self._told_at is not None
            and sample.quality is told.quality
            and sample.substatus == told.substatus
            and _AT_ONCE <= now - self._told_at < self._shortest
        ):
            self._waiting, self.tell_at = sample, self._told_at + self._shortest
        else:
            self._tell(sample, now, report)

    def _tell(self, sample: TagSample, now: datetime, report: Report) -> None:
        self._told, self._told_at = sample, now
        self._waiting = self.tell_at = None
        report.topics.append(sample)
        if self._door is None:
            report.history.append(sample)

    def _beat(self, sample: TagSample, now: datetime, report: Report) -> None:
        if self._door is not None:
            if _measured(sample):
                report.history += self._door.take(self._point(sample))
            else:
                report.history.append(sample)
            self.open(report)
        self._tell(sample, now, report)

    # -- history through a door ----------------------------------------------------------------

    def _swing_to(
        self,
        door: SwingingDoor[TagSample],
        latest: TagSample | None,
        sample: TagSample,
        history: list[TagSample],
    ) -> None:
        new_quality = latest is None or not _same_quality(latest, sample)
        if not _measured(sample):
            history += door.flush()
            door.reset()
            if latest is None or new_quality or not _same(latest, sample):
                history.append(sample)
            return
        if new_quality:
            history += door.flush()
            door.reset()
        elif latest is not None and latest.value != sample.value:
            self._end_standstill(door, latest, sample, history)
        history += door.take(self._point(sample))

    def _end_standstill(
        self,
        door: SwingingDoor[TagSample],
        latest: TagSample,
        sample: TagSample,
        history: list[TagSample],
    ) -> None:
        """What is read again is not sent again, so the line would begin to rise too early."""
        at = self._readings.last_reading(sample.received_at)
        if at is not None and door.latest is not None:
            end = self._point(self._read_again(latest, at))
            if door.latest.at < end.at < self._point(sample).at:
                history += door.take(end)

    def _watch_door(self, door: SwingingDoor[TagSample], now: datetime) -> None:
        """A point is held back for at most `report_max`, counted from when the line began to need one."""
        if not door.holds:
            self.open_at = self._line = None
        elif door.begin is not self._line:
            self._line, self.open_at = door.begin, now + self._longest

    def _point(self, sample: TagSample) -> Point[TagSample]:
        assert is_number(sample.value), "asked of measured samples only"
        return Point(dated(sample, self._source_time), sample.value, sample)

    def _read_again(self, sample: TagSample, at: datetime) -> TagSample:
        """The same, read once more at `at`: that reading's time is ours, the device gave none for it."""
        source_at = None if self._source_time else sample.source_at
        return TagSample(sample.tag, sample.value, sample.quality, source_at, at, sample.substatus)


class Reporter:
    """The tags that have a rule for topics or history; all others pass through."""

    def __init__(self, connections: Iterable[ConnectionSettings]) -> None:
        self._tags: dict[str, dict[str, _Tag]] = {}
        self._groups: dict[str, _Group] = {}
        self._telling = Timers()
        self._opening = Timers()
        for connection in connections:
            self.add(connection)

    def add(self, connection: ConnectionSettings) -> None:
        """One more connection."""
        tags = {}
        for group in connection.groups:
            readings = _Group()
            for tag in group.tags:
                times = group.report_times(tag)
                if tag.swing is not None or times.report_min is not None or times.heartbeat is not None:
                    tags[connection.tag_id(tag)] = item = _Tag(connection, group, tag, readings)
                    readings.tags.append(item)
            if readings.tags:
                self._groups[f"{connection.name}/{group.name}"] = readings
        if tags:
            self._tags[connection.name] = tags

    def drop(self, connection: str) -> None:
        """A connection is taken out; what is still held back of it is given up: ask for its `end` before."""
        for name in self._tags.pop(connection, {}):
            self._telling.cancel(name)
            self._opening.cancel(name)
        for group in [name for name in self._groups if name.startswith(connection + "/")]:
            del self._groups[group]

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Ranges the device gave, by full tag id; before the first sample of a session."""
        for tags in self._tags.values():
            for tag in tags.keys() & ranges.keys():
                tags[tag].measure(ranges[tag])

    def take(self, batch: SampleBatch, passed: SampleBatch) -> Report | None:
        """What to tell of a batch of which the change filter let `passed` through; None: all of that."""
        tags = self._tags.get(batch.connection)
        if tags is None:
            return None
        report, now = Report(), batch.received_at
        news = iter(passed.samples)
        next_news = next(news, None)
        for sample in batch.samples:
            is_news = sample is next_news
            if is_news:
                next_news = next(news, None)
            tag = tags.get(sample.tag)
            if tag is not None:
                tag.take(sample, now, report, is_news=is_news)
                self._set_alarms(tag)
            elif is_news:
                report.topics.append(sample)
                report.history.append(sample)
        return report

    def read(self, group: str, at: datetime) -> bool:
        """A group (`connection/group`) was read completely; True when a heartbeat waits to be `proved`."""
        readings = self._groups.get(group)
        if readings is None:
            return False
        readings.read_at.append(at)
        return readings.wants_beat(at)

    def proved(self, group: str, at: datetime, now: datetime) -> Report:
        """A group was read completely at `at`, and all it had to say then has been taken."""
        report = Report()
        readings = self._groups.get(group)
        for tag in readings.tags if readings is not None else ():
            tag.proved(at, now, report)
            self._set_alarms(tag)
        return report

    def wake_at(self) -> datetime | None:
        """When to ask `due` at the latest; None when nothing is held back."""
        telling, opening = self._telling.wake_at(), self._opening.wake_at()
        if telling is None or opening is None:
            return telling or opening
        return min(telling, opening)

    def due(self, now: datetime) -> Mapping[str, Report]:
        """What has been held back for long enough, by connection."""
        found: dict[str, Report] = {}
        for name in self._opening.pop(now):
            tag, connection = self._named(name)
            tag.open(found.setdefault(connection, Report()))
        for name in self._telling.pop(now):
            tag, connection = self._named(name)
            tag.tell_waiting(now, found.setdefault(connection, Report()))
        return found

    def end(self, connection: str, at: datetime) -> Report:
        """The connection is lost, or the process ends: what is held back."""
        report = Report()
        for tag in self._tags.get(connection, {}).values():
            tag.end(at, report)
            self._set_alarms(tag)
        return report

    def _named(self, name: str) -> tuple[_Tag, str]:
        connection = name.partition("/")[0]
        return self._tags[connection][name], connection

    def _set_alarms(self, tag: _Tag) -> None:
        for timers, at in ((self._telling, tag.tell_at), (self._opening, tag.open_at)):
            if at is None:
                timers.cancel(tag.name)
            else:
                timers.set(tag.name, at)


def _measured(sample: TagSample) -> bool:
    return sample.quality is not Quality.BAD and is_number(sample.value) and math.isfinite(sample.value)


def _same_quality(one: TagSample, other: TagSample) -> bool:
    return one.quality is other.quality and one.substatus == other.substatus


def _same(one: TagSample, other: TagSample) -> bool:
    return one.value == other.value and type(one.value) is type(other.value) and _same_quality(one, other)
