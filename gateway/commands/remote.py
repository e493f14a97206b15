"""`andon state` and `andon tail`: look at a running gateway through its REST face."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.access.credentials import ca_for, credentials_for, is_login
from gateway.changing.asking import AskedGateway
from gateway.cli_words import given_ca, given_token
from gateway.client import Address, Client, only
from gateway.commands.links import all_links, one_link
from gateway.commands.show import err, event_line, out, print_json, state_table
from gateway.config.load import read_toml
from gateway.config.problems import ConfigurationRefused, Problem

DEFAULT_URL = "http://127.0.0.1:8420"


def url_from(config: Path | None, url: str | None) -> Address:
    """Where the gateway listens, with what to send there: as named, else as its configuration says, else the
    default. One that its configuration says is known by the very certificate that names, unless `--ca` is
    given: certificates of a plant rarely have a loopback name."""
    found, cert_file = (_named(url), None) if url is not None or config is None else _configured(config)
    bearer = credentials_for(found, config, token=given_token())
    trust = None if cert_file is None or given_ca() is not None else only(cert_file)
    ca = None if trust is not None else ca_for(found, given_ca())
    return Address(found, bearer, ca, trust, _lapsed if is_login(bearer, given_token()) else None)


def asked(config: Path | None, url: str | None) -> AskedGateway:
    """A gateway found the same way, to be asked about its configuration."""
    return AskedGateway(url_from(config, url), config=config, token=given_token(), ca=given_ca())


def _lapsed() -> None:
    err.print(
        "the login there has ended, so this is what everybody may see: andon login URL begins another",
        style="yellow",
    )


def _named(url: str | None) -> str:
    if url is None:
        return DEFAULT_URL
    return url if "://" in url else f"http://{url}"


def _configured(config: Path) -> tuple[str, Path | None]:
    """The address in a configuration, and the file of the certificate shown there."""
    read = read_toml(config)
    if isinstance(read, Problem):
        raise ConfigurationRefused([read])
    api = read[0].get("api", {})
    listen = str(api.get("listen", "127.0.0.1:8420")).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - to call it
    if "tls" not in api:
        return f"http://{listen}", None
    named = api["tls"].get("cert_file") if isinstance(api["tls"], dict) else None
    return f"https://{listen}", config.parent / named if isinstance(named, str) else None


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
