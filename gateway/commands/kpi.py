"""`andon kpi`: what the time of an equipment was spent on, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from rich.table import Table

from gateway.client import Client
from gateway.commands.show import age_text, out, print_json, table_of
from gateway.commands.when import read_when, write_when
from statemodel.model import CATEGORIES

#: Figures in the table: heading, section of the answer, name, and whether it is a ratio.
_FIGURES = (
    ("availability", "iso22400", "availability", True),
    ("op. uptime", "e10", "operational_uptime", True),
    ("op. utilization", "e10", "operational_utilization", True),
    ("MTBF", "e10", "mtbf_productive_s", False),
    ("MTTR", "e10", "mttr_s", False),
)


def show_kpi(
    url: str,
    equipment: str,
    *,
    from_: str | None,
    to: str | None,
    bucket: str | None,
    tz: str | None,
    shifts: str | None,
    json: bool,
) -> None:
    """Print the figures of a range and of each bucket in it."""
    now = datetime.now(UTC)
    begin, end = read_when(from_, "--from", now), read_when(to, "--to", now)
    instants = {"from": begin, "to": end or (now if begin else None)}
    parameters = {name: write_when(at) for name, at in instants.items() if at is not None}
    words = {"bucket": bucket, "tz": tz, "shifts": shifts}
    parameters |= {name: word for name, word in words.items() if word is not None}
    with Client(url) as client:
        told = client.get(f"/equipment/{quote(equipment, safe='')}/kpi", **parameters)
    if json:
        print_json(told)
        return
    rows: list[Mapping[str, Any]] = [*told["items"], told["total"]]
    out.print(
        f"[bold]{told['equipment']}[/] from {told['from']} to {told['to']}, by the clocks of {told['tz']}"
    )
    out.print(_times_table(rows))
    out.print("")
    out.print(_figures_table(rows))
    if (seen := told["total"]["seen"]) is not None and seen < 1:
        out.print(
            f"{1 - seen:.1%} of the time was not seen or has no category; the figures are about the rest.",
            style="dim",
        )


def _times_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = [*CATEGORIES, "unqualified", "unknown"]
    shown = [name for name in columns if any(row["categories"][name] for row in rows)]
    table = _table(["", "time", *shown])
    for row in rows:
        spent = row["categories"]
        table.add_row(_label(row, rows), age_text(row["duration_s"]), *(_age(spent[name]) for name in shown))
    return table


def _figures_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(["", "failures", *(heading for heading, *_ in _FIGURES)])
    for row in rows:
        cells = [_figure(row[section][name], ratio=ratio) for _, section, name, ratio in _FIGURES]
        table.add_row(_label(row, rows), str(row["counts"]["failures_uptime"]), *cells)
    return table


def _table(columns: Sequence[str]) -> Table:
    return table_of(*columns, right=[column for column in columns if column])


def _label(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    if row is rows[-1]:
        return "all"
    begin = datetime.fromisoformat(row["local_from"]).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")
    return f"{begin} {row['name']}" if row["name"] else begin


def _age(seconds: float) -> str:
    return age_text(seconds) if seconds else "-"


def _figure(value: float | None, *, ratio: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if ratio else age_text(value)
