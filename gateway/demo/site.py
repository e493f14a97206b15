"""The files of the demo's configuration, written out with the addresses of this run."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

MAIN = "andon.toml"

#: Where `andon simulate` puts its PLCs when nothing else is asked for, in the order of its servers.
PLANT_PORTS = {"opcua-a": 48400, "opcua-b": 48401, "modbus-a": 15020, "modbus-b": 15021}
_OTHER_BASES = range(48410, 48900, 10)
_ENDPOINT = re.compile(r'^endpoint = "[a-z.]+://127\.0\.0\.1:(\d+)"', re.MULTILINE)


def write_site(directory: Path, values: Mapping[str, str]) -> Path:
    """Write the demo's configuration into a folder; returns the path of its main file.

    `values` fills the places between `@` signs.
    """
    with as_file(files("gateway.demo") / "site") as source:
        shutil.copytree(source, directory, dirs_exist_ok=True)
    path = directory / MAIN
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text, encoding="utf-8")
    return path


def choose_port_base() -> int | None:
    """Where the plant can listen: None for its usual ports, else the first of a free row.

    Raises:
        OSError: no row is free.
    """
    if all(is_free(port) for port in PLANT_PORTS.values()):
        return None
    for base in _OTHER_BASES:
        if all(is_free(base + place) for place in range(len(PLANT_PORTS))):
            return base
    raise OSError("no ports are free for the simulated PLCs")


def kept_port_base(path: Path) -> int | None:
    """Where the plant of a kept configuration listened, read from its endpoints.

    Raises:
        ValueError: the endpoints are no longer those of one simulated plant.
    """
    ports = [int(port) for port in _ENDPOINT.findall(path.read_text(encoding="utf-8"))]
    if ports == list(PLANT_PORTS.values()):
        return None
    if ports and ports == list(range(ports[0], ports[0] + len(PLANT_PORTS))):
        return ports[0]
    raise ValueError("its connections are no longer those of the demo plant")


def is_free(port: int) -> bool:
    """Whether a loopback port can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_or_any(preferred: int) -> int:
    """The preferred loopback port when it is free, else one the system chooses."""
    if is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
