"""`andon state` and `andon tail`: look at a running gateway through its REST face."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.access.credentials import ca_for, credentials_for
from gateway.cli_words import given_ca, given_token
from gateway.client import Address, Client
from gateway.commands.links import all_links, one_link
from gateway.commands.show import event_line, out, print_json, state_table
from gateway.config.load import read_toml
from gateway.config.problems import ConfigurationRefused, Problem

DEFAULT_URL = "http://127.0.0.1:8420"


def url_from(config: Path | None, url: str | None) -> Address:
    """Where the gateway listens, with what to send there: as named, else as its configuration says, else the
    default."""
    found = _url_from(config, url)
    return Address(found, credentials_for(found, config, token=given_token()), ca_for(found, given_ca()))


def _url_from(config: Path | None, url: str | None) -> str:
    if url is not None:
        return url if "://" in url else f"http://{url}"
    if config is None:
        return DEFAULT_URL
    read = read_toml(config)
    if isinstance(read, Problem):
        raise ConfigurationRefused([read])
    api = read[0].get("api", {})
    listen = str(api.get("listen", "127.0.0.1:8420")).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - to call it
    return f"{'https' if 'tls' in api else 'http'}://{listen}"


def show_state(url: str, equipment: str | None, *, connections: bool, json: bool) -> None:
    """Print the states once; with `connections` the links, and what is named is a connection."""
    with Client(url) as client:
        if connections:
            show_connections(client, equipment, json=json)
            return
        if equipment is not None:
            states = [client.get(f"/equipment/{equipment}/state")]
        else:
            states = [item["state"] for item in client.items("/equipment")]
        if json:
            for state in states:
                print_json(state)
            return
        why = {state["equipment"]: _why(client, state) for state in states}
        out.print(state_table(states, colours_of(client), why, datetime.now(UTC)))


def _why(client: Client, state: dict[str, Any]) -> str:
    """The sentence of the transition that led to a state."""
    if not state["seq"]:
        return ""
    path = f"/equipment/{state['equipment']}/transitions"
    items = client.get(path, after=state["seq"] - 1, limit=1)["items"]
    return str(items[0]["cause"].get("text", "")) if items else ""


def follow(url: str, after: str | None, *, json: bool) -> None:
    """Print events as they come, until interrupted."""
    with Client(url) as client:
        colours = {} if json else colours_of(client)
        for event in client.events(after):
            if json:
                print_json(event)
            else:
                out.print(event_line(event, colours))


def colours_of(client: Client) -> Mapping[tuple[str, str], str]:
    """Colour of every state of every model in use, by (model, state)."""
    names = {item["model"] for item in client.items("/equipment")}
    return {
        (name, state["name"]): state["colour"]
        for name in names
        for state in client.get(f"/models/{name}")["states"]
    }


def show_connections(client: Client, name: str | None, *, json: bool) -> None:
    """Print the links of all connections, or everything about one."""
    views = list(client.items("/connections")) if name is None else [client.get(f"/connections/{name}")]
    if json:
        for view in views:
            print_json(view)
        return
    now = datetime.now(UTC)
    out.print(all_links(views, now) if name is None else one_link(views[0], now))
