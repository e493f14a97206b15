"""A figure: what was measured, against which floor, and how it is shown and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

_NUMBERS = ("value", "goal", "floor", "ratio")


class Figure(msgspec.Struct, frozen=True):
    """One measured number. `floor` is what no program could beat in the same run or by arithmetic; `ratio`
    is value over floor. `peers` are the same figure of other products, measured elsewhere, by name. `goal` is
    what this gateway wants to reach."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    peers: Mapping[str, float] = {}
    goal: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor if self.floor else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def show(figures: Sequence[Figure]) -> None:
    """One table for people."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("figure", "value", "unit", "goal", "floor", "ratio", "the floor is", "peers"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:,.2f}",
            figure.unit,
            "" if figure.goal is None else f"{figure.goal:,.2f}",
            "" if figure.floor is None else f"{figure.floor:,.2f}",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.floor_is,
            ", ".join(f"{name} {value:g}" for name, value in figure.peers.items()),
        )
    Console(width=200, highlight=False).print(table)


def keep(figures: Sequence[Figure], path: Path) -> None:
    """One JSON object a line for programs; the file is replaced."""
    lines = [{**msgspec.to_builtins(figure), "ratio": figure.ratio} for figure in figures]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
