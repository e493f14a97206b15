"""`andon wipe`: a gateway is taken out of service, and nothing it made stays on the machine."""

from __future__ import annotations

from pathlib import Path

import typer

from gateway.commands.show import err, out, print_json
from gateway.commands.when import WrongArgument
from gateway.snapshots.contents import Contents, contents_of
from gateway.wiping import ours, wipe


def wipe_gateway(config: Path, *, yes: bool, json: bool) -> None:
    """Ask for the id of the gateway, remove what it made, say what is left.

    Raises:
        WrongArgument: another id was typed; nothing was touched.
    """
    contents = contents_of(config, keys=False, secrets=False)
    if not yes:
        _ask(contents)
    done = wipe(contents)
    if json:
        print_json(done)
        return
    out.print(f"removed from {done.data_dir}: {', '.join(done.removed) or 'nothing, there was nothing'}")
    for left in done.left:
        out.print(f"    [dim]left:[/] {left}", highlight=False)


def _ask(contents: Contents) -> None:
    names = ", ".join(path.name for path in ours(contents.data_dir)) or "nothing"
    err.print(f'this removes what the gateway "{contents.gateway}" has in {contents.data_dir}: {names}')
    err.print("its journal, users, keys and audit trail cannot be had back; a backup is made before")
    typed = typer.prompt(
        "type the id of the gateway to remove it all", err=True, default="", show_default=False
    )
    if typed.strip() != contents.gateway:
        raise WrongArgument(
            f'that is not the id of the gateway, "{contents.gateway}"; nothing was touched',
            hint="type it as the configuration has it, or say --yes",
        )
