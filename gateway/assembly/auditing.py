"""The audit trail and what anchors it: opened after the journal, closed before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.audit.anchoring import ANCHORS_MAX, Anchoring
from gateway.audit.secrets import secrets_of
from gateway.audit.store import Limits
from gateway.audit.trail import AuditTrail
from gateway.config.load import Loaded
from gateway.historian.connection import Readers
from gateway.historian.migrate import SQL
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


def build_anchoring(
    trail: AuditTrail,
    loaded: Loaded,
    record: Record,
    pipeline: Pipeline,
    clock: Clock,
    *,
    dsn: str,
    stack: AsyncExitStack,
) -> Anchoring:
    """What tells the heads of the trail, and finds them again. `dsn`: of the database, empty for none."""
    configuration = loaded.configuration
    gateway, settings = configuration.gateway.id, configuration.historian
    readers = Readers(dsn, settings, gateway) if settings is not None and dsn else None
    if readers is not None:
        stack.callback(readers.drop)

    async def stored() -> Sequence[Mapping[str, Any]]:
        assert readers is not None, "asked only where there is a database"
        return [dict(row) for row in await readers.fetch(SQL["audit_anchors"], gateway, ANCHORS_MAX)]

    anchoring = Anchoring(
        trail,
        record=pipeline.record,
        journal=record.journal,
        stored=None if readers is None else stored,
        clock=clock,
        every_s=configuration.gateway.audit.anchor_every.total_seconds(),
    )
    trail.anchors = anchoring.gathered
    return anchoring


def figures(trail: AuditTrail, anchoring: Anchoring) -> Iterator[Metric]:
    """The trail in figures."""
    standing, verdict = trail.standing(), trail.verdict
    for name, help_, value in (
        ("record", "Number of the newest audit record.", trail.head().n),
        ("bytes", "Bytes of the audit trail.", 0 if standing is None else standing.bytes),
        ("writable", "1 while the audit trail can be written.", trail.available() is None),
        ("anchored_record", "Newest audit record anchored since the start.", max(0, anchoring.anchored_n)),
    ):
        yield GaugeMetricFamily(f"andon_audit_{name}", help_, value=float(value))
    if verdict is not None:
        yield GaugeMetricFamily("andon_audit_sound", "1 when last found sound.", value=float(verdict.sound))
    yield CounterMetricFamily(
        "andon_audit_refused", "Entries that could not be recorded.", value=trail.refused
    )
