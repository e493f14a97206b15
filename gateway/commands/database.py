"""`andon database status`, `migrate` and `set-aside`: asks the database itself, whoever else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
from rich.table import Table

from gateway import log
from gateway.commands.show import age_text, out, print_json, size_text, table_of
from gateway.commands.when import WrongArgument
from gateway.config.load import Loaded, load
from gateway.config.schema import HistorianSettings
from gateway.errors import GatewayError, SinkRefused, SinkUnavailable
from gateway.historian.aside import Retried, SetAside, drop, retry, set_aside_rows
from gateway.historian.connection import connect, place_of
from gateway.historian.failures import DATABASE_ERRORS, translate
from gateway.historian.migrate import applied, inspect, migrate, migrations
from gateway.historian.overview import Overview, in_use, overview
from gateway.snapshots.database import has_database, server_of

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

R = TypeVar("R")
#: Rows set aside that are shown to people; `--json` has all.
_ROWS_MAX = 50
#: What taking a migration back loses, by the name of it; of others, what they hold.
_LOSES = {
    "first_shape": "the whole history",
    "device_events": "",  # set aside, word for word
    "ways_back": "",
    "corrections": "",  # set aside, word for word
    "ranges": "which stretches came late",
    "hours": "figures by the hour, also of samples that have been deleted",
    "gateway_runs": "which processes have written",
    "moves_by_index": "",
    "commands": "",  # set aside, word for word
}


class RowsRefused(GatewayError):
    """Rows were tried again and refused again."""


# Status -----------------------------------------------------------------------------------------------------


def show_database(config: Path, *, json: bool) -> None:
    """Print what the database of a configuration is and holds."""
    loaded = load(config)
    found = _asked(loaded, lambda connection: overview(connection))
    if json:
        print_json(found)
        return
    dsn = _settings(loaded).dsn
    _show(found, f"embedded, in {loaded.data_dir}" if dsn == "embedded" else place_of(dsn))


def _show(found: Overview, place: str) -> None:
    server = found.server
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("database", f"{place}, {size_text(found.bytes)}")
    facts.add_row("server", str(server))
    facts.add_row("old chunks", _compression(found))
    facts.add_row("migrations", _migrations(found))
    facts.add_row("connected", ", ".join(found.connected) or "no gateway")
    out.print(facts)
    if found.tables:
        out.print()
        out.print(
            _table(
                ("table", "size", "rows, about"),
                [
                    (t.table, size_text(t.bytes), "-" if t.rows is None else f"{t.rows:,}")
                    for t in found.tables
                ],
            )
        )
    if found.cursors:
        now = datetime.now(UTC)
        rows = [
            (c.gateway, c.stream, f"{c.seq:,}", f"{c.batch:,}", age_text((now - c.moved_at).total_seconds()))
            for c in found.cursors
        ]
        out.print()
        out.print(_table(("gateway", "journal", "events up to", "batches up to", "moved ago"), rows))
    if found.gateways:
        keeping = [
            (
                g.gateway,
                f"{g.tags:,}",
                f"{g.set_aside:,}",
                f"{g.hours_due:,}",
                "the first" if g.samples_from is None else f"{g.samples_from:%Y-%m-%d %H:%M} UTC",
                f"{g.samples_deleted:,}",
            )
            for g in found.gateways
        ]
        out.print()
        heads = ("gateway", "tags", "rows set aside", "hours to roll up", "samples since", "samples deleted")
        out.print(_table(heads, keeping))


def _compression(found: Overview) -> str:
    chunks = found.chunks
    if chunks is None:
        return "none: samples are one plain table"
    said = f"{chunks.count} chunks of {age_text(chunks.span_s)}"
    if chunks.compress_after is None:
        return f"{said}; compression is not in this licence ({found.server.license or 'unknown'})"
    return f"{said}, {chunks.compressed} compressed (after {chunks.compress_after})"


def _migrations(found: Overview) -> str:
    seen = [step for step in found.migrations if step.applied]
    said = f"{len(seen)} of {sum(step.known for step in found.migrations)}"
    newer = [step for step in found.migrations if not step.known]
    if newer:
        who = f", made by {newer[-1].version}" if newer[-1].version else ""
        return f"{len(seen)}, of which this version knows {len(seen) - len(newer)}{who}"
    missing = [f"{step.number} {step.name}" for step in found.migrations if not step.applied]
    return f"{said}; missing: {', '.join(missing)}" if missing else said


# Migrations -------------------------------------------------------------------------------------------------


def migrate_database(config: Path, *, to: int | None, yes: bool, json: bool) -> None:
    """Bring the database up, or down, to a migration.

    Raises:
        WrongArgument: there is no such migration, a gateway is connected, or what is lost was not agreed to.
    """
    loaded = load(config)
    newest = len(migrations())
    if to is not None and not 0 <= to <= newest:
        raise WrongArgument(
            f"--to: there is no migration {to}", hint=f"they go from 0 (nothing at all) to {newest}"
        )

    async def work(connection: Connection) -> tuple[int, list[int]]:
        await inspect(connection)
        seen = await applied(connection)
        at = seen[-1].number if seen else 0
        back = [step for step in seen if to is not None and step.number > to]
        if back:
            if users := await in_use(connection):
                raise WrongArgument(
                    f"the database is in use: {', '.join(users)}",
                    hint="stop every gateway on it first; one of this version would migrate it up again",
                )
            lost = "; ".join(filter(None, (_LOSES.get(s.name, f"what is in {s.name}") for s in back)))
            if lost and not yes:
                raise WrongArgument(
                    f"taking back {', '.join(str(step.number) for step in back)} loses {lost}",
                    hint="make a backup of the database first (docs/database.md), then add --yes",
                )
        return at, await migrate(connection, to)

    before, done = _asked(loaded, work)
    if json:
        print_json({"before": before, "done": done})
    elif not done:
        out.print(f"the database is at migration {before}; nothing to do")
    else:
        went = "taken back" if to is not None and to < before else "made"
        out.print(f"{went}: {', '.join(str(number) for number in done)}")


# Rows set aside ---------------------------------------------------------------------------------------------


def list_rows(config: Path, ids: Sequence[int] | None, *, json: bool) -> None:
    """Print the rows that wait, or those asked for."""
    loaded = load(config)
    found = _asked(loaded, lambda c: _chosen(c, loaded, ids))
    if json:
        for row in found:
            print_json(row)
        return
    if not found:
        out.print("no row is set aside")
        return
    rows = [
        (
            str(r.id),
            r.type or r.kind,
            f"{r.numbering} {r.first:,}",
            f"{r.set_aside_at:%Y-%m-%d %H:%M}",
            str(r.tries),
            r.reason,
        )
        for r in found[:_ROWS_MAX]
    ]
    out.print(_table(("id", "what", "number", "since (UTC)", "tries", "reason"), rows, right=()))
    if (more := len(found) - _ROWS_MAX) > 0:
        out.print(f"and {more:,} more, which --json lists", style="dim")


def retry_rows(config: Path, ids: Sequence[int] | None, *, json: bool) -> None:
    """Write rows again.

    Raises:
        RowsRefused: some were refused again.
    """
    loaded = load(config)
    by_source = {
        connection.name: connection.time == "source" for connection in loaded.configuration.connections
    }

    async def work(connection: Connection) -> Retried:
        rows = await _chosen(connection, loaded, ids)
        chosen = [row.id for row in rows if row.kind != "missing"]
        return await retry(
            connection, _gateway(loaded), chosen, lambda tag: by_source.get(tag.partition("/")[0], False)
        )

    done = _asked(loaded, work)
    if json:
        print_json(done)
    else:
        out.print(f"{len(done.written):,} written, {len(done.refused):,} refused again")
    if done.refused:
        raise RowsRefused(
            f"{len(done.refused):,} rows are still refused",
            hint="`andon database set-aside list` says why; look at constraints and triggers in `andon`",
        )


def drop_rows(config: Path, ids: Sequence[int] | None, *, json: bool) -> None:
    """Leave rows at that; they stay on record and are no longer told as waiting.

    Raises:
        WrongArgument: it is not said which.
    """
    if not ids:
        raise WrongArgument("drop: it is not said which rows", hint="give --id, once for each row")
    loaded = load(config)

    async def work(connection: Connection) -> Sequence[int]:
        await _look_for_tables(connection, loaded)
        return await drop(connection, _gateway(loaded), ids)

    done = _asked(loaded, work)
    if json:
        print_json({"dropped": done})
    else:
        out.print(f"{len(done):,} left at that; the rows stay in andon.set_aside")


async def _look_for_tables(connection: Connection, loaded: Loaded) -> None:
    if not await applied(connection):
        raise WrongArgument(
            "the database has no tables of Andon yet",
            hint=f"the gateway makes them when it connects, or `andon database migrate {loaded.path}`",
        )


async def _chosen(connection: Connection, loaded: Loaded, ids: Sequence[int] | None) -> Sequence[SetAside]:
    await _look_for_tables(connection, loaded)
    rows = await set_aside_rows(connection, _gateway(loaded), dropped=ids is not None)
    if ids is None:
        return rows
    if unknown := sorted(set(ids) - {row.id for row in rows}):
        raise WrongArgument(
            f"--id: no row {unknown[0]} is set aside", hint="`andon database set-aside list` has the numbers"
        )
    return [row for row in rows if row.id in ids]


# Asking -----------------------------------------------------------------------------------------------------


def _gateway(loaded: Loaded) -> str:
    return loaded.configuration.gateway.id


def _settings(loaded: Loaded) -> HistorianSettings:
    settings = loaded.configuration.historian
    if settings is None:
        raise WrongArgument(
            "the configuration has no database", hint="add a section [historian] with its address"
        )
    return settings


@asynccontextmanager
async def _address(loaded: Loaded) -> AsyncIterator[str]:
    """Where the database is; an embedded one whose gateway does not run is started for the time being."""
    settings = _settings(loaded)
    if settings.dsn != "embedded":
        yield settings.dsn
        return
    if not has_database(loaded.data_dir):
        raise WrongArgument(
            f"there is no embedded database in {loaded.data_dir} yet",
            hint="the gateway makes it when it starts for the first time",
        )
    log.configure("warning")
    async with server_of(loaded.data_dir) as dsn:
        yield dsn


def _asked(loaded: Loaded, work: Callable[[Connection], Awaitable[R]]) -> R:
    """What some work with a connection of its own gives.

    Raises:
        SinkUnavailable, SinkRefused: the database is away, or will not have us.
        StartFailed: the embedded one does not start.
    """

    async def run() -> R:
        async with _address(loaded) as dsn:
            try:
                connection = await connect(dsn, _settings(loaded), "andon database")
            except (*DATABASE_ERRORS, ValueError) as error:
                raise translate(error, place_of(dsn)) from error
            try:
                return await work(connection)
            except (SinkUnavailable, SinkRefused):
                raise
            except DATABASE_ERRORS as error:
                raise translate(error, place_of(dsn)) from error
            finally:
                connection.terminate()

    return asyncio.run(run())


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] | None = None
) -> Table:
    """A table whose first column is text and whose others are numbers, unless said."""
    table = table_of(*heads, right=heads[1:] if right is None else right)
    for row in rows:
        table.add_row(*row)
    return table
