"""The sink that writes history, and what it is told of tags and equipment."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.config.load import Loaded
from gateway.historian.historian import Historian
from gateway.historian.values import EquipmentMeta, TagMeta


def build_historian(loaded: Loaded, record: Record, clock: Clock, dsn: str) -> Historian | None:
    """The historian, not connected yet; None without `[historian]`."""
    settings = loaded.configuration.historian
    if settings is None:
        return None
    return Historian(
        dsn,
        journal=record.journal,
        gateway=loaded.configuration.gateway.id,
        settings=settings,
        clock=clock,
        tags=tags_of(loaded),
        equipment=equipment_of(loaded),
        deliveries=record.accounts,
    )


def tags_of(loaded: Loaded) -> Mapping[str, TagMeta]:
    """What the database is told of every tag, by its full id."""
    return {
        connection.tag_id(tag): TagMeta(connection.name, tag.name, tag.unit)
        for connection in loaded.configuration.connections
        for tag in connection.tags()
    }


def equipment_of(loaded: Loaded) -> Mapping[str, EquipmentMeta]:
    """What the database is told of every equipment, by its name."""
    return {spec.name: EquipmentMeta(spec.path, spec.model.name) for spec in loaded.equipment}
