"""Events into their tables, a column at a time; those that are there already stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from gateway.historian.migrate import SQL
from gateway.historian.rows import clean, event_rows
from statemodel.records import Recorded


async def insert_events(
    connection: asyncpg.Connection[asyncpg.Record], gateway: str, stream: str, events: Sequence[Recorded]
) -> None:
    """Events into their tables; those that are there already stay as they are.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    rows = event_rows(events)
    for name, columns in (
        ("insert_transitions", rows.transitions),
        ("insert_rejections", rows.rejections),
        ("insert_source_events", rows.source_events),
        ("insert_device_events", rows.device_events),
        ("insert_corrections", rows.corrections),
        ("insert_commands", rows.commands),
        ("insert_audit_anchors", rows.audit_anchors),
    ):
        if columns:
            await connection.execute(SQL[name], gateway, stream, *columns)


async def meet_equipment(
    connection: asyncpg.Connection[asyncpg.Record],
    gateway: str,
    events: Sequence[Recorded],
    known: Collection[str],
) -> None:
    """Rows for equipment that has left the configuration but is still on its way here.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    met = {
        recorded.equipment: recorded
        for recorded in events
        if recorded.equipment and recorded.equipment not in known
    }
    if met:
        await connection.execute(
            SQL["meet_equipment"],
            gateway,
            [clean(name) for name in met],
            [clean(recorded.path) for recorded in met.values()],
            [clean(getattr(recorded.event, "model", "")) for recorded in met.values()],
        )
