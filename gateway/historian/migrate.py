"""Bringing a database to the shape this version needs: numbered migrations, then TimescaleDB if there is one.

Migrations run in one transaction under an advisory lock, so that several gateways may start at once and a
crash leaves the old shape or the new one. What TimescaleDB adds changes no table and no query.
"""

from __future__ import annotations

from importlib.resources import files

import asyncpg
import msgspec
import structlog

from gateway.errors import SinkRefused
from gateway.historian.failures import sqlstate
from gateway.historian.values import ServerInfo
from gateway.journal.sqlfile import read_sql, read_statements

log = structlog.get_logger(__name__)

SQL = read_statements(__package__, "sql/queries.sql")
_VERSION_MIN = 150_000


class Migration(msgspec.Struct, frozen=True):
    """One step. Its file is `NUMBER_name.sql`."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All steps in order.

    Raises:
        ValueError: the numbers have a gap.
    """
    folder = files(__package__).joinpath("sql/migrations")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    steps = [
        Migration(int(name[:4]), name[5:-4], read_sql(__package__, f"sql/migrations/{name}"))
        for name in names
    ]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError(f"the migrations {names} are not numbered from 1 without a gap")
    return steps


async def inspect(connection: asyncpg.Connection[asyncpg.Record]) -> ServerInfo:
    """What server this is.

    Raises:
        SinkRefused: it is too old.
        asyncpg.ReadOnlySQLTransactionError: it takes no writes.
    """
    row = await connection.fetchrow(SQL["server"])
    assert row is not None
    info = ServerInfo(
        version=row["version"].split()[0],
        version_number=row["version_number"],
        database=row["database"],
        timescale=row["timescale"] or "",
        license=row["license"] or "",
        durable=row["durable"],
    )
    if info.version_number < _VERSION_MIN:
        raise SinkRefused(
            f"the database runs PostgreSQL {info.version}; the gateway needs 15 or later",
            hint="upgrade the server",
        )
    if row["read_only"]:
        raise asyncpg.ReadOnlySQLTransactionError("the server takes no writes")
    return info


async def migrate(connection: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    """Apply what is missing; the numbers of what was applied.

    Raises:
        SinkRefused: a newer version of the gateway has been here.
    """
    steps = migrations()
    await connection.execute("BEGIN")
    await connection.execute(SQL["lock_migrations"])
    # Asked first, because a gateway may use a schema it has no right to make.
    if not await connection.fetchval(SQL["have_schema"]):
        await connection.execute(SQL["schema"])
    if not await connection.fetchval(SQL["have_migrations"]):
        await connection.execute(SQL["migrations_table"])
    applied = {row["number"] for row in await connection.fetch(SQL["applied_migrations"])}
    if newer := sorted(applied - {step.number for step in steps}):
        await connection.execute("ROLLBACK")
        raise SinkRefused(
            f"the database was changed by a newer version of the gateway (migration {newer[-1]}); "
            f"this one knows {len(steps)}",
            hint="run the newer version, or give this gateway another database",
        )
    missing = [step for step in steps if step.number not in applied]
    for step in missing:
        await connection.execute(step.sql)
        await connection.execute(SQL["note_migration"], step.number, step.name)
    await connection.execute("COMMIT")
    return [step.number for step in missing]


async def use_timescale(connection: asyncpg.Connection[asyncpg.Record], info: ServerInfo) -> ServerInfo:
    """Make the extension and the hypertable where the server allows; say once where it does not."""
    if not info.timescale and await _extend(connection):
        info = await inspect(connection)
    if not info.timescale:
        log.warning(
            "the database has no TimescaleDB: samples go to one plain table, which serves smaller plants",
            server=str(info),
        )
        return info
    if not await connection.fetchval(SQL["is_hypertable"]):
        await connection.execute(SQL["make_hypertable"])
        if info.policies:
            await connection.execute(SQL["compress"])
            await connection.execute(SQL["compress_later"])
    return info


async def _extend(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Create the extension if the server has it loaded. Where it is not, trying would end the connection."""
    try:
        if "timescaledb" not in await connection.fetchval(SQL["preloaded"]):
            return False
        await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except asyncpg.PostgresError as error:
        if sqlstate(error)[:2] not in ("42", "0A", "58"):
            raise
        log.warning("the extension TimescaleDB cannot be created", reason=str(error))
        return False
    return True
