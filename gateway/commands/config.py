"""`andon config`: the configurations a gateway ran, what differs between them, and the way back."""

from __future__ import annotations

from api.configuring import MAIN_FILE
from gateway.changing.asking import AskedGateway
from gateway.commands.apply import NotSaid, confirm, show_outcome
from gateway.commands.differing import print_difference
from gateway.commands.show import out, print_json, table_of


def show_revisions(gateway: AskedGateway, *, json: bool) -> None:
    """List them, the newest first."""
    found = gateway.revisions()
    if json:
        for info in found:
            print_json(info)
        return
    table = table_of("revision", "at (UTC)", "by", "came from", "hash", "reason")
    for info in found:
        source = info.source if info.restored is None else f"{info.source} to {info.restored}"
        at = info.at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(info.number), at, info.author, source, info.hash[:12], info.reason)
    out.print(table)


def show_revision(gateway: AskedGateway, number: int, name: str | None, *, json: bool) -> None:
    """One of them with its files, or one file of it as it was written."""
    found = gateway.revision(number)
    if json:
        print_json(found)
        return
    if name is not None:
        if name not in found.files:
            known = ", ".join(found.files)
            raise NotSaid(f'revision {number} has no file "{name}"', hint=f"it has {known}")
        out.print(found.files[name], markup=False, end="")
        return
    info = found.info
    out.print(f"revision {info.number}, {info.at:%Y-%m-%d %H:%M:%S} UTC, by {info.author or 'nobody'}")
    if info.reason:
        out.print(info.reason, style="dim", markup=False)
    for file, text in found.files.items():
        lines = len(text.splitlines())
        out.print(f"  {file}  {lines} lines{'  (the configuration itself)' if file == MAIN_FILE else ''}")
    out.print("print one with --file", style="dim")


def show_difference(gateway: AskedGateway, old: int, new: int | None, *, json: bool) -> None:
    """What differs between two of them, or between one and what runs."""
    found = gateway.difference(old, new)
    if json:
        print_json(found)
        return
    print_difference(found)


def roll_back(gateway: AskedGateway, number: int, reason: str, *, yes: bool, json: bool) -> None:
    """Run an older one again, after a look at what that changes."""
    expected = gateway.running().hash
    planned = gateway.restore(number, reason, expected, dry_run=True)
    if planned.status == "unchanged":
        show_outcome(planned, json=json)
        return
    if not json:
        print_difference(planned.difference)
    confirm(yes=yes)
    show_outcome(gateway.restore(number, reason, expected, dry_run=False), json=json, difference=False)
