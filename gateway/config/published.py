"""Which tags are published, and with which equipment: `publish = true`, or listed by an equipment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from connectors.settings import ConnectionSettings, TagSettings
from statemodel.engine import EquipmentSpec


class Published(NamedTuple):
    """A tag that others are told, and the equipment it is told with; none: it is told of the site."""

    connection: ConnectionSettings
    tag: TagSettings
    equipment: tuple[EquipmentSpec, ...]


def published(
    connections: Iterable[ConnectionSettings], equipment: Iterable[EquipmentSpec]
) -> Mapping[str, Published]:
    """Every published tag by its full id, in the order of the configuration."""
    shown: dict[str, list[EquipmentSpec]] = {}
    listed: set[str] = set()
    for spec in equipment:
        for id_ in spec.shown:
            shown.setdefault(id_, []).append(spec)
        listed.update(spec.counters.values(), spec.tags)
    return {
        id_: Published(connection, tag, tuple(shown.get(id_, ())))
        for connection in connections
        for tag in connection.tags()
        for id_ in [connection.tag_id(tag)]
        if tag.publish or id_ in listed
    }
