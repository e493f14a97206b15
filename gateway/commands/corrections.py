"""`andon correct`, and the states of an equipment as they are known now or were known earlier."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from rich.text import Text

from gateway.access.tokens import LOCAL
from gateway.client import Address, Client
from gateway.commands.remote import colours_of, url_from
from gateway.commands.show import STYLE, age_text, event_line, out, parse_time, print_json
from gateway.commands.when import WrongArgument, read_when, write_when

_PAGE = 1000


def make_correction(
    url: str,
    equipment: str,
    *,
    from_: str | None,
    to: str | None,
    state: str | None,
    withdraw: str | None,
    reason: str,
    author: str | None,
    json: bool,
) -> None:
    """Hand in a correction, and print it as it was recorded."""
    now = datetime.now(UTC)
    body: dict[str, Any] = {"reason": reason}
    if author := author or (None if _known(url) else _user()):
        body["author"] = author
    if withdraw is not None:
        if from_ or to or state:
            raise WrongArgument("--withdraw takes neither --from, --to nor --state", hint="leave them out")
        body["withdraws"] = withdraw
    else:
        if from_ is None or state is None:
            raise WrongArgument("--from and --state are missing", hint="or withdraw one with --withdraw ID")
        instants = {"from": read_when(from_, "--from", now), "to": read_when(to, "--to", now)}
        body |= {name: write_when(at) for name, at in instants.items() if at is not None}
        body["state"] = state
    with Client(url) as client:
        made = client.post(
            f"/equipment/{quote(equipment, safe='')}/corrections", body, {"Idempotency-Key": str(uuid4())}
        )
    if json:
        print_json(made)
    else:
        out.print(event_line(made, {}, dated=True))
        out.print(Text(f"recorded as {made['id']}", style="dim"))


def _known(url: str) -> bool:
    """Whether the gateway knows by itself who asks, and by a name: the local key is everybody's here."""
    bearer = url.bearer if isinstance(url, Address) else None
    return bearer is not None and not bearer.startswith(LOCAL)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise WrongArgument("this user has no name", hint="give one with --author") from error


def show_states(
    equipment: str,
    *,
    config: Path | None,
    url: str | None,
    from_: str | None,
    to: str | None,
    known_at: str | None,
    json: bool,
) -> None:
    """Print the states of an equipment as intervals, oldest first, as known now or at an instant."""
    now = datetime.now(UTC)
    instants = {
        "from": read_when(from_, "--from", now),
        "to": read_when(to, "--to", now),
        "known_at": read_when(known_at, "--known-at", now),
    }
    asked: dict[str, str | int] = {name: write_when(at) for name, at in instants.items() if at is not None}
    with Client(url_from(config, url)) as client:
        model = ""
        colours: Mapping[tuple[str, str], str] = {}
        if not json:
            model = str(client.get(f"/equipment/{quote(equipment, safe='')}")["model"])
            colours = colours_of(client)
        for interval in _intervals(client, equipment, asked):
            if json:
                print_json(interval)
            else:
                out.print(_line(interval, model, colours))


def _intervals(client: Client, equipment: str, asked: dict[str, str | int]) -> Iterator[Mapping[str, Any]]:
    while True:
        page = client.get(f"/equipment/{quote(equipment, safe='')}/timeline", limit=_PAGE, **asked)
        yield from page["items"]
        if page["next"] is None:
            return
        asked = {**asked, "from": page["next"]}


def _line(interval: Mapping[str, Any], model: str, colours: Mapping[tuple[str, str], str]) -> Text:
    line = Text()
    line.append(f"{interval['seq']:>7} ", style="dim")
    line.append(parse_time(interval["from"]).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "  ")
    line.append(f"{interval['state']:<16}", style=STYLE[colours.get((model, interval["state"]), "grey")])
    line.append(f"  for {age_text(interval['duration_s'])}", style="dim")
    if interval["corrected"]:
        line.append("  [corrected]", style="yellow")
    return line
