"""`andon read`: is the wire right? Reads once and prints; starts no engine, no journal, no sinks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.text import Text

from connectors.errors import ConnectorError
from connectors.protocol import Environment
from connectors.selfreport import refusals_of
from gateway import log
from gateway.clock import SystemClock
from gateway.commands.show import err, out, print_json, table_of
from gateway.config.load import Loaded, load
from gateway.config.problems import did_you_mean
from gateway.errors import GatewayError
from statemodel.types import Quality, TagSample

_STYLE = {Quality.GOOD: "green", Quality.UNCERTAIN: "yellow", Quality.BAD: "bold red"}


#: Samples of a connection, and why some of them are bad.
_Result = tuple[list[TagSample], dict[str, str]]


class ReadFailed(GatewayError):
    """Some connection could not be read; what was wrong has been said."""


class NoSuchTag(GatewayError):
    """An argument names no tag."""

    exit_code = 2


class OnlyForOrders(GatewayError):
    """An argument means something only together with another."""

    exit_code = 2


def refuse_endpoint(config: str, unit: int | None, settings: Sequence[str] | None) -> None:
    """Tags are those of a configuration; only registers can be looked at without one.

    Raises:
        OnlyForOrders: an endpoint is named, or settings for one.
    """
    if "://" in config:
        hint = f"to look at registers: andon read --orders {config} holding:100"
        raise OnlyForOrders(f"{config} is an endpoint, and tags are in a configuration", hint=hint)
    if unit is not None or settings:
        hint = "a configuration says itself how its devices are asked"
        raise OnlyForOrders("--unit and --set are for endpoints, with --orders", hint=hint)


def read_tags(path: Path, tags: Sequence[str], *, json: bool) -> None:
    """Read the named tags (all when none is named) and print them."""
    loaded = load(path)
    log.configure("error")
    known = {c.tag_id(tag) for c in loaded.configuration.connections for tag in c.tags()}
    for tag in tags:
        if tag not in known:
            raise NoSuchTag(f'there is no tag "{tag}"', hint=did_you_mean(tag, known))
    results = asyncio.run(_read(loaded, frozenset(tags) or frozenset(known)))
    failed = 0
    reasons: dict[str, str] = {}
    table = table_of("tag", "value", "quality", "received (UTC)", "source time (UTC)")
    for name, result in results:
        if isinstance(result, ConnectorError):
            failed += 1
            err.print(f"[bold red]{name}:[/] ", end="")
            err.print(result.reason, markup=False)
            if result.hint:
                hint = result.hint.replace("trust approve CONFIG", f"trust approve {quote(str(path))}")
                err.print(f"    hint: {hint}", style="dim", markup=False)
            continue
        samples, found = result
        reasons.update(found)
        for sample in samples:
            if json:
                print_json(sample)
            else:
                table.add_row(*_row(sample))
    if not json and table.row_count:
        out.print(table)
    for tag, reason in reasons.items():
        err.print(f"{tag}: {reason}", style="yellow", markup=False, soft_wrap=True)
    if failed:
        raise ReadFailed(f"{failed} of {len(results)} connections could not be read")


async def _read(loaded: Loaded, wanted: frozenset[str]) -> list[tuple[str, _Result | ConnectorError]]:
    environment = Environment(clock=SystemClock(), data_dir=loaded.data_dir)
    connections = [
        connection
        for connection in loaded.configuration.connections
        if any(connection.tag_id(tag) in wanted for tag in connection.tags())
    ]

    async def one(index: int) -> _Result | ConnectorError:
        connection = connections[index]
        connector = loaded.registry.protocols[connection.protocol].build(connection, environment)
        try:
            samples = [sample for sample in await connector.read_once() if sample.tag in wanted]
        except ConnectorError as error:
            return error
        reasons = refusals_of(connector)
        return samples, {one.tag: reasons[one.tag] for one in samples if one.tag in reasons}

    results = await asyncio.gather(*(one(index) for index in range(len(connections))))
    return [(connection.name, result) for connection, result in zip(connections, results, strict=True)]


def _row(sample: TagSample) -> tuple[str | Text, ...]:
    quality = sample.quality.value + (f" ({sample.substatus})" if sample.substatus else "")
    value = "-" if sample.value is None else str(sample.value)
    source = sample.source_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if sample.source_at else "-"
    return (
        sample.tag,
        Text(value),
        Text(quality, style=_STYLE[sample.quality]),
        sample.received_at.strftime("%H:%M:%S.%f")[:-3],
        source,
    )
