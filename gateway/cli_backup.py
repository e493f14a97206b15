"""Verbs that keep, bring back and remove: `andon backup`, `andon restore`, `andon snapshot`, `andon wipe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli_words import Config, Json

Key = Annotated[
    str | None,
    typer.Option("--key", help="Key of an encrypted backup, as env:NAME or file:PATH."),
]
File = Annotated[Path, typer.Argument(help="A backup.", show_default=False)]


class MakeUnlessNamed(TyperGroup):
    """`andon backup CONFIG` is `andon backup make CONFIG`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb; a word that is none is what a backup is made of."""
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


backup = typer.Typer(
    cls=MakeUnlessNamed,
    help="A whole gateway as one file, whether it runs or not. `make` may be left out.",
    no_args_is_help=True,
)


@backup.command("make")
def backup_make(
    config: Config,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File, or folder, to write to.", show_default="backups, beside the data"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="Encrypt with this key: env:NAME or file:PATH.",
            show_default="that of [gateway.snapshots]",
        ),
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Take in private keys and files that hold passwords.")
    ] = False,
    with_database: Annotated[
        bool,
        typer.Option(
            "--with-database/--without-database", help="Take in the embedded database, if there is one."
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Back up configuration, journal, snapshots and certificates; read back and verified."""
    from gateway.commands.backup import make_backup

    make_backup(config, to=to, key=key, with_secrets=with_secrets, with_database=with_database, json=json)


@backup.command("list")
def backup_list(
    place: Annotated[
        Path, typer.Argument(help="A folder, or a configuration file (TOML).", show_default=False)
    ],
    json: Json = False,
) -> None:
    """The backups there are, oldest first."""
    from gateway.commands.backup import list_backups

    list_backups(place, json=json)


@backup.command("verify")
def backup_verify(file: File, key: Key = None, json: Json = False) -> None:
    """Read a backup to its end and judge every file in it; exit code 3 when one is not what was written."""
    from gateway.commands.backup import verify_backup

    verify_backup(file, key=key, json=json)


def restore(
    file: File,
    to: Annotated[Path, typer.Option("--to", help="Folder to restore into; new or empty.")],
    key: Key = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where there is something: it is moved aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring a gateway back from a backup; says what to do next."""
    from gateway.commands.backup import restore_backup

    restore_backup(file, to=to, key=key, force=force, json=json)


def wipe(
    config: Config,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the id of the gateway.")] = False,
    json: Json = False,
) -> None:
    """Take a gateway out of service: remove all it made in its data directory, keys and audit trail too."""
    from gateway.commands.wipe import wipe_gateway

    wipe_gateway(config, yes=yes, json=json)


snapshot = typer.Typer(
    help="Snapshots of what the state engine knows, which a gateway goes on from.", no_args_is_help=True
)


@snapshot.command("list")
def snapshot_list(config: Config, json: Json = False) -> None:
    """What snapshots there are, oldest first."""
    from gateway.commands.snapshot import list_snapshots

    list_snapshots(config, json=json)


@snapshot.command("verify")
def snapshot_verify(config: Config, json: Json = False) -> None:
    """Read every snapshot to its end; exit code 3 when one cannot be used."""
    from gateway.commands.snapshot import verify_snapshots

    verify_snapshots(config, json=json)


@snapshot.command("take")
def snapshot_take(config: Config, json: Json = False) -> None:
    """Have the running gateway take one now."""
    from gateway.commands.snapshot import take_snapshot

    take_snapshot(config, json=json)


@snapshot.command("restore")
def snapshot_restore(
    config: Config,
    name: Annotated[str, typer.Argument(help="Name of the snapshot, as listed.", show_default=False)],
    json: Json = False,
) -> None:
    """Begin the journal again from a snapshot; what is there is set aside, not deleted."""
    from gateway.commands.snapshot import restore_snapshot

    restore_snapshot(config, name, json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(backup, name="backup")
    app.command("restore")(restore)
    app.command("wipe")(wipe)
    app.add_typer(snapshot, name="snapshot")
