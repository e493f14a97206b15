"""`andon reconcile`: let a running gateway compare what memory, journal, database and broker hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from gateway.client import Client
from gateway.commands.show import out, print_json, table_of

#: A comparison of everything reads all the journal holds.
_TIMEOUT_S, _FULL_TIMEOUT_S = 120.0, 3600.0
_STYLE = {"repaired": "green", "told": "bold yellow", "not repaired": "bold red"}


def run_reconciliation(url: str, *, repair: bool, full: bool, json: bool) -> bool:
    """Print the report; whether no difference is left."""
    with Client(url, timeout_s=_FULL_TIMEOUT_S if full else _TIMEOUT_S) as client:
        report = client.post("/reconciliations", {"repair": repair, "full": full})
    if json:
        print_json(report)
    else:
        _show(report)
    return bool(report["agree"])


def _show(report: Mapping[str, Any]) -> None:
    table = table_of("part", "compared", "", right=("compared",))
    for part in report["parts"]:
        table.add_row(part["part"], f"{part['compared']:,}", Text(part["reason"] or "", style="yellow"))
    out.print(table)
    for found in report["differences"]:
        line = Text(f"{found['outcome']}  ", style=_STYLE.get(found["outcome"], ""))
        line.append(f"{found['kind']}  ", style="bold default")
        line.append(found["place"], style="default")
        out.print(line)
        out.print(f"    expected {found['expected']}", markup=False)
        out.print(f"    found    {found['found']}", markup=False)
        if found["outcome"] != "repaired":
            out.print(Text(f"    {found['remedy']}", style="dim"))
    if report["left_out"]:
        out.print(f"and {report['left_out']:,} more")
    if report["agree"] and any(
        str(part["reason"] or "").startswith("not compared") for part in report["parts"]
    ):
        out.print(Text("what was compared agrees; not all was", style="bold yellow"))
    elif report["agree"]:
        out.print(Text("all agree", style="bold green"))
    else:
        out.print(Text("differences are left", style="bold red"))
