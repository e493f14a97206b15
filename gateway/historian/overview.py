"""What a database holds, for who looks after it: server, shape, sizes, cursors, what waits. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from gateway.historian.migrate import SQL, Applied, Migration, applied, inspect, migrations
from gateway.historian.values import ServerInfo

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Step(msgspec.Struct, frozen=True):
    """A migration: applied, not yet, or of a newer version (`known` is false)."""

    number: int
    name: str
    applied: bool
    known: bool
    version: str


class TableSize(msgspec.Struct, frozen=True):
    """A table with its indexes and chunks. `rows` is what the server's statistics say, None when nothing."""

    table: str
    bytes: int
    rows: int | None


class Chunks(msgspec.Struct, frozen=True):
    """The chunks of `sample`, how many of them are compressed, how much time one spans."""

    count: int
    compressed: int
    span_s: float
    compress_after: str | None


class CursorRow(msgspec.Struct, frozen=True):
    """How far the database has a journal."""

    gateway: str
    stream: str
    seq: int
    batch: int
    moved_at: datetime


class GatewayRow(msgspec.Struct, frozen=True):
    """One gateway: tags, rows set aside and left, hours to be rolled up, and what retention has done."""

    gateway: str
    tags: int
    set_aside: int
    dropped: int
    hours_due: int
    samples_from: datetime | None
    samples_deleted: int


class Overview(msgspec.Struct, frozen=True):
    """All of it. `connected` are the programs of Andon that hold a connection."""

    server: ServerInfo
    migrations: Sequence[Step]
    bytes: int
    tables: Sequence[TableSize]
    chunks: Chunks | None
    cursors: Sequence[CursorRow]
    gateways: Sequence[GatewayRow]
    connected: Sequence[str]


async def overview(connection: Connection) -> Overview:
    """Look at a database, of whatever migration.

    Raises:
        SinkRefused, asyncpg.PostgresError, OSError: it cannot be looked at.
    """
    info = await inspect(connection)
    known, seen = migrations(), await applied(connection)
    tables = await connection.fetch(SQL["table_sizes"])
    has_hours = any(row["table"] == "hour_due" for row in tables)
    chunks = None
    if info.timescale and seen and await connection.fetchval(SQL["is_hypertable"]):
        chunks = await _chunks(connection, info)
    cursors = await connection.fetch(SQL["all_cursors"]) if seen else []
    gateways = await connection.fetch(SQL["all_gateways"]) if has_hours else []
    return Overview(
        info,
        _steps(known, seen),
        await connection.fetchval(SQL["database_size"]),
        [TableSize(**row) for row in tables],
        chunks,
        [CursorRow(**{**row, "stream": str(row["stream"])}) for row in cursors],
        [GatewayRow(**row) for row in gateways],
        await in_use(connection),
    )


async def in_use(connection: Connection) -> Sequence[str]:
    """The gateways that are connected, as they call themselves."""
    return [row["name"] for row in await connection.fetch(SQL["connected_gateways"])]


async def _chunks(connection: Connection, info: ServerInfo) -> Chunks:
    row = await connection.fetchrow(SQL["chunks"])
    assert row is not None
    span = await connection.fetchval(SQL["chunk_interval"])
    after = await connection.fetchval(SQL["compressed_after"]) if info.policies else None
    return Chunks(
        row["count"], row["compressed"], span.total_seconds(), str(after) if after is not None else None
    )


def _steps(known: Sequence[Migration], seen: Sequence[Applied]) -> list[Step]:
    by_number = {step.number: step for step in seen}
    steps = [
        Step(
            step.number,
            step.name,
            step.number in by_number,
            True,
            by_number[step.number].version if step.number in by_number else "",
        )
        for step in known
    ]
    return steps + [
        Step(step.number, step.name, True, False, step.version) for step in seen if step.number > len(known)
    ]
