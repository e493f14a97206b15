"""How things look on a terminal: colours of states, tables, problems. Prints; decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.config.problems import ConfigurationRefused
from gateway.errors import GatewayError

#: Stack-light colour -> how a terminal shows it.
STYLE = {
    "green": "bold green",
    "amber": "bold yellow",
    "red": "bold red",
    "blue": "bold blue",
    "white": "bold white",
    "grey": "dim",
}

#: Columns where there is no terminal to ask: wide enough that pipes and files lose nothing.
_WIDTH = None if sys.stdout.isatty() else 200

_UNITS = ("B", "kB", "MB", "GB", "TB")

#: Problems of a configuration that are printed; the rest is counted.
PROBLEMS_SHOWN = 100

out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on one line, flushed so that pipes see it at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_failure(failure: GatewayError) -> None:
    """Why the command ends, with every problem of a configuration."""
    if isinstance(failure, ConfigurationRefused):
        for problem in failure.problems[:PROBLEMS_SHOWN]:
            place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
            where = f" [bold]{escape(problem.path)}[/]:" if problem.path else ""
            err.print(f"[cyan]{escape(place)}[/]:{where} {escape(problem.reason)}")
            if problem.hint:
                err.print(f"    [dim]hint:[/] {escape(problem.hint)}")
        if (more := len(failure.problems) - PROBLEMS_SHOWN) > 0:
            err.print(f"[dim]and {more:,} more, which `andon check --json` lists[/]")
        err.print(f"[bold red]{escape(failure.reason)}[/]")
        return
    err.print(f"[bold red]andon:[/] {escape(failure.reason)}")
    if failure.hint:
        err.print(f"    [dim]hint:[/] {escape(failure.hint)}")


def table_of(*heads: str, right: Container[str] = (), wrapped: Container[str] = ()) -> Table:
    """An empty table without lines. `right` are aligned there, `wrapped` may take several lines."""
    empty = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        empty.add_column(head, no_wrap=head not in wrapped, justify="right" if head in right else "left")
    return empty


def size_text(count: float) -> str:
    """A size in decimal units: 1.5 MB."""
    place = 0
    while count >= 999.5 and place < len(_UNITS) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.3g} {_UNITS[place]}"


def state_table(
    states: Iterable[Mapping[str, Any]],
    colours: Mapping[tuple[str, str], str],
    why: Mapping[str, str],
    now: datetime,
) -> Table:
    """Equipment, state in its colour, since when, why. `colours` by (model, state); `why` by equipment."""
    table = table_of("equipment", "state", "since (UTC)", "for", "why")
    for state in states:
        since = parse_time(state["since"])
        style = STYLE[colours.get((state["model"], state["state"]), "grey")]
        table.add_row(
            state["equipment"],
            Text(f"● {state['state']}", style=style),
            since.strftime("%H:%M:%S.%f")[:-3],
            age_text((now - since).total_seconds()),
            state["reason"] or why.get(state["equipment"], ""),
        )
    return table


def age_text(seconds: float) -> str:
    """A length of time as people say it."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def parse_time(value: str | datetime) -> datetime:
    """An RFC 3339 time as aware UTC."""
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


def event_line(
    event: Mapping[str, Any], colours: Mapping[tuple[str, str], str], *, dated: bool = False
) -> Text:
    """One event on one line; `dated` with the day, for what need not be of today."""
    line = Text()
    line.append(f"{event['seq']:>7} ", style="dim")
    at = parse_time(event["at"])
    line.append(f"{at:%Y-%m-%d} " if dated else "")
    line.append(at.strftime("%H:%M:%S.%f")[:-3] + "  ")
    if event["type"] == "transition":
        style = STYLE[colours.get((event["model"], event["to_state"]), "grey")]
        line.append(f"{event['equipment']:<16}", style="bold")
        line.append(f"{event['from_state']} → ")
        line.append(event["to_state"], style=style)
        line.append(f"  after {age_text(event['duration_s'])}", style="dim")
        if event["conformance"] != "legal":
            skipped = f" over {', '.join(event['skipped'])}" if event["skipped"] else ""
            line.append(f"  [{event['conformance']}{skipped}]", style="yellow")
        if text := event["cause"].get("text"):
            line.append(f"  {text}", style="dim")
    elif event["type"] == "rejection":
        line.append(f"{event['equipment']:<16}", style="bold")
        line.append(
            f"stays {event['state']}, {event['attempted']} refused: {event['reason']}", style="yellow"
        )
    elif event["type"] == "device_event":
        _append_device_event(line, event)
    elif event["type"] == "correction":
        _append_correction(line, event)
    elif event["type"] == "command":
        _append_command(line, event)
    elif event["type"] == "audit_anchor":
        line.append("audit trail     ", style="bold")
        line.append(f"anchored at record {event['n']}", style="dim")
    else:
        line.append(f"{event['connection']:<16}", style="bold")
        line.append(
            f"{event['type'].replace('_', ' ')}",
            style="red" if event["type"] != "source_restored" else "green",
        )
        if event["reason"]:
            line.append(f"  {event['reason']}", style="dim")
    return line


#: From this severity on an alarm is shown in red; the standard's bands call it high (OPC 10000-9).
_HIGH = 601


def _append_correction(line: Text, event: Mapping[str, Any]) -> None:
    line.append(f"{event['equipment']:<16}", style="bold")
    if event["withdraws"] is not None:
        line.append(f"correction {event['withdraws']} withdrawn", style="yellow")
    else:
        states = ", ".join(dict.fromkeys(one["state"] for one in event["intervals"]))
        lasted = (parse_time(event["until"]) - parse_time(event["at"])).total_seconds()
        line.append(f"was {states}", style="yellow")
        line.append(f" within {age_text(lasted)}")
    line.append(f"  {_plain(event['reason'])}, says {_plain(event['author'])}", style="dim")


_COMMAND_STYLE = {"accepted": "dim", "verified": "green", "written": "green", "refused": "yellow"}


def _append_command(line: Text, event: Mapping[str, Any]) -> None:
    line.append(f"{event['equipment'] or event['tag'].partition('/')[0]:<16}", style="bold")
    what = f"{_plain(event['tag'])} = {_plain(str(event['value']))}" if event["tag"] else event["command"]
    line.append(f"command {_plain(what)} ")
    line.append(event["status"], style=_COMMAND_STYLE.get(event["status"], "red"))
    if event["dry_run"]:
        line.append(" (dry run)", style="dim")
    if event["reason"]:
        line.append(f"  {_plain(event['reason'])}", style="dim")
    line.append(f"  says {_plain(event['requested_by'])}", style="dim")


def _append_device_event(line: Text, event: Mapping[str, Any]) -> None:
    severity, active = event["severity"], event["active"]
    line.append(f"{event['connection']:<16}", style="bold")
    line.append(_plain(event["condition"] or event["kind"]))
    if active is not None:
        high = "red" if severity is not None and severity >= _HIGH else "yellow"
        line.append(" active" if active else " inactive", style=high if active else "green")
    if event["acknowledged"] is not None:
        line.append(" acknowledged" if event["acknowledged"] else " unacknowledged", style="dim")
    source = _plain(event["source"])
    line.append(f"  {source}: " if source else "  ")
    line.append(_plain(event["message"]))
    if severity is not None:
        line.append(f"  severity {severity}", style="dim")
    if event["refreshed"]:
        line.append("  [told anew]", style="dim")


def _plain(text: str) -> str:
    """Text of a device on one line, without what a terminal would take for orders."""
    return "".join(char if char.isprintable() else " " for char in text)
