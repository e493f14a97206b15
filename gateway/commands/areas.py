"""Areas as they were typed: whether equipment lies in them, where somebody can tell.

One that is empty today may be meant for equipment to come, so it is taken, and said.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from gateway.access.offline import Offline
from gateway.access.remote import Remote
from gateway.client import NoAnswer, Refused
from gateway.commands.show import err
from gateway.commands.where import Where
from gateway.config.load import load
from gateway.config.problems import ConfigurationRefused, did_you_mean


def warn_of_empty(where: Where, accounts: Offline | Remote, areas: Sequence[str] | None) -> None:
    """Say on standard error in which of these areas no equipment lies."""
    if not areas:
        return
    paths = _paths(where, accounts)
    if paths is None:
        return
    places = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 2)}
    for area in (area.strip("/") for area in areas):
        if area not in places:
            err.print("[bold yellow]warning:[/] ", end="")
            err.print(Text(f'no equipment lies in the area "{area}"'))
            if hint := did_you_mean(area, sorted(places)):
                err.print(Text(f"    hint: {hint}", style="dim"))


def _paths(where: Where, accounts: Offline | Remote) -> list[str] | None:
    """The places of all equipment; None where nobody can tell now."""
    try:
        if isinstance(accounts, Remote):
            return accounts.places()
        if where.config is not None:
            return [one.path for one in load(where.config, secrets_of=()).configuration.equipment]
    except (ConfigurationRefused, NoAnswer, Refused):
        pass  # what was asked for is done; this was only a look
    return None
