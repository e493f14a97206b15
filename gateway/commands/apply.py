"""`andon apply`: another configuration for a gateway that runs, after a look at what would change."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from api.configuring import Outcome
from gateway.changing.canonical import texts
from gateway.commands.differing import print_difference
from gateway.commands.remote import asked
from gateway.commands.show import out, print_json
from gateway.config.load import load
from gateway.errors import GatewayError


class NotSaid(GatewayError):
    """Something is needed that nobody has said."""

    exit_code = 2


def files_of(path: Path) -> dict[str, str]:
    """The files of a configuration, as they are sent. Secrets need not be there.

    Raises:
        ConfigurationRefused: it is wrong.
        NotSaid: a file lies outside of its folder.
    """
    loaded = load(path, secrets_of=())
    if outside := [name for name in loaded.files if name.startswith(("..", "/"))]:
        raise NotSaid(
            f"{outside[0]} lies outside of the folder of {path.name}, so it cannot be sent",
            hint="move it into the folder, or change the files on the gateway's machine and reload it there",
        )
    return texts(loaded.files, path.name)


def apply_configuration(
    path: Path,
    *,
    reason: str,
    url: str | None,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Show what would change, ask, and have it done."""
    files = files_of(path)
    with asked(path, url) as gateway:
        expected = gateway.running().hash
        planned = gateway.apply(files, reason, expected, dry_run=True)
        if planned.status == "unchanged" or dry_run:
            show_outcome(planned, json=json)
            return
        if not json:
            print_difference(planned.difference)
        confirm(yes=yes)
        show_outcome(gateway.apply(files, reason, expected, dry_run=False), json=json, difference=False)


def confirm(*, yes: bool) -> None:
    """Ask whether to go on.

    Raises:
        NotSaid: nobody is there to be asked.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotSaid("nobody is there to be asked", hint="say --yes to apply, or --dry-run to look only")
    if not typer.confirm("apply this?", err=True):
        raise typer.Exit(1)


def show_outcome(outcome: Outcome, *, json: bool, difference: bool = True) -> None:
    """What became of it."""
    if json:
        print_json(outcome)
        return
    if difference and outcome.status != "unchanged":
        print_difference(outcome.difference)
    for warning in outcome.warnings:
        place = warning.file if warning.line is None else f"{warning.file}:{warning.line}"
        out.print("[bold yellow]warning:[/] ", end="")
        out.print(f"{place}: {warning.key}: {warning.reason}", markup=False)
    number = outcome.revision.number if outcome.revision is not None else None
    match outcome.status:
        case "unchanged":
            out.print(f"nothing to do: this is what runs, revision {number}")
        case "planned":
            out.print("nothing was changed (--dry-run)", style="dim")
        case _:
            out.print(f"[bold green]applied[/]: revision {number}")
