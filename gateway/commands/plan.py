"""`andon plan`: what reading will cost, and beside it what it does cost where a gateway runs.

Connects to no device. What is predicted is said by the protocols; this puts it on a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from api.configuring import Difference
from connectors.planned import (
    LATENCY_S,
    USE_MAX,
    Plan,
    PlannedConnection,
    PlannedGroup,
    PlannedRequest,
    duration_text,
    percent,
    whole_plan,
)
from gateway.changing.asking import AskedGateway
from gateway.client import Address, Client, NoAnswer, Refused
from gateway.commands.apply import files_of
from gateway.commands.differing import print_difference
from gateway.commands.remote import url_from
from gateway.commands.show import out, print_json
from gateway.config.load import Loaded, load
from gateway.config.problems import ConfigurationRefused
from gateway.errors import GatewayError
from statemodel.durations import parse_duration

#: Requests shown of one group, without being asked for all.
_SHOWN_MAX = 6
#: From this factor on between prediction and measurement, the assumed latency is called wrong.
_FAR_OFF = 1.5


class NoLatency(GatewayError):
    """The latency given is no length of time."""

    exit_code = 2


class Measured(msgspec.Struct, frozen=True):
    """What a running gateway says of one group, over its last minute."""

    connection: str
    group: str
    count: int
    mean_s: float
    worst_s: float
    predicted_s: float | None


class Comparison(msgspec.Struct, frozen=True):
    """What runs, beside the plan. `remarks` say how they differ, in words."""

    url: str
    measured: tuple[Measured, ...] = ()
    remarks: tuple[str, ...] = ()
    unreachable: str = ""
    #: From what runs to this configuration; None where that is not known, and why.
    difference: Difference | None = None
    difference_unknown: str = ""


def show_plan(path: Path, *, latency: str | None, url: str | None, requests: bool, json: bool) -> None:
    """Print the plan of a configuration."""
    loaded = load(path)
    plan = make_plan(loaded, _latency_s(latency))
    comparison = compare(plan, loaded, url)
    if json:
        print_json({**_as_data(plan), "running": msgspec.to_builtins(comparison)})
        return
    _print_plan(plan, comparison, every_request=requests)


def _latency_s(text: str | None) -> float:
    if text is None:
        return LATENCY_S
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        reason, _, hint = str(error).partition("; ")
        raise NoLatency(f"--latency: {reason}", hint=hint) from error


def make_plan(loaded: Loaded, latency_s: float) -> Plan:
    """The plan of every connection of a configuration."""
    planned = []
    for settings in loaded.configuration.connections:
        protocol = loaded.registry.protocols[settings.protocol]
        if protocol.plan is not None:
            planned.append(protocol.plan(settings, latency_s))
        else:
            groups = tuple(
                PlannedGroup(group.name, group.interval.total_seconds(), len(group.tags), ())
                for group in settings.groups
            )
            note = f"what reading costs cannot be said beforehand of {settings.protocol}"
            planned.append(
                PlannedConnection(settings.name, settings.protocol, settings.endpoint, groups, notes=(note,))
            )
    return whole_plan(planned, latency_s)


def compare(plan: Plan, loaded: Loaded, url: str | None) -> Comparison:
    """The plan beside what a gateway measures, when one runs where the configuration says it listens."""
    if url is None and loaded.configuration.api is None:
        return Comparison("", unreachable="no gateway to compare with: the configuration has no [api]")
    address = url_from(loaded.path, url)
    try:
        with Client(address, timeout_s=3.0) as client:
            views = {view["name"]: view for view in client.items("/connections")}
    except (NoAnswer, Refused) as failure:
        return Comparison(str(address), unreachable=failure.reason)
    measured: list[Measured] = []
    remarks: list[str] = []
    for connection in plan.connections:
        if (view := views.get(connection.name)) is None:
            remarks.append(f"{connection.name} is not in the gateway that runs")
            continue
        if (running := view["tags"]) != connection.tags:
            remarks.append(
                f"{connection.name} has {running} tags in the gateway that runs, and {connection.tags} here"
            )
        found = list(_measured(connection, view["cycles"]))
        measured += found
        remarks += _latency_remark(connection, found, plan.latency_s)
    names = {connection.name for connection in plan.connections}
    remarks += [f"{name} runs and is not in this configuration" for name in views if name not in names]
    difference, why_not = _difference(loaded, address)
    return Comparison(
        str(address), tuple(measured), tuple(remarks), difference=difference, difference_unknown=why_not
    )


def _difference(loaded: Loaded, address: Address) -> tuple[Difference | None, str]:
    """What would change if the gateway ran this configuration; or why it does not say."""
    path = loaded.named or loaded.path
    try:
        with AskedGateway(
            address, config=path, token=address.bearer, ca=address.ca, timeout_s=30.0
        ) as gateway:
            expected = gateway.running().hash
            return gateway.apply(files_of(path), "a plan", expected, dry_run=True).difference, ""
    except ConfigurationRefused as refused:
        return None, f"the gateway would refuse it: {refused.problems[0]}"
    except GatewayError as failure:
        return None, failure.reason


def _measured(connection: PlannedConnection, cycles: Mapping[str, Mapping[str, float]]) -> Iterable[Measured]:
    for group in connection.groups:
        figures = cycles.get(group.name, {})
        if figures.get("count"):
            yield Measured(
                connection.name,
                group.name,
                int(figures["count"]),
                figures["duration_mean_s"],
                figures["duration_max_s"],
                group.cycle_s,
            )


def _latency_remark(
    connection: PlannedConnection, measured: Sequence[Measured], latency_s: float
) -> Iterable[str]:
    """Which latency would have predicted what is measured, when the one assumed was far from it.

    From the group with the most requests: with few, what other groups put in between weighs more.
    """
    groups = {group.name: group for group in connection.groups}
    polled = [item for item in measured if item.predicted_s is not None and groups[item.group].requests]
    if not polled:
        return
    most = max(polled, key=lambda item: len(groups[item.group].requests))
    count = len(groups[most.group].requests)
    predicted_s = most.predicted_s or 0.0
    found_s = latency_s + (most.mean_s - predicted_s) / count
    if predicted_s and not 1 / _FAR_OFF < most.mean_s / predicted_s < _FAR_OFF and found_s > 0.0001:
        yield (
            f"{connection.name} takes {duration_text(most.mean_s)} for what was predicted to take "
            f"{duration_text(predicted_s)}: it answers in about {duration_text(found_s)}, "
            f"so plan with --latency {found_s * 1000:.2g}ms"
        )


def _as_data(plan: Plan) -> dict[str, Any]:
    """The plan with the figures that follow from it."""
    data: dict[str, Any] = msgspec.to_builtins(plan)
    for connection, shown in zip(plan.connections, data["connections"], strict=True):
        shown |= {"tags": connection.tags, "use": connection.use}
        for group, inner in zip(connection.groups, shown["groups"], strict=True):
            inner |= {"needless": group.needless, "use": group.use}
    return data


def _print_plan(plan: Plan, comparison: Comparison, *, every_request: bool) -> None:
    by_group = {(item.connection, item.group): item for item in comparison.measured}
    uses = {link.name: link for link in plan.links}
    for connection in plan.connections:
        line = Text(connection.name, style="bold")
        line.append(f"  {connection.protocol}  {connection.endpoint}", style="not bold dim")
        if (link := uses.get(connection.link)) is not None:
            line.append(f"  busy {percent(connection.use)}", style=_style(link.use))
        out.print(line)
        out.print(_groups_table(connection, by_group))
        for group in connection.groups:
            if every_request or len(group.requests) <= _SHOWN_MAX:
                for request in group.requests:
                    out.print(f"  {group.name}: {_request_text(request)}", style="dim", markup=False)
        for note in connection.notes:
            out.print(f"  {note}", style="dim", markup=False)
        out.print()
    for link in plan.links:
        if len(link.connections) > 1:
            line = Text(f"{link.name}, shared by {', '.join(link.connections)}: ")
            line.append(f"busy {percent(link.use)}", style=_style(link.use))
            out.print(line)
    polled = any(link.use for link in plan.links)
    if polled:
        assumed = (
            f"predicted with {duration_text(plan.latency_s)} from each request to its answer (--latency)"
        )
        out.print(assumed, style="dim", markup=False)
    if comparison.difference is not None:
        out.print("\n[bold]difference to what runs[/]")
        print_difference(comparison.difference)
    elif comparison.difference_unknown:
        out.print(f"difference to what runs: {comparison.difference_unknown}", style="dim", markup=False)
    if comparison.unreachable:
        out.print(f"not compared with a running gateway: {comparison.unreachable}", style="dim", markup=False)
    for remark in comparison.remarks:
        out.print(remark, style="yellow", markup=False)
    for warning in plan.warnings:
        out.print("[bold yellow]warning:[/] ", end="")
        out.print(warning, markup=False)


def _groups_table(
    connection: PlannedConnection,
    measured: Mapping[tuple[str, str], Measured],
) -> Table:
    polled = any(group.cycle_s is not None for group in connection.groups)
    compared = any((connection.name, group.name) in measured for group in connection.groups)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  group", no_wrap=True)
    table.add_column("every", no_wrap=True, justify="right")
    units = list(dict.fromkeys(r.unit for group in connection.groups for r in group.requests))
    columns = ["tags", "requests" if polled else "subscriptions", *units]
    columns += ["needless", "cycle", "busy"] if polled else []
    columns += ["measured", "worst"] if compared else []
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right")
    for group in connection.groups:
        cells: list[str | Text] = [f"  {group.name}", duration_text(group.interval_s), str(group.tags)]
        cells.append(str(len(group.requests)))
        cells += [
            str(sum(request.count for request in group.requests if request.unit == unit)) for unit in units
        ]
        if polled:
            cells.append(str(group.needless))
            if group.cycle_s is None:
                cells += ["-", "-"]
            else:
                cells.append(duration_text(group.cycle_s))
                cells.append(Text(percent(group.use), style=_style(group.use)))
        if compared:
            item = measured.get((connection.name, group.name))
            cells += ["-", "-"] if item is None else [duration_text(item.mean_s), duration_text(item.worst_s)]
        table.add_row(*cells)
    return table


def _request_text(request: PlannedRequest) -> str:
    unit = request.unit.removesuffix("s") if request.count == 1 else request.unit
    text = f"{request.text} ({request.count} {unit}"
    if request.needless:
        text += f", {request.needless} of them needless"
    if request.duration_s is None:
        return f"{text})"
    tags = f"{request.tags} tag{'' if request.tags == 1 else 's'}"
    return f"{text}) for {tags}, {duration_text(request.duration_s)}"


def _style(use: float) -> str:
    return "bold red" if use > 1 else "bold yellow" if use >= USE_MAX else "green"
