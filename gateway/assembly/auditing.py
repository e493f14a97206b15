"""The audit trail, what anchors it, and the compliance rules: opened after the journal, closed before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from api.access import Access
from connectors.base import Clock
from gateway.assembly.addresses import Addresses
from gateway.assembly.record import Record
from gateway.audit.anchoring import ANCHORS_MAX, Anchoring
from gateway.audit.secrets import secrets_of
from gateway.audit.store import Limits
from gateway.audit.trail import AuditTrail
from gateway.compliance.judge import ComplianceJudge, Evidence
from gateway.config.load import Loaded
from gateway.historian.connection import Readers
from gateway.historian.migrate import SQL
from gateway.history import JoinedHistory
from gateway.pipeline import Pipeline


async def open_audit(loaded: Loaded, clock: Clock, stack: AsyncExitStack) -> AuditTrail:
    """Open the trail; `stack` closes it. One that cannot be written keeps nobody from starting."""
    settings = loaded.configuration.gateway.audit
    trail = AuditTrail(
        loaded.data_dir,
        gateway=loaded.configuration.gateway.id,
        clock=clock,
        limits=Limits(settings.segment_bytes, settings.bytes_max),
        secrets=secrets_of(loaded),
    )
    await trail.open()
    stack.push_async_callback(trail.close)
    return trail


class Watch:
    """Anchoring and compliance of one trail; `follow` takes another configuration."""

    def __init__(
        self,
        trail: AuditTrail,
        loaded: Loaded,
        record: Record,
        pipeline: Pipeline,
        history: JoinedHistory,
        addresses: Addresses,
        clock: Clock,
    ) -> None:
        configuration = loaded.configuration
        self.trail, self._loaded, self._addresses = trail, loaded, addresses
        self._secrets = set(secrets_of(loaded))
        self.anchoring = Anchoring(
            trail,
            record=pipeline.record,
            journal=record.journal,
            stored=self._stored,
            clock=clock,
            every_s=configuration.gateway.audit.anchor_every.total_seconds(),
        )
        trail.anchors = self.anchoring.gathered
        self._begun_at = clock.now()
        #: Users and keys, where there are any.
        self.access: Access | None = None
        evidence = Evidence(history, trail, lambda: self.access, self._anchored)
        self.compliance = ComplianceJudge(configuration.compliance, configuration.equipment, evidence, clock)

    def follow(self, loaded: Loaded) -> Callable[[], None]:
        """See `gateway.assembly.exchange.Follower`. Secrets of before stay hidden."""
        secrets = self._secrets | set(secrets_of(loaded))

        def turn() -> None:
            self._loaded, self._secrets = loaded, secrets
            self.trail.hide(tuple(secrets))
            self.compliance.follow(loaded.configuration.compliance, loaded.configuration.equipment)

        return turn

    def figures(self) -> Iterator[Metric]:
        """The trail and the rules in figures."""
        trail = self.trail
        standing, verdict = trail.standing(), trail.verdict
        for name, help_, value in (
            ("record", "Number of the newest audit record.", trail.head().n),
            ("bytes", "Bytes of the audit trail.", 0 if standing is None else standing.bytes),
            ("writable", "1 while the audit trail can be written.", trail.available() is None),
            ("anchored_record", "Newest audit record anchored.", max(0, self.anchoring.anchored_n)),
        ):
            yield GaugeMetricFamily(f"andon_audit_{name}", help_, value=float(value))
        if verdict is not None:
            yield GaugeMetricFamily(
                "andon_audit_sound", "1 when last found sound.", value=float(verdict.sound)
            )
        yield CounterMetricFamily(
            "andon_audit_refused", "Entries that could not be recorded.", value=trail.refused
        )
        violations = GaugeMetricFamily(
            "andon_compliance_violations", "Violations of the last day, not settled.", labels=["rule"]
        )
        for rule, count in self.compliance.counts().items():
            violations.add_metric([rule], count)
        yield violations
        yield CounterMetricFamily(
            "andon_compliance_unexpected_failures",
            "Times a rule could not be judged for a reason nobody foresaw.",
            value=self.compliance.surprises,
        )

    def parts_of_health(self) -> Mapping[str, Mapping[str, Any]]:
        """What health says of the rules, when there is something to say."""
        part = self.compliance.part_of_health()
        return {} if part is None else {"compliance": part}

    def _anchored(self) -> tuple[int, datetime]:
        return self.anchoring.anchored_n, self.anchoring.anchored_at or self._begun_at

    async def _stored(self) -> Sequence[Mapping[str, Any]]:
        """What the database holds of heads; asked so rarely that the connection is made for it."""
        configuration = self._loaded.configuration
        if configuration.historian is None or not self._addresses.database:
            return ()
        gateway = configuration.gateway.id
        readers = Readers(self._addresses.database, configuration.historian, gateway)
        try:
            return [dict(row) for row in await readers.fetch(SQL["audit_anchors"], gateway, ANCHORS_MAX)]
        finally:
            readers.drop()
