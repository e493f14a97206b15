"""The verbs `andon audit ...`, `andon compliance` and `andon reason`: who did what, and what was promised."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_words import Ca, Config, FoundBy, Json, Token, Url

audit = typer.Typer(
    help="The audit trail: from its files with a configuration, or of a running gateway with --url.",
    no_args_is_help=True,
)
_Config = Annotated[
    Path | None, typer.Argument(help="Configuration file, to read the trail's own files.", show_default=False)
]
_Judged = Annotated[
    Path | None,
    typer.Argument(
        help="Configuration file, to read the trail's own files; or a file of exported records.",
        show_default=False,
    ),
]
_Named = Annotated[Path | None, typer.Option("--config", help="The configuration, as an option.")]
_Url = Annotated[
    str | None, typer.Option(help="Instead: ask the running gateway at this address.", show_default=False)
]
_From = Annotated[str | None, typer.Option("--from", help="Begin: a time, a day, or 8h for 8 h ago.")]
_To = Annotated[str | None, typer.Option("--to", help="End, written the same way.", show_default="now")]


def _one(config: Path | None, named: Path | None) -> Path | None:
    """The configuration, whichever way it was given."""
    from gateway.commands.when import WrongArgument

    if config is not None and named is not None and config != named:
        raise WrongArgument(f"{config} or {named}?", hint="name one configuration")
    return named if config is None else config


@audit.command("show")
def audit_show(
    config: _Config = None,
    named: _Named = None,
    url: _Url = None,
    token: Token = None,
    ca: Ca = None,
    action: Annotated[str | None, typer.Option(help="Only this action and those below it.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this user, key or program did.")] = None,
    from_: _From = None,
    to: _To = None,
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="Only the newest so many.")] = 50,
    json: Json = False,
) -> None:
    """Who did what, oldest first."""
    from gateway.commands.audit import show_records

    show_records(
        _one(config, named), url, action=action, actor=actor, from_=from_, to=to, last=last, json=json
    )


@audit.command("verify")
def audit_verify(
    config: _Judged = None,
    named: _Named = None,
    url: _Url = None,
    token: Token = None,
    ca: Ca = None,
    key: Annotated[
        str | None, typer.Option(help="The public key it must be signed with.", show_default=False)
    ] = None,
    head: Annotated[
        list[Path] | None, typer.Option(help="A head kept from before, as `audit head` prints it.")
    ] = None,
    database: Annotated[bool, typer.Option("--database", help="Compare with the database too.")] = False,
    json: Json = False,
) -> None:
    """Whether the trail, or an export of it alone, is what was written; exit code 3 when it is not."""
    from gateway.commands.audit import show_verdict

    show_verdict(_one(config, named), url, key=key, heads=tuple(head or ()), database=database, json=json)


@audit.command("head")
def audit_head(
    config: _Config = None, named: _Named = None, url: _Url = None, token: Token = None, ca: Ca = None
) -> None:
    """The signed head as one line of JSON, to be kept elsewhere."""
    from gateway.commands.audit import show_head

    show_head(_one(config, named), url)


@audit.command("export")
def audit_export(
    to: Annotated[Path, typer.Option(help="File to write; it must not be there yet.", show_default=False)],
    config: _Config = None,
    named: _Named = None,
    url: _Url = None,
    token: Token = None,
    ca: Ca = None,
    through: Annotated[
        int | None, typer.Option(min=1, help="Only up to this record.", show_default="all")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Then remove them, by whole files, under a signed checkpoint.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the records to a file, byte for byte; with --remove make room where they were."""
    from gateway.commands.audit import export_records

    export_records(_one(config, named), url, to=to, through=through, remove=remove, json=json)


@audit.command("anew")
def audit_anew(
    config: Config,
    reason: Annotated[str, typer.Option(help="Why; recorded in the new trail.", show_default=False)],
    json: Json = False,
) -> None:
    """Put a harmed trail aside and begin a new one, which says so; the gateway must not run."""
    from gateway.commands.audit import begin_new_trail

    begin_new_trail(config, reason=reason, json=json)


def compliance(
    violations: Annotated[
        bool, typer.Option("--violations", help="Where they were not kept, with what to do.")
    ] = False,
    from_: _From = None,
    to: _To = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """The compliance rules of a running gateway; exit code 1 when one is not kept."""
    from gateway.commands.compliance import show_rules, show_violations

    kept = (
        show_violations(config, url, from_=from_, to=to, json=json)
        if violations or from_ or to
        else show_rules(config, url, json=json)
    )
    if not kept:
        raise typer.Exit(1)


def reason(
    equipment: Annotated[str, typer.Argument(help="Name of the equipment.", show_default=False)],
    seq: Annotated[int, typer.Argument(min=1, help="The transition that led there.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; kept with it.", show_default=False)],
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Say why an equipment was in a state."""
    from gateway.commands.compliance import give_reason

    give_reason(config, url, equipment, seq, reason=reason, json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(audit, name="audit")
    app.command("compliance")(compliance)
    app.command("reason")(reason)
