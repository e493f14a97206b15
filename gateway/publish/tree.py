"""The whole tree of one broker before anything runs: every topic there will be, and what is said there. Pure.

Knows what a configuration has to be told of; whether the topics are fit is judged in `judging`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connectors.settings import ConnectionSettings
from gateway.config.mqtt import MqttSettings
from gateway.config.published import published
from gateway.config.schema import GatewaySettings
from gateway.publish.kinds import Kinds, Rule
from gateway.publish.topics import CONNECTION_TYPES, GATEWAY_TYPES, Place, Topics
from statemodel.engine import EquipmentSpec
from statemodel.records import TYPE_OF


class Said(NamedTuple):
    """A topic, and what is said there: the key of `[mqtt.topics]` and the name of what it is about."""

    topic: str
    key: str
    about: str
    rule: Rule

    @property
    def what(self) -> str:
        """For people."""
        kind, _, type_ = self.key.partition("/")
        if kind == "status":
            return "the status of the gateway"
        if kind == "event":
            return f'"{type_}" of "{self.about}"'
        return (
            f'the {kind} "{self.about}"' if kind in ("tag", "connection") else f'the {kind} of "{self.about}"'
        )


@dataclass(frozen=True)
class Plant:
    """All that something is said of. `tags` are those that are published, with the equipment they are of."""

    gateway: GatewaySettings
    equipment: Sequence[Place]
    connections: Sequence[str]
    tags: Mapping[str, Sequence[Place]]


def plant(
    gateway: GatewaySettings, connections: Iterable[ConnectionSettings], equipment: Iterable[EquipmentSpec]
) -> Plant:
    """What a configuration has to be told of."""
    known, specs = tuple(connections), tuple(equipment)
    places = {spec.name: Place(spec.name, spec.path, spec.model.name) for spec in specs}
    tags = {
        id_: tuple(places[spec.name] for spec in found.equipment)
        for id_, found in published(known, specs).items()
    }
    return Plant(gateway, list(places.values()), [connection.name for connection in known], tags)


def topics_of(settings: MqttSettings, gateway: GatewaySettings) -> Topics:
    """The topics of a gateway at one broker."""
    return Topics(gateway.enterprise, gateway.site, gateway.id, Kinds(settings).templates)


def expand(settings: MqttSettings, of: Plant) -> Iterator[Said]:
    """Every topic there will be. The settings have been judged."""
    topics, kinds = topics_of(settings, of.gateway), Kinds(settings)
    for key, about, place, values in things(of):
        yield Said(topics.filled(key, place, **values), key, about, kinds.of(key))


def shared(first: Iterable[Said], second: Iterable[Said]) -> tuple[Said, Said] | None:
    """The first retained topic that both have: at one broker, one would say `offline` for the other."""
    held = {said.topic: said for said in first if said.rule.retain}
    return next(((held[said.topic], said) for said in second if said.topic in held), None)


#: Key of `[mqtt.topics]`, name of what it is about, its place, and what else fills a template.
Thing = tuple[str, str, Place | None, dict[str, str]]


def things(of: Plant) -> Iterator[Thing]:
    """Key, name, place and values of everything that is said, in the order people look for it."""
    yield "status", "", None, {}
    for connection in of.connections:
        yield "connection", connection, None, {"connection": connection}
    for place in of.equipment:
        yield "state", place.equipment, place, {}
        yield "availability", place.equipment, place, {}
    for tag, places in of.tags.items():
        connection, _, name = tag.partition("/")
        for bound in places or (None,):
            yield "tag", tag, bound, {"connection": connection, "tag": name}
    for type_ in TYPE_OF.values():
        if type_ in CONNECTION_TYPES:
            for connection in of.connections:
                yield f"event/{type_}", connection, None, {"connection": connection, "type": type_}
        elif type_ in GATEWAY_TYPES:
            yield f"event/{type_}", "", None, {"type": type_}
        else:
            for place in of.equipment:
                yield f"event/{type_}", place.equipment, place, {"type": type_}
