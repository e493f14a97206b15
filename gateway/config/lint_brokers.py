"""What no single broker's section can know: names used twice, one client id for two, one edge node for two.

Pure: takes the sections that are right in themselves, by their places, and says what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from connectors.settings import ConnectionSettings
from gateway.config.brokers import EMBEDDED, BrokerSettings, host_and_port
from gateway.config.lines import KeyPath
from gateway.config.lint import Finding
from gateway.config.mqtt import MqttSettings
from gateway.config.problems import did_you_mean, path_text
from gateway.config.schema import GatewaySettings
from gateway.config.secrets import is_reference
from gateway.config.sparkplug import SparkplugSettings
from gateway.publish.judging import judge
from gateway.publish.kinds import refusals
from gateway.publish.tree import Plant, expand, plant, shared
from gateway.sparkplug.names import clashes
from statemodel.engine import EquipmentSpec
from statemodel.types import UNKNOWN

#: The sections of one name by their places; None where one is wrong in itself.
Sections = Mapping[KeyPath, BrokerSettings | None]
#: Hosts no network lies before.
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


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
    yield from _tls_files(everything)
    if gateway is None:
        return
    yield from _client_ids(gateway.id, everything)
    yield from _edge_nodes(gateway.id, everything)
    specs = list(equipment)
    of = plant(gateway, connections, specs)
    yield from _topics(everything, of)
    yield from _devices(everything, of)
    yield from _states(everything, specs)


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


def _tls_files(sections: Mapping[KeyPath, BrokerSettings]) -> Iterator[Finding]:
    """Who names certificates believes that the link is protected; without TLS they would do nothing."""
    for place, settings in sections.items():
        if any(address.startswith("mqtts://") or is_reference(address) for address in settings.addresses):
            if settings.key_file is not None and settings.cert_file is None:
                yield (*place, "key_file"), "is of no use without its certificate", "set cert_file too"
            continue
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(settings, key) is None:
                continue
            if any(address != EMBEDDED for address in settings.addresses):
                reason, hint = (
                    "mqtt:// goes without TLS",
                    'write broker = "mqtts://host:8883", or take it out',
                )
            else:
                reason, hint = "the embedded broker knows no TLS", "take it out, or use another broker"
            yield (*place, key), f"is of no use: {reason}", hint


def _states(
    sections: Mapping[KeyPath, BrokerSettings], equipment: Sequence[EquipmentSpec]
) -> Iterator[Finding]:
    """States that only case tells apart: a device would have two such metrics."""
    for place, settings in sections.items():
        if not isinstance(settings, SparkplugSettings):
            continue
        models = {spec.model.name: spec.model for spec in equipment if settings.holds(spec.path)}
        for model in models.values():
            for first, second in clashes([UNKNOWN, *model.by_name]):
                yield (
                    place,
                    f'the states "{first}" and "{second}" of model "{model.name}" differ in upper and lower '
                    "case only",
                    "Sparkplug has no two metrics like that: name one otherwise",
                )


def broker_warnings(
    sections: Mapping[str, Sections], equipment: Iterable[EquipmentSpec]
) -> Iterator[Finding]:
    """What is right in itself, and should be known to whoever is responsible for it."""
    yield from _shown_by_none(sections.get("sparkplug", {}), equipment)
    for place, settings in ((place, one) for found in sections.values() for place, one in found.items()):
        if settings is None:
            continue
        if (key := _open_password(settings)) is not None:
            reason = "can be read by others on the network: mqtt:// goes without TLS"
            yield (*place, key), reason, 'write broker = "mqtts://host:8883" if the broker has TLS'
        if isinstance(settings, MqttSettings) and settings.commands is not None:
            yield from _open_to_commands((*place, "commands"), settings)
        if not isinstance(settings, SparkplugSettings):
            continue
        if "repeat" in settings.model_fields_set and settings.primary_host is None:
            hint = "set primary_host to the id of the host that must hear everything, or take it out"
            yield (*place, "repeat"), "is of no use without primary_host", hint
        if settings.commands:
            # Tags of an equipment are written by DCMD, those that no equipment is bound to by NCMD.
            topics = " and ".join(f"spBv1.0/{settings.group}/{verb}/#" for verb in ("NCMD", "DCMD"))
            reason = "lets everyone who may publish on the broker write to the machines"
            yield (
                (*place, "commands"),
                reason,
                f"let the broker allow publishing to {topics} to the host application alone",
            )


def _open_to_commands(place: KeyPath, settings: MqttSettings) -> Iterator[Finding]:
    """A broker that commands come from and that does not know who speaks, or is not alone with them."""
    for address in settings.addresses:
        url = urlsplit(address)
        if url.scheme == "mqtt" and url.hostname not in _THIS_MACHINE:
            reason = "come over the network without TLS: whoever is on it can send and change them"
            yield place, reason, 'write broker = "mqtts://host:8883"'
        if settings.user is None and settings.cert_file is None and not url.username:
            reason = "come from a broker that asks nobody who he is"
            hint = (
                "give the gateway a user there, and let the broker let the host alone publish to their topics"
            )
            yield place, reason, hint


def _shown_by_none(nodes: Sections, equipment: Iterable[EquipmentSpec]) -> Iterator[Finding]:
    """Equipment that is below no `under`: who splits a plant into nodes may forget a line."""
    sound = {place: node for place, node in nodes.items() if isinstance(node, SparkplugSettings)}
    left = [spec for spec in equipment if not any(node.holds(spec.path) for node in sound.values())]
    if left and sound:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        reason = f'leaves out "{left[0].path}"{more}: no edge node shows it'
        yield (*list(sound)[-1], "under"), reason, "add a [[sparkplug]] for it, if hosts are to see it"


def _open_password(settings: BrokerSettings) -> str | None:
    """The key of a password that travels in the clear, to another machine; None when there is none."""
    for address in settings.addresses:
        url = urlsplit(address)
        if url.scheme != "mqtt" or url.hostname in _THIS_MACHINE:
            continue
        if settings.password is not None:
            return "password"
        if url.password is not None:
            return "broker"
    return None


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
                above = {path[:end] for path in paths for end, mark in enumerate(path) if mark == "/"}
                hint = (
                    did_you_mean(settings.under.strip("/"), above)
                    or "write the first levels of the paths of equipment"
                )
                yield (*place, "under"), f'there is no equipment below "{settings.under}"', hint
        for first, second in clashes(of.tags):
            yield (
                place,
                f'the tags "{first}" and "{second}" differ in upper and lower case only',
                "Sparkplug has no two metrics like that: name one otherwise, or do not publish it",
            )
