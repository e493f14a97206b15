"""`andon command`: write to a machine through a running gateway, and see what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from rich.text import Text

from gateway.client import Client
from gateway.commands.remote import url_from
from gateway.commands.show import out, parse_time, print_json
from gateway.errors import GatewayError

#: Longer than any command takes that the gateway waits for.
_TIMEOUT_S = 120.0
_STYLE = {
    "verified": "green",
    "written": "green",
    "accepted": "cyan",
    "refused": "yellow",
    "expired": "yellow",
}


class NotConfirmed(GatewayError):
    """The command was sent, and what is read back is something else, or nothing is known."""


def client_of(config: Path | None, url: str | None) -> Client:
    """Who talks to the gateway, as whoever has logged in or may read its files."""
    return Client(url_from(config, url), timeout_s=_TIMEOUT_S)


def target_of(target: str, value: str, *, text: bool) -> dict[str, Any]:
    """The tag and its value, or the equipment and its command."""
    if "/" in target:
        return {"tag": target, "value": value if text else value_of(value)}
    return {"equipment": target, "command": value}


def value_of(text: str) -> bool | int | float | str:
    """A value as people write it: true or false, a number, else the text as it is."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def send(
    client: Client,
    wanted: Mapping[str, Any],
    *,
    key: str | None,
    expires: str | None,
    dry_run: bool,
    arm: str | None,
    note: str,
    json: bool,
) -> None:
    """Send a command, and print what came of it.

    Raises:
        NotConfirmed: it was sent and is not confirmed.
    """
    more = {"expires": expires, "dry_run": dry_run or None, "arm": arm, "note": note or None}
    body = {**wanted, **{name: value for name, value in more.items() if value is not None}}
    with client:
        view = client.post("/commands", body, {"Idempotency-Key": key or str(uuid4())})
    _show(view, json=json)


def show(client: Client, id_: str | None, *, last: int, json: bool) -> None:
    """Print one command, or the newest."""
    with client:
        if id_ is not None:
            found = [client.get(f"/commands/{quote(id_, safe='')}")]
        else:
            found = list(client.items("/commands"))[-last:]
    for view in found:
        if json:
            print_json(view)
        else:
            out.print(line(view))


def approve(client: Client, id_: str, value: str, *, text: bool, json: bool) -> None:
    """Approve a command that waits, and print what came of it.

    Raises:
        NotConfirmed: it was sent and is not confirmed.
    """
    path = f"/commands/{quote(id_, safe='')}"
    with client:
        waiting = client.get(path)
        said: Any = value if text or not waiting["tag"] else value_of(value)
        if isinstance(waiting["value"], float) and type(said) is int:
            said = float(said)
        view = client.post(f"{path}/approve", {"value" if waiting["tag"] else "command": said})
    _show(view, json=json)


def arm(client: Client, wanted: Mapping[str, Any], *, json: bool) -> None:
    """Arm a command, and print what to send it with."""
    with client:
        armed = client.post("/commands/arm", wanted)
    if json:
        print_json(armed)
        return
    out.print(armed["arm"], highlight=False)


def _show(view: Mapping[str, Any], *, json: bool) -> None:
    if json:
        print_json(view)
    else:
        out.print(line(view))
        if view["waits_for"] == "approval":
            value = view["value"] if view["tag"] else view["command"]
            out.print(Text(f"another person has to approve it: andon command approve {view['id']} {value}"))
    if view["status"] in ("mismatch", "unknown"):
        raise NotConfirmed(view["reason"], hint="look at the machine; it is not sent again")


def line(view: Mapping[str, Any]) -> Text:
    """A command on one line."""
    told = Text()
    told.append(parse_time(view["requested_at"]).strftime("%Y-%m-%d %H:%M:%S  "))
    told.append(f"{view['id']}  ", style="dim")
    told.append(
        f"{view['tag']} = {view['value']}" if view["tag"] else f"{view['equipment']} {view['command']}"
    )
    told.append(f"  {view['status']}", style=_STYLE.get(view["status"], "red"))
    if view["dry_run"]:
        told.append(" (dry run)", style="dim")
    if view["read"] is not None:
        told.append(f"  read back {view['read']}")
    if view["reason"]:
        told.append(f"  {view['reason']}", style="dim")
    told.append(f"  {view['requested_by']}", style="dim")
    return told
