"""Which protocols there are. A new one is a folder beside this file and a line here."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points

from connectors.modbus import PROTOCOL as MODBUS
from connectors.opcua import PROTOCOL as OPCUA
from connectors.protocol import Protocol

BUILT_IN = (MODBUS, OPCUA)
#: Entry-point group in which other distributions offer protocols; each entry names a `Protocol`.
ENTRY_POINTS = "andon.connectors"


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
    registry = Registry()
    for protocol in BUILT_IN:
        registry.add(protocol)
    for entry in entry_points(group=ENTRY_POINTS):
        registry.add(entry.load())
    return registry
