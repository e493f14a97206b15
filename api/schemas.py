"""The shapes of answers that are not already told by `statemodel.records` or the ports.

They are used to encode the answers and to document them, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from api.ports import ConnectionView, EquipmentView, Interval, TagView
from statemodel.figures import Figures
from statemodel.tag_history import DatedSample


class EquipmentList(msgspec.Struct, frozen=True):
    """Equipment in the order of the configuration: also the snapshot to start a stream from.

    The states take in every event of `stream` up to `seq`, so a stream opened with `after=stream:seq`
    misses nothing.
    """

    items: Sequence[EquipmentView]
    next: str | None
    stream: str
    seq: int


class TagList(msgspec.Struct, frozen=True):
    """Tags in the order of the configuration, each with its latest sample."""

    items: Sequence[TagView]
    next: str | None
    stream: str
    seq: int


class TagSampleList(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Recorded samples of a tag with `from <= at < to`, in order, on the first page with the one before them.

    While `next` is not null, there are more: ask again with `after` set to it. `incomplete` is null, or says
    in words what may be missing.
    """

    tag: str
    unit: str
    from_: datetime
    to: datetime
    before: DatedSample | None
    items: Sequence[DatedSample]
    next: str | None
    incomplete: str | None


class BucketView(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A tag between two instants; figures that were not asked for are left out.

    `min`, `max` and `avg` are of the values in force (one from before included), null when no number was
    known; `avg` is weighted by time. `last` is the value in force at the end. `known_s` is for how many
    seconds a number was known, `count` how many samples were recorded.
    """

    from_: datetime
    to: datetime
    count: int | msgspec.UnsetType = msgspec.UNSET
    min: float | int | msgspec.UnsetType | None = msgspec.UNSET
    max: float | int | msgspec.UnsetType | None = msgspec.UNSET
    avg: float | msgspec.UnsetType | None = msgspec.UNSET
    last: bool | int | float | str | msgspec.UnsetType | None = msgspec.UNSET
    known_s: float | msgspec.UnsetType = msgspec.UNSET


class TagBucketList(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A tag over a range, bucket by bucket in order, without holes. `incomplete` as for samples."""

    tag: str
    unit: str
    from_: datetime
    to: datetime
    bucket: str
    items: Sequence[BucketView]
    incomplete: str | None


class ConnectionList(msgspec.Struct, frozen=True):
    """Connections in the order of the configuration."""

    items: Sequence[ConnectionView]
    next: str | None
    stream: str
    seq: int


class ModelName(msgspec.Struct, frozen=True):
    """A state model there is."""

    name: str


class ModelList(msgspec.Struct, frozen=True):
    """Names of the state models, built-in ones first."""

    items: Sequence[ModelName]
    next: str | None
    stream: str
    seq: int


class TransitionList(msgspec.Struct, frozen=True):
    """Transitions of one equipment, oldest first, each exactly as it was journalled.

    While `next` is not null, there are more: ask again with `after` set to it. When it is null, everything up
    to `seq` has been taken into account: to poll, ask later with `after=stream:seq`.
    """

    items: Sequence[msgspec.Raw]
    next: str | None
    stream: str
    seq: int


class Timeline(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The states of one equipment between two instants, cut exactly at both, without holes.

    `from` and `to` are the instants the answer covers; with `next` not null it breaks off there: ask again
    with `from` set to it.
    """

    equipment: str
    from_: datetime
    to: datetime
    items: Sequence[Interval]
    next: str | None
    stream: str
    seq: int


class KpiReport(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Figures of one equipment over a range: the whole, and each bucket in order.

    `bucket` is what the range was cut by: a unit of the calendar of `tz`, a length, `shift`, or null.
    """

    equipment: str
    from_: datetime
    to: datetime
    tz: str
    bucket: str | None
    total: Figures
    items: Sequence[Figures]
    stream: str
    seq: int


class Liveness(msgspec.Struct, frozen=True):
    """Whether the process does its work: `status` is `ok` or `failing`."""

    status: str
