"""Arguments and options that many verbs of the command take, worded once.

`--token` and `--ca` are not handed to the verbs: they are kept with the invocation, where whoever finds the
address of a gateway looks for them.
"""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Literal

import typer

_token: ContextVar[str | None] = ContextVar("token", default=None)
_ca: ContextVar[Path | None] = ContextVar("ca", default=None)


def given_token() -> str | None:
    """What `--token` says in this invocation."""
    return _token.get()


def given_ca() -> Path | None:
    """What `--ca` says in this invocation."""
    return _ca.get()


def _keep_token(context: typer.Context, value: str | None) -> str | None:
    _token.set(value)
    context.call_on_close(lambda: _token.set(None))
    return value


def _keep_ca(context: typer.Context, value: Path | None) -> Path | None:
    _ca.set(value)
    context.call_on_close(lambda: _ca.set(None))
    return value


Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        callback=_keep_token,
        expose_value=False,
        help="Who asks: a token or key.",
        show_default="ANDON_TOKEN, or the login",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        callback=_keep_ca,
        expose_value=False,
        help="Certificate authorities the gateway is known by.",
    ),
]
FoundBy = Annotated[Path | None, typer.Option("--config", help="Find the gateway by its configuration.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of a running gateway.", show_default="127.0.0.1:8420"),
]
Config = Annotated[Path, typer.Argument(help="Configuration file (TOML).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line instead of text for people.")]
Form = Annotated[Literal["table", "mermaid", "json"], typer.Option("--format", help="How it is shown.")]
