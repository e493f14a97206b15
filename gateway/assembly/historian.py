"""The database: the embedded server where one is asked for, and the sink that writes history."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from connectors.base import Clock
from gateway.assembly.addresses import Addresses
from gateway.assembly.record import Record
from gateway.config.load import Loaded
from gateway.embedded_postgres import EmbeddedPostgres
from gateway.historian.historian import Historian
from gateway.historian.values import EquipmentMeta, TagMeta


async def build_historian(
    loaded: Loaded, record: Record, clock: Clock, addresses: Addresses, stack: AsyncExitStack
) -> Historian | None:
    """The historian, not connected yet; None without `[historian]`. `stack` stops an embedded server.

    Raises:
        StartFailed: the embedded server does not start.
    """
    settings = loaded.configuration.historian
    if settings is None:
        return None
    dsn = settings.dsn
    if dsn == "embedded":
        server = EmbeddedPostgres(loaded.data_dir)
        dsn = await server.start()
        stack.push_async_callback(server.stop)
        addresses.psql = server.psql_hint
    addresses.database = dsn
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
