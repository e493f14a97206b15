"""What a protocol offers to the registry, and what it may know of the process it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.base import Clock, Connector
from connectors.settings import ConnectionSettings


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
