"""What is known of a node or a device, metric by metric: names, types, values, qualities, times.

A `Picture` is kept up to date whether anybody listens or not. Whoever changes it is told what has changed, so
that DATA says that and no more (tck-id-principles-rbe-recommended). It knows nothing of states, sessions,
aliases or topics; time is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.typing_tags import UNTOLD, fits, told, type_of, widened
from gateway.sparkplug.values import NONE, Property, Template, Value
from statemodel.machine import SOURCE_AHEAD_MAX, SOURCE_BEHIND_MAX
from statemodel.types import Quality, TagSample, TagValue

#: Values of the property `Quality` (tck-id-payloads-propertyset-quality-value-value): there are no others.
QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE = 0, 192, 500

#: Substatus of a tag whose last value is old, for whatever reason.
_STALE = frozenset({"stale", "no_communication", "no_sample"})


class Point(msgspec.Struct, frozen=True, gc=False):
    """One metric as it is now, before anyone gave it an alias.

    `at` is when the value was so; None: whenever it is told. `quality` is a value of the property of that
    name, None where a metric has none. `unit` and `substatus` are empty when there is nothing to say.
    """

    name: str
    datatype: DataType
    value: Value
    at: datetime | None = None
    unit: str = ""
    quality: int | None = None
    substatus: str = ""

    def properties(self, *, birth: bool = False, live: bool = False) -> Mapping[str, Property]:
        """Its properties: in a birth all of them, else the quality with what it says more.

        In live DATA a null takes back what an earlier quality had to say.
        """
        if self.quality is None and not (birth and self.unit):
            return NONE
        found = {}
        if birth and self.unit:
            found["engUnit"] = Property(DataType.STRING, self.unit)
        if self.quality is not None:
            found["Quality"] = Property(DataType.INT32, self.quality)
            if self.substatus or live:
                found["Substatus"] = Property(DataType.STRING, self.substatus or None)
        return found


class Change(msgspec.Struct, frozen=True, gc=False):
    """A metric that is not as it was. With `quality` its quality has to be said too: not good, or changed."""

    point: Point
    quality: bool = False


@dataclass(frozen=True)
class PublishedTag:
    """A tag with `publish = true`, by its full id.

    `datatype` is what its settings declare (`typing_tags.declared_type`), None where only values tell. With
    `source_time` its values carry the device's time where it is plausible. `name` is that of its metric where
    the equipment has one for it.
    """

    tag: str
    unit: str = ""
    datatype: DataType | None = None
    source_time: bool = False
    writable: bool = False
    name: str = ""

    @property
    def metric(self) -> str:
        """The name of its metric."""
        return self.name or f"Tags/{self.tag}"


def quality_code(sample: TagSample) -> int:
    """The standard's three words for our many: only what is good is good, what is merely old is stale."""
    if sample.quality is Quality.GOOD:
        return QUALITY_GOOD
    return QUALITY_STALE if sample.substatus in _STALE else QUALITY_BAD


def sampled_at(sample: TagSample, tag: PublishedTag) -> datetime:
    """When a value was so: by the device's clock where the connection believes it, else by ours."""
    at = sample.source_at
    if not tag.source_time or at is None:
        return sample.received_at
    behind = sample.received_at - at
    return at if -SOURCE_AHEAD_MAX <= behind <= SOURCE_BEHIND_MAX else sample.received_at


class Picture:
    """All metrics of a node or a device, by name, in the order they got their aliases."""

    def __init__(self, points: Iterable[Point], tags: Iterable[PublishedTag]) -> None:
        self.points: dict[str, Point] = {point.name: point for point in points}
        self.tags = {tag.tag: tag for tag in tags}
        for tag in self.tags.values():
            datatype = tag.datatype or UNTOLD
            self.points[tag.metric] = Point(tag.metric, datatype, None, None, tag.unit, QUALITY_STALE)
        self._valued: set[str] = {tag.metric for tag in self.tags.values() if tag.datatype is not None}

    def all_points(self) -> list[Point]:
        """All of them, as a birth says them."""
        return list(self.points.values())

    def put(self, name: str, value: Value, at: datetime) -> list[Change]:
        """A metric has this value since `at`; nothing when it had it already."""
        old = self.points[name]
        if old.value == value:
            return []
        self.points[name] = point = Point(name, old.datatype, value, at, old.unit, old.quality)
        return [Change(point)]

    def sample(self, sample: TagSample) -> list[Change]:
        """The newest value of a tag; nothing when it is no other than before, or no tag of this one.

        The type may be another afterwards: compare with that of the birth.
        """
        tag = self.tags.get(sample.tag)
        if tag is None:
            return []
        old = self.points[tag.metric]
        point = self.historical(sample) or old
        same = point.value == old.value and point.datatype is old.datatype
        requalified = (point.quality, point.substatus) != (old.quality, old.substatus)
        if same and not requalified:
            return []
        self.points[tag.metric] = point
        return [Change(point, requalified or point.quality != QUALITY_GOOD)]

    def historical(self, sample: TagSample) -> Point | None:
        """What a tag was in this sample; a type too narrow for it is widened for good. None: not ours."""
        tag = self.tags.get(sample.tag)
        if tag is None:
            return None
        datatype = self._type_for(tag, sample.value)
        return Point(
            tag.metric,
            datatype,
            told(sample.value, datatype),
            sampled_at(sample, tag),
            tag.unit,
            quality_code(sample),
            "" if sample.quality is Quality.GOOD else sample.substatus,
        )

    def as_now(self, point: Point) -> Point:
        """A tag's value of before in the type the tag has now."""
        datatype = self.points[point.name].datatype
        if datatype is point.datatype or not isinstance(point.value, bool | int | float | str):
            return msgspec.structs.replace(point, datatype=datatype)
        return msgspec.structs.replace(point, datatype=datatype, value=told(point.value, datatype))

    def _type_for(self, tag: PublishedTag, value: TagValue) -> DataType:
        old = self.points[tag.metric]
        own = type_of(value)
        if own is None:
            return old.datatype
        if tag.metric not in self._valued:
            self._valued.add(tag.metric)
            datatype = own
        elif fits(value, old.datatype):
            return old.datatype
        else:
            datatype = widened(old.datatype, value)
        value_now = told(old.value, datatype) if isinstance(old.value, bool | int | float | str) else None
        self.points[tag.metric] = msgspec.structs.replace(old, datatype=datatype, value=value_now)
        return datatype


def dated(value: Value, at: datetime) -> Value:
    """A value in which every member of a template has a time, as every metric must have; members without one
    get that of the whole (tck-id-payloads-name-birth-data-requirement).
    """
    if not isinstance(value, Template) or all(member.at is not None for member in value.metrics):
        return value
    members = tuple(m if m.at is not None else msgspec.structs.replace(m, at=at) for m in value.metrics)
    return msgspec.structs.replace(value, metrics=members)
