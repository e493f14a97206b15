"""What becomes of sinks that tell brokers under another configuration: told otherwise, connected anew. Pure.

A publisher names equipment, tags and connections; where any of these differ for it, another takes its place,
and goes on with its connection where it would say the same when connecting.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.config.load import Loaded
from gateway.mqtt.handover import KeepsItsLink
from gateway.publish.wiring import connection_of_publisher, told_by_publisher
from gateway.sparkplug.edge_node import EdgeNode
from gateway.sparkplug.wiring import told_by_node


def told_by_brokers(loaded: Loaded, port: int | None, *, version: str, stream: str) -> dict[str, object]:
    """What each publisher and edge node depends on, by the name of the sink."""
    settings = loaded.configuration
    told = {one.sink: told_by_publisher(one, loaded, port) for one in settings.mqtt}
    told |= {
        one.sink: told_by_node(one, loaded, version=version, stream=stream, embedded_port=port)
        for one in settings.sparkplug
    }
    return told


def told_otherwise(old: Loaded, new: Loaded) -> Sequence[str]:
    """The sinks that stay as they are configured, and have to tell other things all the same."""
    before = told_by_brokers(old, None, version="", stream="")
    after = told_by_brokers(new, None, version="", stream="")
    same = {
        one.sink
        for field in ("mqtt", "sparkplug")
        for one in getattr(new.configuration, field)
        if one in getattr(old.configuration, field)
    }
    return [name for name, told in after.items() if name in same and before[name] != told]


def connected_anew(old: Loaded, new: Loaded) -> Collection[str]:
    """The sinks of both that cannot go on with their connection, if they are exchanged at all."""
    before, after = _connections(old), _connections(new)
    kept = {name for name, said in after.items() if before.get(name) == said}
    return [name for name in before if name in after and name not in kept]


def _connections(loaded: Loaded) -> dict[str, object]:
    """What each publisher and edge node says when it connects, by the name of the sink."""
    gateway = loaded.configuration.gateway
    found = {one.sink: connection_of_publisher(one, loaded, None) for one in loaded.configuration.mqtt}
    for node in loaded.configuration.sparkplug:
        keeps = issubclass(EdgeNode, KeepsItsLink)
        found[node.sink] = (node, gateway.id) if keeps else object()
    return found
