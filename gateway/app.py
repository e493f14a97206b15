"""The process: one gateway, from a loaded configuration until it is told to stop.

What it is made of is built, started and stopped in `gateway.assembly`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version

import structlog

from connectors.base import Clock
from gateway.assembly.addresses import Addresses
from gateway.assembly.changing import Changing
from gateway.assembly.exchange import Exchange
from gateway.assembly.running import Running
from gateway.clock import SystemClock
from gateway.config.load import Loaded
from gateway.health import HealthReport
from gateway.live import Live

_log = structlog.get_logger("andon")


@dataclass
class Gateway:
    """One gateway. `run` it once; it lives until `stop` is set or a part that must not fail has failed."""

    loaded: Loaded
    clock: Clock = field(default_factory=SystemClock)
    started: Callable[[Gateway], None] | None = None
    addresses: Addresses = field(default_factory=Addresses)
    live: Live = field(init=False)
    health: HealthReport = field(init=False)
    exchange: Exchange = field(init=False)
    changing: Changing = field(init=False)
    _read_again: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        """Start, work, stop.

        Raises:
            GatewayError: a part could not start, or the journal failed; the exit code says which.
        """
        async with AsyncExitStack() as stack:
            running = Running(self.loaded, self.clock, installed_version("andon-gateway"), stack)
            running.addresses = self.addresses
            await running.build()
            self.live, self.health, self.exchange = running.core.live, running.health, running.exchange
            self.changing = running.changing
            if self._read_again:
                self.changing.read_again()
            await running.work(stop, self._started)
        _log.info("stopped", gateway=self.loaded.configuration.gateway.id)

    def read_again(self) -> None:
        """Have the files of the configuration read again and applied, as soon as that is possible."""
        self._read_again = True
        if hasattr(self, "changing"):
            self.changing.read_again()

    def _started(self) -> None:
        if self.started is not None:
            self.started(self)
