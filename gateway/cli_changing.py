"""The verbs `andon apply` and `andon config`: another configuration for a gateway that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli_words import Ca, Config, FoundBy, Json, Token

Reason = Annotated[str, typer.Option(help="Why, for those who look at it later.", show_default=False)]
Url = Annotated[
    str | None,
    typer.Option(help="Address of the running gateway.", show_default="as the configuration says"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Number = Annotated[int, typer.Argument(help="Number of a revision.", min=1, show_default=False)]


def apply(
    config: Config,
    reason: Reason,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change; change nothing.")
    ] = False,
    yes: Yes = False,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Run another configuration, whole or not at all; only what differs is disturbed."""
    from gateway.commands.apply import apply_configuration

    apply_configuration(config, reason=reason, url=url, dry_run=dry_run, yes=yes, json=json)


config = typer.Typer(
    help="The configurations a gateway ran: who, when, why, and the way back.", no_args_is_help=True
)


@config.command("revisions")
def config_revisions(
    found_by: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """The configurations that ran, the newest first."""
    from gateway.commands.config import show_revisions
    from gateway.commands.remote import asked

    with asked(found_by, url) as gateway:
        show_revisions(gateway, json=json)


@config.command("show")
def config_show(
    number: Number,
    file: Annotated[str | None, typer.Option("--file", help="Print this file of it as it was.")] = None,
    found_by: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """One of them: who, when, why, and its files."""
    from gateway.commands.config import show_revision
    from gateway.commands.remote import asked

    with asked(found_by, url) as gateway:
        show_revision(gateway, number, file, json=json)


@config.command("diff")
def config_diff(
    number: Number,
    other: Annotated[
        int | None, typer.Argument(help="Another revision.", min=1, show_default="what runs")
    ] = None,
    found_by: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """What differs from one of them to another, or to what runs."""
    from gateway.commands.config import show_difference
    from gateway.commands.remote import asked

    with asked(found_by, url) as gateway:
        show_difference(gateway, number, other, json=json)


@config.command("rollback")
def config_rollback(
    number: Number,
    reason: Reason,
    yes: Yes = False,
    found_by: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Run one of them again, as a new revision."""
    from gateway.commands.config import roll_back
    from gateway.commands.remote import asked

    with asked(found_by, url) as gateway:
        roll_back(gateway, number, reason, yes=yes, json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command("apply")(apply)
    app.add_typer(config, name="config")
