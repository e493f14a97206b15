"""`andon topics`: the tree a configuration will have at each broker, before anything runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gateway.commands.show import out, print_json, table_of
from gateway.config.load import Loaded, load
from gateway.config.mqtt import MqttSettings
from gateway.config.sparkplug import SparkplugSettings
from gateway.publish.kinds import Rule
from gateway.publish.tree import Said, expand, plant
from gateway.sparkplug.names import Names, Verb
from statemodel.durations import format_duration


def show_topics(path: Path, *, json: bool) -> None:
    """Print every topic of a configuration; raises `ConfigurationRefused` with everything that is wrong."""
    loaded = load(path, secrets_of=())
    trees = {one.sink: topics_of(loaded, one) for one in loaded.configuration.mqtt}
    trees |= {one.sink: edge_node_topics(loaded, one) for one in loaded.configuration.sparkplug}
    if not trees and not json:
        out.print("there is no [mqtt] and no [sparkplug], so there are no topics", style="dim", markup=False)
    for sink, said in trees.items():
        if json:
            for one in said:
                print_json({"broker": sink, **_data(one)})
        else:
            if len(trees) > 1:
                out.print(Text(sink, style="bold"))
            out.print(_table(said))


def topics_of(loaded: Loaded, settings: MqttSettings) -> list[Said]:
    """What will be said to a broker; topics that several events share come once for each."""
    configuration = loaded.configuration
    of = plant(configuration.gateway, configuration.connections, loaded.equipment)
    return list(expand(settings, of))


def edge_node_topics(loaded: Loaded, settings: SparkplugSettings) -> list[Said]:
    """What an edge node will say. Nothing of it is retained, and only the will is acknowledged."""
    names = Names(settings.group, settings.edge_node_for(loaded.configuration.gateway.id))
    node = [
        Said(names.topic(verb), verb, "", Rule(qos=int(verb is Verb.NDEATH), retain=False))
        for verb in (Verb.NBIRTH, Verb.NDATA, Verb.NDEATH)
    ]
    return node + [
        Said(names.topic(verb, spec.name), verb, spec.name, Rule(qos=0, retain=False))
        for spec in loaded.equipment
        if settings.holds(spec.path)
        for verb in (Verb.DBIRTH, Verb.DDATA, Verb.DDEATH)
    ]


def _data(said: Said) -> dict[str, object]:
    kind, _, type_ = said.key.partition("/")
    return {
        "topic": said.topic,
        "kind": kind,
        "type": type_ or None,
        "about": said.about or None,
        "qos": said.rule.qos,
        "retain": said.rule.retain,
        "expiry_s": said.rule.expiry_s,
    }


def _table(said: list[Said]) -> Table:
    """One line a topic; what events share one is listed there."""
    lines: dict[tuple[str, str], tuple[Said, list[str]]] = {}
    for one in said:
        key = (one.topic, one.key)
        lines.setdefault(key, (one, []))[1].append(one.about)
    table = table_of("topic", "kind", "qos", "retained", "expiry", "about", right=("qos",))
    for one, about in lines.values():
        kind, _, type_ = one.key.partition("/")
        expiry_s = one.rule.expiry_s
        table.add_row(
            Text(one.topic),
            f"{kind} {type_}".strip(),
            str(one.rule.qos),
            "yes" if one.rule.retain else "no",
            "-" if expiry_s is None else format_duration(timedelta(seconds=expiry_s)),
            Text(", ".join(about)),
        )
    return table
