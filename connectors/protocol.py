"""What a protocol offers to the registry, and what it may know of the process it runs in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from connectors.base import Clock, Connector
from connectors.browsing import Finding, Query
from connectors.planned import PlannedConnection
from connectors.settings import ConnectionSettings

_T = TypeVar("_T")


class Shared:
    """What connectors of one process have in common (a serial line, a socket of several units), by key."""

    def __init__(self) -> None:
        self._things: dict[str, Any] = {}

    def of(self, key: str, make: Callable[[], _T]) -> _T:
        """The thing of this key, made by the first who asks. A key belongs to one type."""
        if key not in self._things:
            self._things[key] = make()
        thing: _T = self._things[key]
        return thing


@dataclass(frozen=True)
class Environment:
    """What a connector may know of the process it runs in."""

    clock: Clock
    data_dir: Path
    """Where it may keep files of its own, under a folder of its protocol's name (certificates)."""
    shared: Shared = field(default_factory=Shared)
    """One for all connectors of a process."""


#: How a protocol looks around in a device: connects as the settings say (their groups do not matter), yields
#: what it finds as it finds it, and disconnects, also when it is closed before its end. Raises as
#: `Connector.run` does. The `Query` has been found sound (`Query.matcher`); applying it is the protocol's.
Browse = Callable[[Any, Query, Environment], AsyncGenerator[Finding, None]]


#: What reading a connection costs, for `andon plan`: from its settings and the latency to assume, in seconds.
Planner = Callable[[Any, float], PlannedConnection]


@dataclass(frozen=True)
class Protocol:
    """One protocol: its name in the configuration, its settings, how to build a connector from them.

    `csv_key` is the CSV column that holds the address (`tags_csv` serves every protocol). `schemes` are those
    of the endpoints it speaks to, by which `andon browse ENDPOINT` finds it; `browse` is None where a device
    cannot be looked around in, `plan` where what reading costs cannot be said beforehand.
    """

    name: str
    settings: type[ConnectionSettings]
    build: Callable[[Any, Environment], Connector]
    csv_key: str = "address"
    schemes: tuple[str, ...] = ()
    browse: Browse | None = None
    plan: Planner | None = None
