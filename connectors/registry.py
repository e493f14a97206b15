"""Which protocols there are. A new one is a folder beside this file and a line at the end of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from connectors.base import Clock, Connector
from connectors.settings import ConnectionSettings

#: Entry-point group in which other distributions offer protocols; each entry names a `Protocol`.
ENTRY_POINTS = "andon.connectors"


@dataclass(frozen=True)
class Environment:
    """What a connector may know of the process it runs in."""

    clock: Clock
    data_dir: Path
    """Where it may keep files of its own, under a folder of its protocol's name (certificates)."""


@dataclass(frozen=True)
class Protocol:
    """One protocol: its name in the configuration, its settings, how to build a connector from them.

    `csv_key` is the CSV column that holds the address (`tags_csv` serves every protocol).
    """

    name: str
    settings: type[ConnectionSettings]
    build: Callable[[Any, Environment], Connector]
    csv_key: str = "address"


@dataclass
class Registry:
    """The protocols one process knows. Tests make an empty one and add a toy."""

    protocols: dict[str, Protocol] = field(default_factory=dict)

    def add(self, protocol: Protocol) -> None:
        """Make a protocol known; a second one of the same name is an error of the installation."""
        if protocol.name in self.protocols:
            raise ValueError(f'protocol "{protocol.name}" is registered twice')
        self.protocols[protocol.name] = protocol


def default_registry() -> Registry:
    """The built-in protocols and those of installed plug-ins."""
    from connectors.modbus import PROTOCOL as MODBUS
    from connectors.opcua import PROTOCOL as OPCUA

    registry = Registry()
    for protocol in (MODBUS, OPCUA):
        registry.add(protocol)
    for entry in entry_points(group=ENTRY_POINTS):
        registry.add(entry.load())
    return registry
