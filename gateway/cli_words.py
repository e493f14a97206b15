"""Arguments and options that many verbs of the command take, worded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Config = Annotated[Path, typer.Argument(help="Configuration file (TOML).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line instead of text for people.")]
Form = Annotated[Literal["table", "mermaid", "json"], typer.Option("--format", help="How it is shown.")]
