"""Commands to machines: the desk with all it asks and all it sends through, and how it follows a change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from connectors.base import Clock, Connector
from gateway.config.load import Loaded
from gateway.control.desk import CommandDesk
from gateway.control.ledger import PLACE, SqliteLedger
from gateway.control.packml import PackmlCarrier
from gateway.control.plant import LivePlant, watched
from gateway.control.readings import Readings
from gateway.control.settling import Trail
from gateway.control.tags import TagCarrier
from gateway.live import Live
from gateway.writing import Writing
from statemodel.records import Recorded
from statemodel.types import CommandStatus, CommandTold


class Commanding:
    """The desk and what is around it. `run` beside the gateway, `stop` before the connections end."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        live: Live,
        audit: Trail,
        record: Callable[[CommandTold], Awaitable[Recorded]],
        connectors: Callable[[], Mapping[str, Connector]],
        clock: Clock,
    ) -> None:
        settings = loaded.configuration
        self._specs = {spec.name: spec for spec in loaded.equipment}
        self.readings = Readings(clock, watched(settings.commands, settings.connections))
        self._plant = LivePlant(live, self.readings, settings.connections, loaded.equipment)
        self._ledger = SqliteLedger(loaded.data_dir / PLACE)
        write = Writing(connectors).write
        self._packml = PackmlCarrier(live, self.readings, write, clock, lambda: self._specs)
        self.desk = CommandDesk(
            settings.commands,
            plant=self._plant,
            ledger=self._ledger,
            audit=audit,
            record=record,
            carriers={
                "tag": TagCarrier(write, self.readings, clock, self._plant.place),
                "packml": self._packml,
            },
            clock=clock,
        )
        self._settings = settings.commands

    async def run(self) -> None:
        """Keep the desk in order, for ever."""
        await self.desk.run()

    async def stop(self) -> None:
        """Take nothing more, let what is under way end, close the ledger."""
        await self.desk.stop()
        await self._ledger.close()

    def follow(self, loaded: Loaded) -> Callable[[], None]:
        """As `gateway.assembly.exchange.Follower`."""
        settings = loaded.configuration

        def turn() -> None:
            self._specs = {spec.name: spec for spec in loaded.equipment}
            self.readings.watch(watched(settings.commands, settings.connections))
            self._plant.follow(settings.connections, loaded.equipment)
            self.desk.follow(settings.commands)
            self._settings = settings.commands

        return turn

    def part_of_health(self) -> Mapping[str, Mapping[str, Any]]:
        """How commands are, where they are on or something is wrong."""
        desk = self.desk
        found = [*desk.alarms.values(), *([desk.ledger_trouble] if desk.ledger_trouble else ())]
        found += tuple(self._ledger.unreadable.values())[:1]
        if self._settings.enabled:
            rules = {rule.equipment: rule.packml for rule in self._settings.allow if rule.packml is not None}
            found += self._packml.standing(rules).values()
        if not found and not self._settings.enabled:
            return {}
        return {"commands": {"ok": not found, "reason": "; ".join(found[:3]) or None}}

    def figures(self) -> Iterator[Metric]:
        """Commands in figures."""
        counted = CounterMetricFamily(
            "andon_commands", "Commands that have come to an end, by how.", labels=["result"]
        )
        for status in CommandStatus:
            if status is not CommandStatus.ACCEPTED:
                counted.add_metric([status.value], self.desk.counts[status])
        yield counted
        yield GaugeMetricFamily(
            "andon_commands_enabled", "1 while commands are on.", value=int(self._settings.enabled)
        )
        yield GaugeMetricFamily(
            "andon_commands_alarms",
            "Tags and equipment whose last command ended as mismatch or unknown.",
            value=len(self.desk.alarms),
        )
        yield GaugeMetricFamily(
            "andon_commands_waiting", "Commands that wait for a second person.", value=self.desk.waiting
        )
