"""Two timelines of an equipment as a picture: one cell a stretch of time, one lane a timeline.

A cell shows the state that held longest in it, by colour and by letter, so that the picture says the same
without colours. It decides nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from rich.text import Text

from statemodel.timeline import Span, within
from statemodel.types import UNKNOWN

#: Stack-light colour -> how a cell of it is painted.
_PAINT = {
    "green": "black on green",
    "amber": "black on yellow",
    "red": "white on red",
    "blue": "white on blue",
    "white": "black on white",
    "grey": "white on bright_black",
}
_LABELS = ("before", "after")
_MARGIN = max(map(len, _LABELS)) + 2


def picture(
    before: Sequence[Span], after: Sequence[Span], colours: Mapping[str, str], *, width: int
) -> list[Text]:
    """The lines of the picture: a scale, both lanes, where they differ, and what the letters mean.

    Both timelines cover the same range; `width` is in characters.
    """
    begin, end = before[0].begin, before[-1].end
    cells = max(1, width - _MARGIN)
    lanes = [_lane(spans, begin, end, cells) for spans in (before, after)]
    letters = _letters([state for lane in lanes for state in lane])
    lines = [_scale(begin, end, cells)]
    for label, lane in zip(_LABELS, lanes, strict=True):
        line = Text(f"{label:<{_MARGIN}}", style="dim")
        for state in lane:
            line.append(letters[state], style=_PAINT[colours.get(state, "grey")])
        lines.append(line)
    marks = "".join("^" if a != b else " " for a, b in zip(*lanes, strict=True))
    if marks.strip():
        lines.append(Text(" " * _MARGIN + marks.rstrip(), style="yellow"))
    legend = Text(" " * _MARGIN)
    for state, letter in letters.items():
        legend.append(letter, style=_PAINT[colours.get(state, "grey")]).append(f" {state}  ")
    return [*lines, legend]


def _lane(spans: Sequence[Span], begin: datetime, end: datetime, cells: int) -> list[str]:
    """The state that held longest in each cell; the earlier one when two held equally long."""
    length = end - begin
    lane = []
    for cell in range(cells):
        start, stop = begin + length * cell / cells, begin + length * (cell + 1) / cells
        spent: dict[str, timedelta] = {}
        for span in within(spans, start, max(stop, start + timedelta(microseconds=1)))[1]:
            spent[span.state] = spent.get(span.state, timedelta(0)) + span.duration
        lane.append(max(spent, key=lambda state: spent[state]) if spent else UNKNOWN)
    return lane


def _letters(states: Sequence[str]) -> dict[str, str]:
    """A character for each state, its own where it can be: unknown is a question mark."""
    letters: dict[str, str] = {}
    free = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
    for state in dict.fromkeys(states):
        taken = set(letters.values())
        if state == UNKNOWN:
            letters[state] = "?"
            continue
        own = [c for c in state + state.upper() + state.lower() if c.isalnum() and c.isascii()]
        choice = next((c for c in own if c not in taken), None)
        letters[state] = choice or next((c for c in free if c not in taken), "*")
    return letters


def _scale(begin: datetime, end: datetime, cells: int) -> Text:
    shape = "%H:%M:%S" if end - begin < timedelta(days=1) else "%m-%d %H:%M"
    left, right = begin.strftime(shape), end.strftime(shape)
    gap = max(1, cells - len(left) - len(right))
    return Text(f"{'UTC':<{_MARGIN}}{left}{' ' * gap}{right}", style="dim")
