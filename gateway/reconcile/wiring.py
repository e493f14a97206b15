"""Puts reconciliation together from the parts of a running gateway, and tells health and metrics of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from api.ports import HistoryUnavailable, TooOld
from connectors.base import Clock
from gateway.config.load import Loaded
from gateway.historian.connection import Readers
from gateway.historian.historian import Historian
from gateway.history import JoinedHistory
from gateway.journal import Journal
from gateway.publish.ownership import Ownership, Record
from gateway.publish.publisher import MqttPublisher
from gateway.reconcile.broker import BrokerPart
from gateway.reconcile.database import Database
from gateway.reconcile.kinds import KINDS
from gateway.reconcile.parts import (
    EventsPart,
    MemoryPart,
    NotCompared,
    Part,
    SamplesPart,
    SequencePart,
    StatesPart,
)
from gateway.reconcile.reconciler import Reconciler
from gateway.reconcile.twins import TwinWatch
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded


class Reconciling:
    """Reconciliation of one gateway: `run` is its one task, `reconciler` answers who asks."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        journal: Journal,
        clock: Clock,
        live: Callable[[], Sequence[EquipmentState]],
        memories: Callable[[], Sequence[EquipmentMemory]],
        historian: Historian | None,
        dsn: str,
        publishers: Sequence[MqttPublisher],
        record: Record,
        ownership: Ownership,
    ) -> None:
        self._clock, self._journal, self._record = clock, journal, record
        self._memory = MemoryPart(journal, live, memories)
        self.twins: TwinWatch | None = None
        self._asking: Readers | None = None
        self.reconciler = Reconciler((), loaded.configuration.gateway.reconcile, clock)
        self.exchange(loaded, historian, dsn, publishers, ownership)

    def exchange(
        self,
        loaded: Loaded,
        historian: Historian | None,
        dsn: str,
        publishers: Sequence[MqttPublisher],
        ownership: Ownership,
    ) -> None:
        """Compare what this configuration has, from now on. While it does not run."""
        configuration = loaded.configuration
        self.twins = self._asking = None
        parts: list[Part] = [self._memory]
        if historian is not None and configuration.historian is not None:
            parts += self._of_database(loaded, self._journal, historian, dsn)
        for publisher in publishers:
            settings = publisher.settings
            broker = BrokerPart(
                publisher,
                self._record,
                ownership,
                embedded=settings.embedded,
                connected=lambda publisher=publisher: publisher.status().connected,  # type: ignore[misc]
                broker=settings.name or "",
                clear_removed=settings.clear_removed,
            )
            parts.append(broker)
            publisher.twin_known = self._has_twin
        self.reconciler.exchange(parts, configuration.gateway.reconcile)

    def _of_database(
        self, loaded: Loaded, journal: Journal, historian: Historian, dsn: str
    ) -> Sequence[Part]:
        settings, gateway = loaded.configuration.historian, loaded.configuration.gateway.id
        assert settings is not None, "there is a historian"
        self._asking = asking = Readers(dsn, settings, gateway)
        self.twins = TwinWatch(
            Readers(dsn, settings, gateway),
            gateway=gateway,
            stream=journal.stream,
            clock=self._clock,
            ready=lambda: historian.status().connected,
            moved=lambda: historian.status().moved_by_others,
        )
        held = Database(asking, gateway, journal.stream)

        def database() -> Database:
            if not historian.status().connected:
                raise NotCompared("the historian is not connected to the database")
            return held

        kept_s = settings.retention.total_seconds() if settings.retention is not None else None
        return (
            StatesPart(journal, database),
            EventsPart(journal, database, self._clock, gentle=lambda: self.reconciler.gentle),
            SequencePart(journal, database),
            SamplesPart(journal, database, self._clock, kept_s=kept_s),
        )

    def _has_twin(self) -> bool:
        return self.twins is not None and bool(self.twins.others)

    async def run(self) -> None:
        """Reconcile by the clock and watch for twins until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.reconciler.run(), name="reconciler")
                if self.twins is not None:
                    group.create_task(self.twins.run(), name="twin-watch")
        finally:
            if self._asking is not None:
                self._asking.drop()

    def parts_of_health(self) -> Mapping[str, Mapping[str, Any]]:
        """What health shows of this."""
        found = {"reconcile": self.reconciler.trouble()}
        if self.twins is not None:
            found["identity"] = self.twins.trouble()
        return {name: {"ok": reason is None, "reason": reason} for name, reason in found.items()}

    def figures(self) -> Iterator[Metric]:
        """What metrics show of this; labels are the kinds of difference."""
        reconciler = self.reconciler
        yield CounterMetricFamily("andon_reconcile_runs", "Reconciliations.", value=reconciler.runs)
        yield CounterMetricFamily(
            "andon_reconcile_repaired", "Differences mended.", value=reconciler.repaired
        )
        yield CounterMetricFamily(
            "andon_reconcile_repairs_failed",
            "Differences that could not be mended.",
            value=reconciler.unrepaired,
        )
        differences = GaugeMetricFamily(
            "andon_reconcile_differences", "Differences left by the newest one.", labels=["kind"]
        )
        newest = next(iter(reconciler.reports()), None)
        counts = Counter(
            found.kind for found in (newest.differences if newest else ()) if found.outcome != "repaired"
        )
        for kind in KINDS:
            differences.add_metric([kind], counts[kind])
        yield differences
        if newest is not None:
            age_s = max(0.0, (self._clock.now() - newest.ended_at).total_seconds())
            took_s = max(0.0, (newest.ended_at - newest.started_at).total_seconds())
            away = sum(part.reason is not None and part.compared == 0 for part in newest.parts)
            yield GaugeMetricFamily("andon_reconcile_age_seconds", "Age of the newest one.", value=age_s)
            yield GaugeMetricFamily("andon_reconcile_duration_seconds", "What it took.", value=took_s)
            yield GaugeMetricFamily(
                "andon_reconcile_parts_not_compared", "Parts it could not compare.", value=away
            )
        if self.twins is not None:
            yield GaugeMetricFamily(
                "andon_other_gateways", "Others with this id on the database.", value=len(self.twins.others)
            )


class JournalRecord:
    """Journal, and behind it the database, as it is looked up what this gateway recorded."""

    def __init__(self, journal: Journal, history: JoinedHistory) -> None:
        self._journal, self._history = journal, history

    async def last_transitions(self) -> Mapping[str, Recorded]:
        """The newest of each equipment, also of equipment that is gone."""
        return await self._journal.last_transitions()

    async def event(self, seq: int) -> Recorded | None:
        """One event of the present stream, or None when it cannot be read."""
        try:
            return await self._history.event(seq)
        except (TooOld, HistoryUnavailable):
            return None
