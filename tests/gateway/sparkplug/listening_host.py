"""A host application as the tests need one: it hears messages, keeps what they say, and notices broken rules.

It knows the session by what it publishes and by nothing else. Messages reach it as the bytes they would be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.sparkplug.datatypes import DataType
from gateway.sparkplug.messages import Publication
from gateway.sparkplug.payload import Metric, Payload, Template, decode, encode, resolve

PREFIX = "spBv1.0"


class BrokenRuleError(AssertionError):
    """The edge node did what it must not."""


def rule(kept: bool, says: str) -> None:
    """A rule of the standard."""
    if not kept:
        raise BrokenRuleError(says)


@dataclass
class Heard:
    """A metric as the host knows it."""

    name: str
    alias: int | None
    datatype: DataType
    value: Any
    at: datetime
    quality: int | None
    unit: str | None


@dataclass
class HeardOf:
    """A node or a device: its metrics, while it is alive and after."""

    alive: bool = False
    metrics: dict[str, Heard] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of a metric."""
        return self.metrics[name].value


@dataclass
class Past:
    """A historical value that was heard."""

    device: str
    name: str
    value: Any
    at: datetime


class ListeningHost:
    """Hears one edge node."""

    def __init__(self, group: str, edge_node: str) -> None:
        self.group, self.edge_node = group, edge_node
        self.node = HeardOf()
        self.devices: dict[str, HeardOf] = {}
        self.bd_seq: int | None = None
        self.next_seq: int | None = None
        self.definitions: dict[str, dict[str, DataType]] = {}
        self.history: list[Past] = []
        self.verbs: list[str] = []
        #: Every value a metric was said to have now, births apart.
        self.said: list[Past] = []
        self.data_since_birth = False
        #: Devices whose link the test has cut: their DBIRTH may come later than the others'.
        self.dead: set[str] = set()

    # --- the broker

    def will(self, publication: Publication) -> None:
        """What the CONNECT carried."""
        rule(publication.topic == self._topic("NDEATH"), "the will is for the own NDEATH topic")
        self.bd_seq = self._bd_seq_of_death(publication)

    def dropped(self) -> None:
        """The broker says the will."""
        self._died()

    def hear(self, publications: tuple[Publication, ...]) -> None:
        """Messages, in order."""
        for publication in publications:
            self._hear(publication)

    # --- one message

    def _hear(self, publication: Publication) -> None:
        levels = publication.topic.split("/")
        verb, device = levels[2], levels[4] if len(levels) == 5 else ""
        rule(publication.topic == self._topic(verb, device), "the topic has namespace, group, verb and node")
        rule((verb[0] == "D") == bool(device), "messages of devices name the device, others none")
        self.verbs.append(f"{verb} {device}".strip())
        if verb == "NDEATH":
            rule(self._bd_seq_of_death(publication) == self.bd_seq, "NDEATH has the bdSeq of the will")
            self._died()
            return
        payload = decode(encode(publication.payload))
        rule(payload.at is not None, "a payload has a timestamp")
        if verb == "NBIRTH":
            self._node_birth(payload)
            return
        rule(self.node.alive, "nothing is said before the NBIRTH")
        self._count(payload)
        if verb == "DBIRTH":
            known = self.devices.setdefault(device, HeardOf())
            late = self.data_since_birth and not known.metrics and device not in self.dead
            rule(not late, "the births of a sequence come before any DATA")
            self._birth(device, known, payload)
            self.dead.discard(device)
        elif verb == "DDEATH":
            rule(self.devices[device].alive, "only what lives dies")
            self.devices[device].alive = False
        else:
            self.data_since_birth = True
            self._data(device, self.devices[device] if device else self.node, payload)

    def _bd_seq_of_death(self, publication: Publication) -> int:
        payload = decode(encode(publication.payload))
        rule(payload.seq is None, "NDEATH has no seq")
        rule([m.name for m in payload.metrics] == ["bdSeq"], "NDEATH holds bdSeq alone")
        rule(payload.metrics[0].datatype is DataType.INT64, "bdSeq is Int64")
        number = payload.metrics[0].value
        assert isinstance(number, int)
        return number

    def _node_birth(self, payload: Payload) -> None:
        rule(payload.seq == 0, "NBIRTH begins the count at 0")
        self.next_seq = 1
        self.devices = {}
        self.definitions = {}
        self.data_since_birth = False
        self.node = HeardOf()
        for metric in payload.metrics:
            if isinstance(metric.value, Template) and metric.value.is_definition:
                assert metric.name is not None
                self.definitions[metric.name] = {
                    str(m.name): m.datatype for m in metric.value.metrics if m.datatype is not None
                }
        self._birth("", self.node, payload)
        rule(self.node.value("bdSeq") == self.bd_seq, "NBIRTH has the bdSeq of the will")
        rebirth = self.node.metrics["Node Control/Rebirth"]
        rule(rebirth.datatype is DataType.BOOLEAN and rebirth.value is False, "Rebirth is false")
        rule(rebirth.alias is None, "Rebirth has no alias")

    def _birth(self, device: str, known: HeardOf, payload: Payload) -> None:
        known.alive, known.metrics = True, {}
        taken = self._aliases()
        self._in_order(payload)
        for metric in payload.metrics:
            rule(bool(metric.name), "births name every metric")
            rule(metric.datatype is not None, "births give every metric's type")
            rule(metric.at is not None, "births give every metric's time")
            rule(not metric.historical, "a birth tells what is true now")
            assert metric.name is not None
            assert metric.datatype is not None
            assert metric.at is not None
            rule(metric.name not in known.metrics, "a metric is born once")
            rule(metric.alias is not None or metric.name == "Node Control/Rebirth", "births give aliases")
            rule(metric.alias is None or metric.alias not in taken, "an alias is one metric's")
            taken.add(metric.alias)
            if isinstance(metric.value, Template):
                self._template(metric.value, device, birth=True)
            quality, unit = metric.properties.get("Quality"), metric.properties.get("engUnit")
            if quality is not None:
                rule(
                    quality.datatype is DataType.INT32 and quality.value in (0, 192, 500),
                    "Quality is one of three",
                )
            known.metrics[metric.name] = Heard(
                metric.name,
                metric.alias,
                metric.datatype,
                metric.value,
                metric.at,
                quality.value if quality else None,  # type: ignore[arg-type]
                str(unit.value) if unit else None,
            )

    def _data(self, device: str, known: HeardOf, payload: Payload) -> None:
        rule(known.alive, "the dead say nothing")
        rule(bool(payload.metrics), "DATA carries something")
        self._in_order(payload)
        for sent in payload.metrics:
            rule(sent.name is None and sent.alias is not None, "DATA names metrics by alias alone")
            rule(sent.datatype is None, "DATA leaves types out")
            rule(sent.at is not None, "DATA gives every metric's time")
            found = next((m for m in known.metrics.values() if m.alias == sent.alias), None)
            rule(found is not None, "an alias has been born on the node or device that uses it")
            assert found is not None
            assert sent.at is not None
            metric = resolve(sent, found.datatype)
            self._take(device, found, metric)

    def _take(self, device: str, found: Heard, metric: Metric) -> None:
        assert metric.at is not None
        value = metric.value
        past = Past(device, found.name, value, metric.at)
        if metric.historical:
            self.history.append(past)
            return
        self.said.append(past)
        quality = metric.properties.get("Quality")
        rule(found.value != value or quality is not None, f"{found.name} is said when it changes")
        if isinstance(value, Template):
            self._template(value, device, birth=False)
            types = self.definitions[str(value.ref)]
            members = {member.name: member for member in found.value.metrics}
            members.update({m.name: resolve(m, types[str(m.name)]) for m in value.metrics})
            value = Template(tuple(members.values()), ref=value.ref, version=value.version)
        found.value, found.at = value, metric.at
        if quality is not None:
            assert isinstance(quality.value, int)
            found.quality = quality.value

    def _template(self, template: Template, device: str, *, birth: bool) -> None:
        if template.is_definition:
            rule(device == "" and birth, "definitions are in the NBIRTH alone")
            return
        members = self.definitions.get(template.ref or "")
        rule(members is not None, "an instance names a definition")
        assert members is not None
        names = {str(member.name) for member in template.metrics}
        rule(names <= members.keys(), "an instance has the definition's members")
        rule(not birth or names == members.keys(), "an instance in a birth has all members")

    def _in_order(self, payload: Payload) -> None:
        times = [metric.at for metric in payload.metrics if not metric.historical and metric.at]
        rule(times == sorted(times), "metrics are in chronological order")

    def _aliases(self) -> set[int | None]:
        return {m.alias for known in (self.node, *self.devices.values()) for m in known.metrics.values()}

    def _count(self, payload: Payload) -> None:
        rule(payload.seq == self.next_seq, f"seq is {self.next_seq}, not {payload.seq}")
        assert payload.seq is not None
        self.next_seq = 0 if payload.seq == 255 else payload.seq + 1

    def _died(self) -> None:
        self.node.alive = False
        for known in self.devices.values():
            known.alive = False

    def _topic(self, verb: str, device: str = "") -> str:
        topic = f"{PREFIX}/{self.group}/{verb}/{self.edge_node}"
        return f"{topic}/{device}" if device else topic
