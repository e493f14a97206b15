"""`andon explain`: why an equipment of a running gateway is, or was, in a state."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from gateway.client import Client
from gateway.commands.remote import colours_of
from gateway.commands.show import STYLE, out, print_json
from gateway.commands.when import WrongArgument, read_when, write_when


def show_explanation(url: str, equipment: str, *, seq: str | None, at: str | None, json: bool) -> None:
    """Print the explanation of a transition: of `seq`, else of the state at `at`, else of the present."""
    if seq is not None and at is not None:
        raise WrongArgument("--seq and --at exclude each other", hint="give one of them")
    parameters: dict[str, str] = {}
    if seq is not None:
        parameters["seq"] = seq
    if (instant := read_when(at, "--at", datetime.now(UTC))) is not None:
        parameters["at"] = write_when(instant)
    with Client(url) as client:
        told = client.get(f"/equipment/{quote(equipment, safe='')}/explain", **parameters)
        if json:
            print_json(told)
            return
        style = STYLE[colours_of(client).get((told["model"], told["state"]), "grey")]
    out.print(f"● {told['state']}", style=style)
    out.print(told["text"], markup=False, end="")
