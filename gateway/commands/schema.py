"""`andon schema`: the JSON Schemas of what is told."""

from __future__ import annotations

import sys

import msgspec

from gateway.commands.show import out, print_json, table_of
from gateway.config.problems import did_you_mean
from gateway.errors import GatewayError
from gateway.publish.schemas import NAMES, schema


class NoSchema(GatewayError):
    """There is no schema of that name."""

    exit_code = 2


def list_schemas(*, json: bool) -> None:
    """Print the names of all payloads that have a schema, its identity and what they are."""
    known = [msgspec.json.decode(schema(name)) for name in NAMES]
    if json:
        for found in known:
            print_json({"name": found["title"], "id": found["$id"], "description": found["description"]})
        return
    table = table_of("schema", "id", "", wrapped=("",))
    for found in known:
        table.add_row(found["title"], found["$id"], found["description"])
    out.print(table)


def show_schema(name: str, *, json: bool) -> None:
    """Print one schema, as it lies in its file or on one line.

    Raises:
        NoSchema: there is none of that name.
    """
    if name not in NAMES:
        raise NoSchema(f'there is no schema "{name}"', hint=did_you_mean(name, NAMES))
    text = schema(name)
    if json:
        print_json(msgspec.json.decode(text))
    else:
        sys.stdout.write(text)
