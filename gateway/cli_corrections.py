"""The verb `andon correct`: what an equipment really was in, told afterwards."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli_words import Ca, FoundBy, Json, Token, Url


def correct(
    equipment: Annotated[str, typer.Argument(help="Name of the equipment.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; kept with it.", show_default=False)],
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin: a time, a day, or 8h for 8 h ago.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="End, written the same way.", show_default="now")
    ] = None,
    state: Annotated[str | None, typer.Option(help="What it was in, by the model.")] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Instead: the id of a correction that no longer counts.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Who says so; kept with it.", show_default="your user name")
    ] = None,
    config: FoundBy = None,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Say what an equipment really was in between two instants. Changes nothing that is recorded."""
    from gateway.commands.corrections import make_correction
    from gateway.commands.remote import url_from

    make_correction(
        url_from(config, url),
        equipment,
        from_=from_,
        to=to,
        state=state,
        withdraw=withdraw,
        reason=reason,
        author=author,
        json=json,
    )


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command."""
    app.command("correct")(correct)
