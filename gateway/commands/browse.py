"""`andon browse`: what is in a device? Connects, looks around, prints; configures and publishes nothing."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pydantic import ValidationError

from connectors.browsing import Query, QueryError, tag_name
from connectors.errors import ConnectorError
from connectors.protocol import Browse, Environment, Protocol
from connectors.registry import Registry, default_registry
from connectors.settings import ConnectionSettings
from gateway import log
from gateway.clock import SystemClock
from gateway.commands.browsed import CsvWriter, JsonWriter, Source, TomlWriter, TreeWriter, Writer
from gateway.config.load import load
from gateway.config.problems import did_you_mean, explain_all, path_text
from gateway.config.schema import GatewaySettings
from gateway.config.secrets import resolve_all
from gateway.errors import GatewayError

Form = Literal["tree", "json", "toml", "csv"]


class BrowseFailed(GatewayError):
    """The device could not be looked around in."""


class BrowseRefused(GatewayError):
    """The arguments name nothing that can be browsed."""

    exit_code = 2


def browse_device(
    target: str,
    connection: str | None,
    query: Query,
    form: Form,
    *,
    options: Mapping[str, Any],
    assignments: Sequence[str] = (),
    data_dir: Path | None = None,
) -> None:
    """Look around in `target`, an endpoint, or in the `connection` of the configuration file `target`.

    `options` are settings of the connection; `assignments` further ones as `key=value` with a TOML value.

    Raises:
        BrowseRefused: an argument is wrong.
        BrowseFailed: the device does not answer, or will not have us.
    """
    log.configure("error")
    try:
        query.matcher()
    except QueryError as error:
        raise BrowseRefused(str(error)) from error
    if "://" in target:
        if connection is not None:
            raise BrowseRefused(
                f'"{connection}" is one word too many after an endpoint',
                hint="a connection is named after a configuration file: andon browse andon.toml plc",
            )
        given = dict(options) | assigned_settings(assignments)
        protocol, settings, source = endpoint_settings(target, given, default_registry())
        folder = data_dir or Path(GatewaySettings.model_fields["data_dir"].default)
    else:
        if looks_like_endpoint(target):
            raise BrowseRefused(
                f"{target} names no protocol", hint=f"write opc.tcp://{target}, or tcp://{target} for Modbus"
            )
        if options or assignments or data_dir is not None:
            raise BrowseRefused(
                "a connection of a configuration is browsed as it is configured",
                hint="leave out --security, --user, --password, --set and --data-dir, or name an endpoint",
            )
        protocol, settings, source, folder = _of_configuration(Path(target), connection)
    if protocol.browse is None:
        raise BrowseRefused(f'devices of the protocol "{protocol.name}" cannot be looked around in')
    environment = Environment(clock=SystemClock(), data_dir=folder.resolve())
    writer = _writer(form, source)
    try:
        asyncio.run(_browse(protocol.browse, settings, query, environment, writer))
    except ConnectorError as error:
        keeper = quote(str(folder if "://" in target else target))
        hint = error.hint.replace("trust approve CONFIG", f"trust approve {keeper}")
        if "://" in target and "None/None" in hint:
            hint += "; --security None looks around without protection"
        raise BrowseFailed(error.reason, hint=hint) from error
    writer.end()


def looks_like_endpoint(target: str) -> bool:
    """Whether a host and a port are meant, and no file: `10.0.0.6:502`."""
    _, colon, port = target.rpartition(":")
    return bool(colon) and port.split("/")[0].isdecimal() and not Path(target).exists()


def connection_options(security: str | None, user: str | None, password: str | None) -> dict[str, Any]:
    """The settings that options of the command stand for."""
    options: dict[str, Any] = {}
    if security is not None:
        policy, _, mode = security.partition("/")
        options["security"] = {"policy": policy} | (
            {"mode": mode} if mode else {"mode": "None"} if policy == "None" else {}
        )
    if user is not None:
        options["user"] = user
    if password is not None:
        options["password"] = password
    return options


async def _browse(
    browse: Browse, settings: ConnectionSettings, query: Query, environment: Environment, writer: Writer
) -> None:
    async with aclosing(browse(settings, query, environment)) as findings:
        async for finding in findings:
            writer.take(finding)


def _writer(form: Form, source: Source) -> Writer:
    match form:
        case "json":
            return JsonWriter()
        case "toml":
            return TomlWriter(source)
        case "csv":
            return CsvWriter(source)
    return TreeWriter(source)


def assigned_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """Settings given as `key=value`, the value in TOML; what is no TOML is a text.

    Raises:
        BrowseRefused: one is not of that form.
    """
    given: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise BrowseRefused(
                f'"{assignment}" is no setting', hint="write --set key=value, as in --set unit=3"
            )
        try:
            given[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            given[key] = text.strip()
    return given


def endpoint_settings(
    endpoint: str, options: Mapping[str, Any], registry: Registry
) -> tuple[Protocol, ConnectionSettings, Source]:
    """The protocol that speaks to an endpoint, and settings for it without a configuration.

    Raises:
        BrowseRefused: none does, or the options are no settings of its connections.
    """
    scheme = endpoint.partition("://")[0].lower()
    known = {one: protocol for protocol in registry.protocols.values() for one in protocol.schemes}
    protocol = known.get(scheme)
    if protocol is None:
        raise BrowseRefused(
            f'no protocol speaks to "{scheme}://"', hint=did_you_mean(scheme, known) or "check the endpoint"
        )
    name = tag_name(endpoint.partition("://")[2].partition("/")[0].rpartition(":")[0] or "device")
    resolved, problems = resolve_all(dict(options), (), os.environ, Path.cwd())
    if problems:
        place, reason, hint = problems[0]
        raise BrowseRefused(f"{path_text(place)} {reason}", hint=hint)
    table = {"name": name, "protocol": protocol.name, "endpoint": endpoint} | resolved
    try:
        settings = protocol.settings.model_validate(table)
    except ValidationError as error:
        place, reason, hint = explain_all(error, protocol.settings)[0]
        raise BrowseRefused(f"{path_text(place)}: {reason}".lstrip(": "), hint=hint) from error
    return protocol, settings, Source(name, protocol.name, endpoint, protocol.csv_key, options)


def _of_configuration(path: Path, name: str | None) -> tuple[Protocol, ConnectionSettings, Source, Path]:
    loaded = load(path)
    connections = {one.name: one for one in loaded.configuration.connections}
    if name is None and len(connections) == 1:
        name = next(iter(connections))
    if name is None or name not in connections:
        reason = "a connection has to be named" if name is None else f'there is no connection "{name}"'
        raise BrowseRefused(f"{reason} in {path}", hint=did_you_mean(name or "", connections))
    settings = connections[name]
    protocol = loaded.registry.protocols[settings.protocol]
    source = Source(name, protocol.name, settings.endpoint, protocol.csv_key, {}, str(path))
    return protocol, settings, source, loaded.data_dir
