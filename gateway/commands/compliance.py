"""`andon compliance` and `andon reason`: how the rules of a running gateway stand, and giving reasons."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from rich.table import Table
from rich.text import Text

from gateway.client import Client
from gateway.commands.remote import url_from
from gateway.commands.show import out, print_json
from gateway.commands.when import read_when, write_when

_TIMEOUT_S = 120.0
_STYLE = {"kept": "green", "violated": "bold red", "unknown": "yellow"}


def show_rules(config: Path | None, url: str | None, *, json: bool) -> bool:
    """Print every rule and how it stands; whether all that could be judged are kept."""
    with _client(config, url) as client:
        rules = client.get("/compliance")["items"]
    if json:
        for rule in rules:
            print_json(rule)
    elif not rules:
        out.print("there are no rules; see [[compliance]] in docs/configuration.md", markup=False)
    else:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("rule", "about", "", "violations", "says"):
            table.add_column(column, justify="right" if column == "violations" else "left")
        for rule in rules:
            table.add_row(
                Text(rule["name"]),
                Text(rule["scope"] or "everything"),
                Text(rule["state"], style=_STYLE[rule["state"]]),
                str(rule["violations"]),
                Text(rule["reason"] or rule["says"], style="dim"),
            )
        out.print(table)
    return all(rule["state"] != "violated" for rule in rules)


def show_violations(
    config: Path | None, url: str | None, *, from_: str | None, to: str | None, json: bool
) -> bool:
    """Print where rules were not kept; whether there is nothing left to settle."""
    now = datetime.now(UTC)
    given = {"from": read_when(from_, "--from", now), "to": read_when(to, "--to", now)}
    words = {name: write_when(at) for name, at in given.items() if at is not None}
    with _client(config, url) as client:
        found = list(client.items("/compliance/violations", **words))
    for one in found:
        if json:
            print_json(one)
            continue
        line = Text(f"{one['from'][:19]}Z  ", style="dim")
        line.append(f"{one['rule']}  ", style="bold default")
        line.append(f"{one['equipment']}: " if one["equipment"] else "", style="default")
        line.append(one["reason"], style="default")
        out.print(line)
        out.print(Text(f"    {one['recommendation']}", style="dim"))
    if not found and not json:
        out.print(Text("every rule was kept", style="green"))
    return all(one["settled_at"] is not None for one in found)


def give_reason(
    config: Path | None, url: str | None, equipment: str, seq: int, *, reason: str, json: bool
) -> None:
    """Record why an equipment was in a state."""
    with _client(config, url) as client:
        told = client.post(f"/equipment/{quote(equipment, safe='')}/reasons", {"seq": seq, "reason": reason})
    if json:
        print_json(told)
    else:
        out.print(f"recorded as {told['id']}, by {told['author']}", markup=False)


def _client(config: Path | None, url: str | None) -> Client:
    return Client(url_from(config, url), timeout_s=_TIMEOUT_S)
