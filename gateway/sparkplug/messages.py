"""The messages of a session: pictures made into payloads, with aliases, sequence numbers and topics. Pure.

What may be said when is for the session (`session.py`); here is only how it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.sparkplug import births
from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.names import Names, Verb
from gateway.sparkplug.pictures import Change, Picture, Point, dated
from gateway.sparkplug.ration import Ration
from gateway.sparkplug.values import NONE, Metric, Payload

#: At most one rebirth in this time, in seconds; who asks in between gets the one at its end.
REBIRTH_EVERY_S = 5.0
#: Most metrics of one message of history, so that no message outgrows what brokers take.
HISTORY_METRICS_MAX = 500
#: Numbers of messages run from 0 to 255.
NUMBERS = 256

#: Stands for the node where a device is named.
NODE = ""


class Now(NamedTuple):
    """The time as it is handed in: for labels, and for measuring."""

    at: datetime
    monotonic_s: float


class Publication(NamedTuple):
    """One message to send."""

    topic: str
    payload: Payload
    verb: Verb
    device: str = NODE


class Member:
    """A picture, and what of it the hosts know."""

    def __init__(self, device: str, picture: Picture, aliases: Iterable[int]) -> None:
        self.device = device
        self.picture = picture
        named = [name for name in (births.BDSEQ, *picture.points) if name != births.NODE_REBIRTH]
        if device:
            named.remove(births.BDSEQ)
        self.alias = dict(zip(named, aliases, strict=False))
        self.tag_of = {tag.metric: tag for tag in picture.tags.values()}
        self.by_alias = {alias: name for name, alias in self.alias.items()}
        #: The type each metric was born with; empty while it is not born.
        self.born: dict[str, DataType] = {}
        #: Whether its link is there: without it a device is not born.
        self.up = True
        self.rebirths = Ration(REBIRTH_EVERY_S)

    def go_on(self, before: Member) -> None:
        """The same node or device, as hosts know it."""
        self.picture, self.born = before.picture, before.born
        self.up, self.rebirths = before.up, before.rebirths

    def keep_aliases(self, before: Member | None, fresh: Iterator[int]) -> None:
        """Metrics go on with the aliases they had before; the others get fresh ones."""
        had = {} if before is None else before.alias
        self.alias = {name: had[name] if name in had else next(fresh) for name in self.alias}
        self.by_alias = {alias: name for name, alias in self.alias.items()}

    def outgrown(self, names: Iterable[str]) -> bool:
        """Whether one of these metrics, which are born, has another type now than it was born with."""
        points = self.picture.points
        return any(points[name].datatype is not self.born[name] for name in names)


class Messages:
    """Makes the messages of one edge node. The counter is one over node and devices."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._seq = 0

    def birth(self, member: Member, now: Now, bd_seq: int) -> Publication:
        """An NBIRTH, which begins the count at 0, or a DBIRTH. What is in it is born from then on.

        Every metric with name, type, value and time; those of the newest values last, as the order of
        time asks (tck-id-operational-behavior-data-publish-nbirth-order, -dbirth-order).
        """
        points = member.picture.all_points()
        if not member.device:
            self._seq = 0
            points.append(Point(births.BDSEQ, DataType.INT64, bd_seq))
        member.born = {point.name: point.datatype for point in points}
        metrics = [
            Metric(
                point.name,
                member.alias.get(point.name),
                point.datatype,
                dated(point.value, point.at or now.at),
                point.at or now.at,
                properties=point.properties(birth=True),
            )
            for point in sorted(points, key=lambda point: point.at or now.at)
        ]
        verb = Verb.DBIRTH if member.device else Verb.NBIRTH
        return self._publication(verb, member, metrics, now.at)

    def death(self, bd_seq: int, at: datetime) -> Publication:
        """The NDEATH: bdSeq and nothing else, without a number (tck-id-topics-ndeath-payload, -seq)."""
        metrics = (Metric(births.BDSEQ, None, DataType.INT64, bd_seq, at),)
        return Publication(self._names.topic(Verb.NDEATH), Payload(at, None, metrics), Verb.NDEATH)

    def device_death(self, member: Member, now: Now) -> Publication:
        """A DDEATH; nothing of the device is born after it."""
        member.born = {}
        return self._publication(Verb.DDEATH, member, (), now.at)

    def data(self, member: Member, changes: Sequence[Change], now: Now) -> list[Publication]:
        """What has changed, if it has been born so; in chronological order within each message."""
        born = [c for c in changes if member.born.get(c.point.name) is c.point.datatype]
        return [self._said(member, run, now) for run in _runs(born, now.at)]

    def _said(self, member: Member, run: Sequence[Change], now: Now) -> Publication:
        metrics = [
            Metric(
                None,
                member.alias[change.point.name],
                change.point.datatype,
                dated(change.point.value, change.point.at or now.at),
                change.point.at or now.at,
                properties=change.point.properties(live=True) if change.quality else NONE,
            )
            for change in run
        ]
        return self._publication(_data_verb(member), member, metrics, now.at)

    def history(self, member: Member, points: Sequence[Point], now: Now) -> list[Publication]:
        """What once was, as it was then, in the order it is handed in."""
        metrics = [
            Metric(
                None,
                member.alias[point.name],
                point.datatype,
                point.value,
                point.at,
                historical=True,
                properties=point.properties(),
            )
            for point in points
        ]
        return [
            self._publication(
                _data_verb(member), member, metrics[start : start + HISTORY_METRICS_MAX], now.at
            )
            for start in range(0, len(metrics), HISTORY_METRICS_MAX)
        ]

    def _publication(
        self, verb: Verb, member: Member, metrics: Sequence[Metric], at: datetime
    ) -> Publication:
        seq = self._seq
        self._seq = (seq + 1) % NUMBERS
        payload = Payload(at, seq, metrics, typed=verb in (Verb.NBIRTH, Verb.DBIRTH))
        return Publication(self._names.topic(verb, member.device), payload, verb, member.device)


def _data_verb(member: Member) -> Verb:
    return Verb.DDATA if member.device else Verb.NDATA


def _runs(changes: Iterable[Change], at: datetime) -> list[list[Change]]:
    """Changes in few messages, each in chronological order, and each metric in the order it changed.

    A device's clock may go back: then the newer value is the older one, and follows in a message of its own.
    """
    runs: list[list[Change]] = []
    last: dict[str, datetime] = {}
    for change in changes:
        name, changed_at = change.point.name, change.point.at or at
        if not runs or last.get(name, changed_at) > changed_at:
            runs.append([])
            last = {}
        last[name] = changed_at
        runs[-1].append(change)
    return [sorted(run, key=lambda change: change.point.at or at) for run in runs]
