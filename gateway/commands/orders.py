"""`andon read --orders`: the registers of a Modbus device in every type and order, live and side by side.

For the hour in which a device is new and its manual leaves things open. What the decodings are, and which of
them look like values, is said in `connectors.modbus.orders`; this reads once and prints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import log10
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from connectors.errors import ConnectorError
from connectors.modbus.config import ModbusSettings
from connectors.modbus.layout import Address, DataType, Kind, LayoutError, parse_address
from connectors.modbus.orders import FORMS, SHIFTS, Reading, likeliest, readings, shown, twin, window
from connectors.modbus.tags import ModbusGroup, ModbusTag
from connectors.protocol import Environment
from connectors.registry import default_registry
from connectors.selfreport import refusals_of
from gateway import log
from gateway.clock import SystemClock
from gateway.commands.browse import assigned_settings, endpoint_settings, looks_like_endpoint
from gateway.commands.read import NoSuchTag, ReadFailed
from gateway.commands.show import out, print_json
from gateway.config.load import load
from gateway.config.problems import did_you_mean
from gateway.errors import GatewayError
from statemodel.types import Quality, TagSample


class OrdersRefused(GatewayError):
    """The arguments name no registers to look at."""

    exit_code = 2


@dataclass(frozen=True)
class Target:
    """What to look at: a place in a device, and the tag it was named by, if any."""

    settings: ModbusSettings
    address: Address
    tag: ModbusTag | None = None


def show_orders(
    target: str, what: Sequence[str], *, unit: int | None, assignments: Sequence[str], json: bool
) -> None:
    """Read around one place of a device and print every decoding.

    `target` is an endpoint or a configuration file; `what` one address, one tag, or `connection/address`.

    Raises:
        OrdersRefused: an argument is wrong.
        NoSuchTag: it names no tag.
        ReadFailed: the device does not answer, or not with that register.
    """
    log.configure("error")
    if len(what) != 1:
        raise OrdersRefused(
            "--orders looks at one place at a time",
            hint="name one: andon read --orders tcp://10.0.0.6:502 holding:100, or a configuration and a tag",
        )
    if "://" in target:
        found = _of_endpoint(target, what[0], unit, assignments)
        folder = Path("data")
    else:
        if looks_like_endpoint(target):
            raise OrdersRefused(f"{target} names no protocol", hint=f"write tcp://{target}")
        if unit is not None or assignments:
            raise OrdersRefused(
                "a connection of a configuration is read as it is configured",
                hint="leave out --unit and --set, or name an endpoint",
            )
        found, folder = _of_configuration(Path(target), what[0])
    try:
        place = window(found.address, found.settings.limits.for_plan())
    except LayoutError as error:
        reason, _, hint = str(error).partition("; ")
        raise OrdersRefused(reason, hint=hint) from error
    samples, why = _read(found, place, folder)
    registers = {
        address: sample.value
        for address, sample in zip(place, samples, strict=True)
        if sample.quality is Quality.GOOD and isinstance(sample.value, int)
    }
    if found.address.start not in registers:
        bad = samples[found.address.start - place.start]
        raise ReadFailed(
            why.get(bad.tag)
            or f"{Address(found.address.table, found.address.start)} is bad ({bad.substatus})",
            hint="does the device have it in another table, or one address beside?"
            if bad.substatus == "configuration_error"
            else "it answers, but not for this unit now: is --unit right?",
        )
    columns = {
        start: list(readings(found.address.table, start, registers))
        for start in (found.address.start + shift for shift in SHIFTS)
        if start in registers
    }
    if json:
        _print_data(found, registers, columns)
    else:
        _print_table(found, registers, columns, samples[0])


def _of_endpoint(endpoint: str, text: str, unit: int | None, assignments: Sequence[str]) -> Target:
    options: dict[str, Any] = assigned_settings(assignments)
    if unit is not None:
        options["unit"] = unit
    _, settings, _ = endpoint_settings(endpoint, options, default_registry())
    return Target(_modbus(settings, endpoint), _address(text))


def _of_configuration(path: Path, text: str) -> tuple[Target, Path]:
    loaded = load(path)
    name, _, rest = text.partition("/")
    connections = {connection.name: connection for connection in loaded.configuration.connections}
    if (connection := connections.get(name)) is None:
        raise NoSuchTag(f'there is no connection "{name}"', hint=did_you_mean(name, connections))
    settings = _modbus(connection, name)
    for tag in (tag for group in settings.groups for tag in group.tags):
        if tag.name == rest:
            return Target(settings, tag.layout()[0], tag), loaded.data_dir
    try:
        return Target(settings, parse_address(rest)), loaded.data_dir
    except LayoutError:
        known = [tag.name for tag in settings.tags()]
        hint = did_you_mean(rest, known) or f"name a tag of it, or an address: {name}/holding:100"
        raise NoSuchTag(f'{name} has no tag "{rest}"', hint=hint) from None


def _modbus(settings: object, name: str) -> ModbusSettings:
    if not isinstance(settings, ModbusSettings):
        raise OrdersRefused(
            f"{name} is no Modbus device", hint="only Modbus leaves types and orders open; try andon browse"
        )
    return settings


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except LayoutError as error:
        reason, _, hint = str(error).partition("; ")
        raise OrdersRefused(reason, hint=hint) from error


def _read(found: Target, place: range, folder: Path) -> tuple[list[TagSample], Mapping[str, str]]:
    """The registers, each as a tag of its own, and why some are bad: one does not take the rest with it."""
    tags = tuple(
        ModbusTag(name=f"r{address}", address=str(Address(found.address.table, address)), type="uint16")
        for address in place
    )
    group = ModbusGroup(name="orders", interval=timedelta(seconds=1), tags=tags)
    settings = found.settings.model_copy(update={"groups": (group,)})
    protocol = default_registry().protocols[settings.protocol]
    connector = protocol.build(settings, Environment(clock=SystemClock(), data_dir=folder.resolve()))
    try:
        return list(asyncio.run(connector.read_once())), refusals_of(connector)
    except ConnectorError as error:
        raise ReadFailed(error.reason, hint=error.hint) from error


def _print_data(
    found: Target, registers: Mapping[int, int], columns: Mapping[int, Sequence[Reading]]
) -> None:
    asked = Address(found.address.table, found.address.start)
    every = [reading for column in columns.values() for reading in column]
    paste = likeliest(every, asked)
    print_json(
        {
            "endpoint": found.settings.endpoint,
            "unit": found.settings.unit,
            "address": str(asked),
            "registers": {str(Address(asked.table, at)): word for at, word in registers.items()},
            "readings": [{**_as_data(reading), "plausible": reading.plausible} for reading in every],
            "likely": [_as_data(reading) for reading in paste],
            "alike": [_as_data(reading) for reading in _alike(paste, every)],
        }
    )


def _as_data(reading: Reading) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(reading)
    return {
        "address": str(reading.address),
        "type": str(reading.type),
        "order": data["order"],
        "value": data["value"],
    }


def _print_table(
    found: Target,
    registers: Mapping[int, int],
    columns: Mapping[int, Sequence[Reading]],
    sample: TagSample,
) -> None:
    table, asked = found.address.table, found.address.start
    at = sample.received_at.strftime("%H:%M:%S.%f")[:-3]
    out.print(
        f"{found.settings.endpoint}, unit {found.settings.unit}, at {at} UTC", style="dim", markup=False
    )
    words = Text("registers  ", style="dim")
    for address, word in registers.items():
        words.append(f" {address}:", style="dim")
        words.append(f"{word:04X}", style="bold" if address == asked else "")
    out.print(words)
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    grid.add_column("type", no_wrap=True)
    grid.add_column("order", no_wrap=True)
    for start in columns:
        header = Text(str(Address(table, start)), style="bold not dim" if start == asked else "dim")
        grid.add_column(header, no_wrap=True, justify="right")
    cells = {(start, r.type.kind, r.order): r for start, column in columns.items() for r in column}
    last = ""
    for kind, order in dict.fromkeys((type_.kind, order) for type_, order in FORMS):
        row: list[str | Text] = ["" if kind == last else kind]
        last = kind
        registers_of = 0 if kind is Kind.STRING else DataType(kind).registers
        row.append("" if registers_of == 1 else order.in_full if registers_of == 4 else order)
        row += [_cell(cells.get((start, kind, order)), dim=start != asked) for start in columns]
        grid.add_row(*row)
    out.print(grid)
    every = [reading for column in columns.values() for reading in column]
    if not any(registers.values()):
        out.print(
            "all registers are 0, which tells nothing: read again when the value is not", style="yellow"
        )
        return
    if found.tag is not None:
        out.print(f"configured: {_configured(found.tag, every)}", markup=False)
    paste = likeliest(every, Address(table, asked))
    if paste:
        out.print("likely, to paste among the tags of a group:", style="dim")
    name = found.tag.name if found.tag is not None else "value"
    alike = _alike(paste, every)
    for reading in (*paste, *alike[1:]):
        out.print(f"  {reading.tag_line(name)}  # {shown(reading.type, reading.value)}", markup=False)
    if alike:
        out.print(
            f"{' and '.join(f'{one.address} {one.order}' for one in alike)} share a register and read nearly "
            "alike; one of them ends in digits of another value, so compare all digits, or the values beside",
            style="yellow",
            markup=False,
        )


def _alike(paste: Sequence[Reading], every: Sequence[Reading]) -> tuple[Reading, ...]:
    """A proposed float and its twin; of several, that of the most everyday size."""
    pairs = [(one, other) for one in paste if (other := twin(one, every)) is not None and other not in paste]
    return min(pairs, key=lambda pair: abs(log10(abs(float(pair[0].value or 1)))), default=())


def _cell(reading: Reading | None, *, dim: bool) -> Text:
    if reading is None:
        return Text("")
    text = shown(reading.type, reading.value)
    if isinstance(reading.value, str):
        text = repr(reading.value)
    if not reading.plausible:
        return Text(text, style="bright_black")
    return Text(text, style="bold green" if reading.strong else "default" if dim else "bold")


def _configured(tag: ModbusTag, found: Sequence[Reading]) -> str:
    """How the tag reads now, before scaling."""
    address, type_ = tag.layout()
    text = f"{address} {type_}" + (f" {tag.order}" if type_.registers > 1 else "")
    for reading in found:
        if (reading.address, reading.type, reading.order) == (address, type_, tag.order):
            return f"{text}, raw {shown(reading.type, reading.value)}"
    return text
