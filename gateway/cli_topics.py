"""The verbs `andon topics` and `andon schema`: where things will be said, and in which form."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli_words import Config, Json


def topics(config: Config, json: Json = False) -> None:
    """Every MQTT topic a configuration will have, what is said there and how. Connects to nothing."""
    from gateway.commands.topics import show_topics

    show_topics(config, json=json)


def schema(
    name: Annotated[
        str | None, typer.Argument(help="state, tag or a type of event; all are listed when none is named.")
    ] = None,
    json: Json = False,
) -> None:
    """JSON Schemas of what is told by MQTT, REST and the streams."""
    from gateway.commands.schema import list_schemas, show_schema

    if name is None:
        list_schemas(json=json)
    else:
        show_schema(name, json=json)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command("topics")(topics)
    app.command("schema")(schema)
