"""A process that changes a configuration and is killed at one of its steps: `killed.py FOLDER STEP`.

Counted is every call that makes something durable or gives a file its name. Ends by SIGKILL at the step, or
well with the number of steps there are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.configuring import MAIN_FILE, Wish
from gateway.changing.beginning import begin
from gateway.changing.carrying import Carrier
from gateway.changing.desk import ChangeDesk
from gateway.changing.revisions import Revisions
from tests.gateway.changing.changing_site import ADA, FixedClock, NotedAudit, NotedExchange

CALLS = ("rename", "replace", "fsync", "unlink", "fchmod", "mkdir")


def main(folder: Path, step: int) -> None:
    """Start, apply the files below `folder/new`, and die on the way."""
    path = folder / "line-1.toml"
    files = {
        (MAIN_FILE if name == "line-1.toml" else name): (folder / "new" / name).read_text()
        for name in ("line-1.toml", "lists/slow.csv", "oven.toml")
    }
    loaded = begin(path)
    kept = Revisions(loaded.data_dir)
    kept.open()
    carrier = Carrier(NotedExchange(loaded), kept, FixedClock(), path, NotedAudit())  # type: ignore[arg-type]
    carrier.note_start()
    desk = ChangeDesk(carrier, {})
    steps = _count(step)
    wish = Wish(files, "a reason", desk.running().hash)
    asyncio.run(desk.apply(wish, ADA))
    sys.stdout.write(str(len(steps)))


def _count(step: int) -> list[str]:
    steps: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            steps.append(name)
            if len(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    return steps


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
