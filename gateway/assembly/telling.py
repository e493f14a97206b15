"""Which sinks are told otherwise under another configuration, though their own settings are the same. Pure.

A publisher names equipment, tags and connections; where any of these differ for it, another takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config.load import Loaded
from gateway.publish.wiring import told_by_publisher
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
    """The sinks that stay as they are configured, and have to connect anew all the same."""
    before = told_by_brokers(old, None, version="", stream="")
    after = told_by_brokers(new, None, version="", stream="")
    same = {
        one.sink
        for field in ("mqtt", "sparkplug")
        for one in getattr(new.configuration, field)
        if one in getattr(old.configuration, field)
    }
    return [name for name, told in after.items() if name in same and before[name] != told]
