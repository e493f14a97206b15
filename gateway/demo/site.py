"""The files of the demo's configuration, written out with the addresses of this run."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path


def write_site(directory: Path, values: Mapping[str, str]) -> Path:
    """Write the demo's configuration into a folder; returns the path of its main file.

    `values` fills the places between `@` signs.
    """
    with as_file(files("gateway.demo") / "site") as source:
        shutil.copytree(source, directory, dirs_exist_ok=True)
    path = directory / "andon.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text, encoding="utf-8")
    return path


def port_or_any(preferred: int) -> int:
    """The preferred loopback port when it is free, else one the system chooses."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


def ports_free(first: int, count: int) -> bool:
    """Whether a row of loopback ports is free."""
    return all(port_or_any(port) == port for port in range(first, first + count))
