"""Bringing a database to the shape this version needs, or back: numbered migrations, then TimescaleDB.

Each migration is one transaction under an advisory lock, so that several gateways may start at once and a
crash leaves the shape before it or the one after. How to take a migration back is written into the database
with it, so that an older version finds the way too. What TimescaleDB adds changes no table and no query.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from importlib.resources import files

import asyncpg
import msgspec
import structlog

from gateway.config.schema import HistorianSettings
from gateway.errors import SinkRefused
from gateway.historian.failures import sqlstate
from gateway.historian.values import ServerInfo
from gateway.journal.sqlfile import read_sql, read_statements

log = structlog.get_logger(__name__)

SQL = read_statements(__package__, "sql/queries.sql")
_VERSION_MIN = 150_000
#: Longest that one migration may take; the journal keeps everything meanwhile.
_STEP_S = 3600.0


class Migration(msgspec.Struct, frozen=True):
    """One step. Its files are `NUMBER_name.sql` and, to take it back, `NUMBER_name.down.sql`."""

    number: int
    name: str
    sql: str
    down: str


class Applied(msgspec.Struct, frozen=True):
    """A step the database has seen. `version` is that of the gateway that made it and `down` takes it back;
    they are empty where that was not written down."""

    number: int
    name: str
    version: str
    down: str


def migrations() -> list[Migration]:
    """All steps in order.

    Raises:
        ValueError: the numbers have a gap, or a step cannot be taken back.
    """
    folder = files(__package__).joinpath("sql/migrations")
    names = {item.name for item in folder.iterdir() if item.name.endswith(".sql")}
    ways_back = {name for name in names if name.endswith(".down.sql")}
    steps = [
        Migration(
            int(name[:4]),
            name[5:-4],
            read_sql(__package__, f"sql/migrations/{name}"),
            read_sql(__package__, f"sql/migrations/{name[:-4]}.down.sql"),
        )
        for name in sorted(names - ways_back)
    ]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError(f"the migrations {sorted(names)} are not numbered from 1 without a gap")
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


async def applied(connection: asyncpg.Connection[asyncpg.Record]) -> list[Applied]:
    """The steps the database has seen, in order; none in an empty database."""
    if not await connection.fetchval(SQL["have_migrations"]):
        return []
    kept = await connection.fetchval(SQL["keeps_ways_back"])
    rows = await connection.fetch(SQL["applied_with_ways_back" if kept else "applied_migrations"])
    return [Applied(row["number"], row["name"], row["version"], row["down"]) for row in rows]


async def migrate(connection: asyncpg.Connection[asyncpg.Record], to: int | None = None) -> list[int]:
    """Bring the database to a step: up, or down by what takes a step back; to the newest when not said.

    Returns:
        The numbers of the steps that were made, or taken back, in that order.

    Raises:
        SinkRefused: a newer version of the gateway has been here and the newest is asked for; or nobody here
            knows how to take a step back.
        ValueError: there is no step of this number.
    """
    steps = migrations()
    if to is not None and not 0 <= to <= len(steps):
        raise ValueError(f"there is no migration {to}: they go from 0 (nothing at all) to {len(steps)}")
    done: list[int] = []
    while (number := await _one_step(connection, steps, to)) is not None:
        done.append(number)
    return done


async def _one_step(
    connection: asyncpg.Connection[asyncpg.Record], steps: Sequence[Migration], to: int | None
) -> int | None:
    """Make or take back one step in a transaction of its own; None when there is nothing more to do."""
    async with connection.transaction():
        await connection.execute(SQL["lock_migrations"])
        # Asked first, because a gateway may use a schema it has no right to make.
        if not await connection.fetchval(SQL["have_schema"]):
            await connection.execute(SQL["schema"])
        if not await connection.fetchval(SQL["have_migrations"]):
            await connection.execute(SQL["migrations_table"])
        seen = await applied(connection)
        newer = [step for step in seen if step.number > len(steps)]
        if to is None and newer:
            raise _too_new(newer, len(steps))
        if to is not None and seen and seen[-1].number > to:
            return await _take_back(connection, seen[-1], steps)
        numbers = {step.number for step in seen}
        missing = [step for step in steps[:to] if step.number not in numbers]
        if not missing:
            return None
        await connection.execute(missing[0].sql, timeout=_STEP_S)
        await connection.execute(SQL["note_migration"], missing[0].number, missing[0].name)
        if await connection.fetchval(SQL["keeps_ways_back"]):
            known = steps[: missing[0].number]
            await connection.execute(
                SQL["note_ways_back"],
                [step.number for step in known],
                [step.down for step in known],
                missing[0].number,
                version("andon-gateway"),
            )
        return missing[0].number


async def _take_back(
    connection: asyncpg.Connection[asyncpg.Record], last: Applied, steps: Sequence[Migration]
) -> int:
    down = steps[last.number - 1].down if last.number <= len(steps) else last.down
    if not down:
        raise SinkRefused(
            f"migration {last.number} ({last.name}) is not known here, and how to take it back is not "
            "written in the database",
            hint="take it back with the version of Andon that made it",
        )
    await connection.execute(down, timeout=_STEP_S)
    if await connection.fetchval(SQL["have_migrations"]):
        await connection.execute(SQL["forget_migration"], last.number)
    return last.number


def _too_new(newer: Sequence[Applied], known: int) -> SinkRefused:
    """What to say to whom meets a database of a newer version."""
    who = f", {newer[-1].version}," if newer[-1].version else ""
    other = f"version {newer[-1].version}" if newer[-1].version else "that version"
    mine = " (this version can do it as well)" if all(step.down for step in newer) else ""
    return SinkRefused(
        f"the database was changed by a newer version of the gateway{who} (migration {newer[-1].number}); "
        f"this one, {version('andon-gateway')}, knows {known}",
        hint=f"run {other}, use another database, or stop every gateway on this one and take it back: "
        f"`andon database migrate CONFIG --to {known}` of {other}{mine}",
    )


async def use_timescale(
    connection: asyncpg.Connection[asyncpg.Record], info: ServerInfo, settings: HistorianSettings
) -> ServerInfo:
    """Make the extension and the hypertable where the server allows, and have old chunks compressed where its
    licence does; say once where it has none of it."""
    if not info.timescale and await _extend(connection):
        info = await inspect(connection)
    if not info.timescale:
        log.warning(
            "the database has no TimescaleDB: samples go to one plain table, which serves smaller plants",
            server=str(info),
        )
        return info
    if not await connection.fetchval(SQL["is_hypertable"]):
        await connection.execute(SQL["make_hypertable"], settings.chunk, timeout=_STEP_S)
    elif await connection.fetchval(SQL["chunk_interval"]) != settings.chunk:
        await connection.execute(SQL["set_chunk_interval"], settings.chunk)
    if info.policies:
        await _compress(connection, settings.compress_after)
    return info


async def _compress(connection: asyncpg.Connection[asyncpg.Record], after: timedelta) -> None:
    """Have chunks compressed that lie so far back; also in a database that once had no licence for it."""
    if not await connection.fetchval(SQL["is_compressed"]):
        await connection.execute(SQL["compress"])
    set_to: timedelta | None = await connection.fetchval(SQL["compressed_after"])
    if set_to != after:
        if set_to is not None:
            await connection.execute(SQL["compress_no_more"])
        await connection.execute(SQL["compress_later"], after)


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
