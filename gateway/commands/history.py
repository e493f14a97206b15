"""`andon history`: the transitions of an equipment, or the samples they were made from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway.client import Client
from gateway.commands.remote import colours_of, url_from
from gateway.commands.show import err, event_line, out, print_json
from gateway.commands.when import WrongArgument, read_when, write_when
from gateway.config.load import load
from gateway.recording import only, read_journal, write_lines
from statemodel.problems import did_you_mean
from statemodel.replay import inputs_of

_PAGE = 1000


def show_history(
    equipment: str,
    *,
    config: Path | None,
    url: str | None,
    from_: str | None,
    to: str | None,
    json: bool,
) -> None:
    """Print the transitions of an equipment of a running gateway, oldest first, as they come page by page."""
    now = datetime.now(UTC)
    instants = {"from": read_when(from_, "--from", now), "to": read_when(to, "--to", now)}
    parameters: dict[str, str | int] = {"limit": _PAGE}
    parameters |= {name: write_when(at) for name, at in instants.items() if at is not None}
    with Client(url_from(config, url)) as client:
        colours = {} if json else colours_of(client)
        for event in _transitions(client, equipment, parameters):
            if json:
                print_json(event)
            else:
                out.print(event_line(event, colours, dated=True))


def _transitions(
    client: Client, equipment: str, parameters: dict[str, str | int]
) -> Iterator[dict[str, Any]]:
    yield from client.items(f"/equipment/{quote(equipment, safe='')}/transitions", **parameters)


def export_samples(equipment: str, *, config: Path | None) -> None:
    """Print what was recorded for an equipment as JSON lines: its tags' samples, and all events about it.

    Read from the journal's folder, whether the gateway runs or not; `andon replay --recording` takes it.
    """
    if config is None:
        raise WrongArgument(
            "--samples reads the journal's folder, which only the configuration names",
            hint="add --config CONFIG",
        )
    loaded = load(config, secrets_of=())
    specs = {spec.name: spec for spec in loaded.equipment}
    spec = specs.get(equipment)
    if spec is None:
        raise WrongArgument(f'no equipment is named "{equipment}"', hint=did_you_mean(equipment, specs))
    tags = inputs_of(spec)
    found = read_journal(loaded.data_dir / "journal", loaded.configuration.gateway.id, tags)
    for line in found.damaged:
        err.print(f"left out, for it cannot be read: {line}", style="yellow", markup=False)
    connections = {tag.partition("/")[0] for tag in tags}
    for encoded in write_lines(only(found.recording, {equipment}, connections)):
        sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()
