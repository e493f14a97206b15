"""The verb `andon reconcile`: whether all keepers of the truth tell the same story."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli_words import Ca, FoundBy, Json, Token, Url


def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without harm.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="All the journal holds, not only what is newest.")
    ] = False,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Memory, journal, database and retained topics compared; exit code 1 when differences are left."""
    from gateway.commands.reconcile import run_reconciliation
    from gateway.commands.remote import url_from

    if not run_reconciliation(url_from(config, url), repair=repair, full=full, json=json):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command("reconcile")(reconcile)
