"""How a difference between two configurations looks on a terminal."""

from __future__ import annotations

from rich.text import Text

from api.configuring import Change, Difference, Edit
from gateway.commands.show import out

#: Action -> its sign and how it is shown.
_SIGNS = {"add": ("+", "bold green"), "remove": ("-", "bold red"), "change": ("~", "bold yellow")}
#: Tags of one kind of change that are shown one by one.
_TAGS_SHOWN = 50


def print_difference(difference: Difference) -> None:
    """Everything that differs, what each change touches, and what needs a restart."""
    if not difference:
        out.print("no setting differs", style="dim")
        return
    tags = 0
    for change in difference.changes:
        tags += change.kind == "tag"
        if change.kind != "tag" or tags <= _TAGS_SHOWN:
            _print_change(change)
    if tags > _TAGS_SHOWN:
        out.print(f"  and {tags - _TAGS_SHOWN} more tags, which --json lists", style="dim")
    touches = difference.touches()
    if touches:
        out.print("touches:", style="bold")
        for line in touches:
            out.print(f"  {line}", markup=False)
    for change in difference.needs_restart:
        out.print("needs a restart: ", style="bold red", end="")
        out.print(change.needs_restart, markup=False)


def _print_change(change: Change) -> None:
    sign, style = _SIGNS[change.action]
    line = Text(f"{sign} ", style=style)
    line.append(f"{change.kind} {change.name}".strip(), style="bold")
    out.print(line)
    for edit in change.what:
        out.print(f"    {edit.key}  {_edit_text(change, edit)}", style="dim", markup=False)


def _edit_text(change: Change, edit: Edit) -> str:
    if edit.secret and edit.old == edit.new:
        return f"{edit.new}: what it leads to has changed"
    if change.action == "add" or edit.old is None:
        return str(edit.new)
    if edit.new is None:
        return f"{edit.old} -> not there"
    return f"{edit.old} -> {edit.new}"
