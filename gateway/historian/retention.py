"""Old samples go, by the gateway's own hand: TimescaleDB drops chunks where the database is ours alone.

Transitions stay for ever. Deletes are cut into slices of time, so that none of them is long.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from gateway.historian.migrate import SQL
from gateway.historian.values import ServerInfo

_SLICE = timedelta(hours=6)


async def delete_old_samples(
    connection: asyncpg.Connection[asyncpg.Record], info: ServerInfo, gateway: str, before: datetime
) -> int:
    """Delete this gateway's samples older than an instant; says how many, or how many chunks were dropped.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    if info.timescale and await connection.fetchval(SQL["only_gateway"], gateway):
        dropped: int = await connection.fetchval(SQL["drop_old_chunks"], before)
        return dropped
    deleted = 0
    for row in await connection.fetch(SQL["tags_of"], gateway):
        while True:
            oldest: datetime | None = await connection.fetchval(SQL["oldest_sample"], row["tag_id"])
            if oldest is None or oldest >= before:
                break
            done = await connection.execute(
                SQL["delete_samples"], row["tag_id"], min(oldest + _SLICE, before)
            )
            deleted += int(done.split()[-1])
    return deleted
