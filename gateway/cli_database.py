"""`andon database`: the shape of the database, what is in it, and rows it would not take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gateway.cli_words import Config, Json

database = typer.Typer(
    help="The database of a configuration, whether its gateway runs or not.", no_args_is_help=True
)


@database.command("status")
def database_status(config: Config, json: Json = False) -> None:
    """Server and licence, migrations, sizes, how far each journal has come, what waits."""
    from gateway.commands.database import show_database

    show_database(config, json=json)


@database.command("migrate")
def database_migrate(
    config: Config,
    to: Annotated[
        int | None, typer.Option("--to", help="Number of the migration to end at.", show_default="the newest")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take back without asking, whatever is lost.")] = False,
    json: Json = False,
) -> None:
    """Bring the database to this version's shape, or back to that of an older one."""
    from gateway.commands.database import migrate_database

    migrate_database(config, to=to, yes=yes, json=json)


@database.command("set-aside")
def database_set_aside(
    action: Annotated[Literal["list", "retry", "drop"], typer.Argument(show_default=False)],
    config: Config,
    id_: Annotated[
        list[int] | None, typer.Option("--id", help="Only this row; may be given again.", show_default="all")
    ] = None,
    json: Json = False,
) -> None:
    """Rows the database would not take: list them, write them again, or leave them at that."""
    from gateway.commands.database import drop_rows, list_rows, retry_rows

    ids = id_ or None
    {"list": list_rows, "retry": retry_rows, "drop": drop_rows}[action](config, ids, json=json)
