"""What no single broker's section can know: names used twice, one client id for two, one edge node for two.

Pure: takes the sections that are right in themselves, by their places, and says what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from connectors.settings import ConnectionSettings
from gateway.config.brokers import EMBEDDED, BrokerSettings, host_and_port
from gateway.config.lines import KeyPath
from gateway.config.lint import Finding
from gateway.config.mqtt import MqttSettings
from gateway.config.problems import did_you_mean, path_text
from gateway.config.schema import GatewaySettings
from gateway.config.sparkplug import SparkplugSettings
from gateway.publish.judging import judge
from gateway.publish.kinds import refusals
from gateway.publish.tree import Plant, expand, plant, shared
from gateway.sparkplug.names import clashes
from statemodel.engine import EquipmentSpec

#: The sections of one name by their places; None where one is wrong in itself.
Sections = Mapping[KeyPath, BrokerSettings | None]


def lint_brokers(
    gateway: GatewaySettings | None,
    sections: Mapping[str, Sections],
    connections: Iterable[ConnectionSettings],
    equipment: Iterable[EquipmentSpec],
) -> Iterator[Finding]:
    """Everything that does not fit together; `gateway` is None where it is wrong itself."""
    for found in sections.values():
        yield from _names(found)
    everything = {
        place: settings for found in sections.values() for place, settings in found.items() if settings
    }
    yield from _one_embedded(everything)
    if gateway is None:
        return
    yield from _client_ids(gateway.id, everything)
    yield from _edge_nodes(gateway.id, everything)
    of = plant(gateway, connections, equipment)
    yield from _topics(everything, of)
    yield from _devices(everything, of)


def _topics(sections: Mapping[KeyPath, BrokerSettings], of: Plant) -> Iterator[Finding]:
    """What templates and rules may not ask for, and brokers that would be told the same twice."""
    sound: dict[str, list[tuple[KeyPath, MqttSettings]]] = {}
    for place, settings in sections.items():
        if isinstance(settings, MqttSettings):
            found = [*refusals(settings), *judge(settings, of)]
            yield from (((*place, *inner), reason, hint) for inner, reason, hint in found)
            if not found:
                sound.setdefault(host_and_port(settings.broker), []).append((place, settings))
    for here in sound.values():
        for number, (place, settings) in enumerate(here):
            for other, already in here[:number]:
                if (both := shared(expand(already, of), expand(settings, of))) is not None:
                    reason = f"{both[1].what} is said on {both[1].topic} by {path_text(other)} already"
                    yield place, reason, "both are at one broker: keep one, or give one topics of its own"
                    break


def _names(sections: Sections) -> Iterator[Finding]:
    if len(sections) < 2:
        return
    first: dict[str, KeyPath] = {}
    for place, settings in sections.items():
        if settings is None:
            continue
        if settings.name is None:
            reason = f"is required when there are several [[{settings.section}]]"
            yield (*place, "name"), reason, "it tells them apart in health, metrics and the journal"
            continue
        other = first.setdefault(settings.name.casefold(), place)
        if other is not place:
            reason = f'"{settings.name}" is used twice'
            yield (
                (*place, "name"),
                reason,
                f"the first is {path_text(other)}; case does not tell names apart",
            )


def _one_embedded(sections: Mapping[KeyPath, BrokerSettings]) -> Iterator[Finding]:
    first: tuple[KeyPath, int] | None = None
    for place, settings in sections.items():
        if not settings.embedded or "embedded_port" not in settings.model_fields_set:
            continue
        if first is not None and settings.embedded_port != first[1]:
            yield (
                (*place, "embedded_port"),
                f"is not that of {path_text(first[0])}, {first[1]}",
                "there is one embedded broker, which all share: say its port once",
            )
        first = first or (place, settings.embedded_port)


def _client_ids(gateway: str, sections: Mapping[KeyPath, BrokerSettings]) -> Iterator[Finding]:
    first: dict[tuple[str, str], KeyPath] = {}
    for place, settings in sections.items():
        client_id = settings.client_id_for(gateway)
        for address in dict.fromkeys(map(host_and_port, settings.addresses)):
            other = first.setdefault((address, client_id), place)
            if other is not place:
                broker = "the embedded broker" if address == EMBEDDED else address
                yield (
                    (*place, "client_id"),
                    f'"{client_id}" is that of {path_text(other)} too, at {broker}',
                    "each would throw the other out: give them different names or client ids",
                )
                break


def _edge_nodes(gateway: str, sections: Mapping[KeyPath, BrokerSettings]) -> Iterator[Finding]:
    """Sparkplug 3.0: no two edge nodes have the same group and id, and case must not tell ids apart."""
    first: dict[tuple[str, str], KeyPath] = {}
    for place, settings in sections.items():
        if not isinstance(settings, SparkplugSettings):
            continue
        node = settings.edge_node_for(gateway)
        other = first.setdefault((settings.group.casefold(), node.casefold()), place)
        if other is not place:
            yield (
                (*place, "edge_node"),
                f'"{settings.group}/{node}" is that of {path_text(other)} too',
                "an edge node is there once; case does not tell them apart",
            )


def _devices(sections: Mapping[KeyPath, BrokerSettings], of: Plant) -> Iterator[Finding]:
    """Nodes without a device, and tags of a node that only case tells apart."""
    for place, settings in sections.items():
        if not isinstance(settings, SparkplugSettings):
            continue
        if settings.under is not None and of.equipment:
            paths = [equipment.path for equipment in of.equipment]
            if not any(settings.holds(path) for path in paths):
                above = {path.rpartition("/")[0] for path in paths} - {""}
                hint = (
                    did_you_mean(settings.under, above) or "write the first levels of the paths of equipment"
                )
                yield (*place, "under"), f'there is no equipment below "{settings.under}"', hint
        for first, second in clashes(of.tags):
            yield (
                place,
                f'the tags "{first}" and "{second}" differ in upper and lower case only',
                "Sparkplug has no two metrics like that: name one otherwise, or do not publish it",
            )
