"""The API: what its ports are in this gateway, and the server that listens."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from itertools import chain

from api.app import create_app
from api.configuring import Configuring
from api.ports import Ports
from api.server import Server
from api.settings import ApiSettings
from connectors.base import Clock
from gateway.accounts.report import AccountsReport
from gateway.assembly.auditing import figures as audit_figures
from gateway.assembly.core import Core
from gateway.assembly.record import Record
from gateway.audit.anchoring import Anchoring
from gateway.audit.trail import AuditTrail
from gateway.config.load import Loaded
from gateway.correcting import CorrectionDesk
from gateway.errors import StartFailed
from gateway.health import HealthReport, SinkOf
from gateway.history import JoinedHistory
from gateway.journal import words
from gateway.metrics import Exposition
from gateway.models import ModelCatalogue
from gateway.reconcile.wiring import Reconciling
from gateway.supervisor import Supervised
from gateway.tag_history import JoinedTagHistory


def build_ports(
    loaded: Loaded,
    record: Record,
    core: Core,
    clock: Clock,
    *,
    history: JoinedHistory,
    tag_history: JoinedTagHistory,
    models: ModelCatalogue,
    desk: CorrectionDesk,
    health: HealthReport,
    accounts: AccountsReport,
    supervised: Mapping[str, Supervised],
    sinks: Mapping[str, SinkOf],
    reconciling: Reconciling,
    audit: AuditTrail,
    configuring: Configuring,
    anchoring: Anchoring,
    version: str,
) -> Ports:
    """What the API asks."""
    journal = record.journal
    return Ports(
        live=core.live,
        history=history,
        tag_history=tag_history,
        models=models,
        health=health,
        metrics=Exposition(
            pipeline=core.pipeline,
            supervised=supervised.values(),
            sinks=sinks,
            accounts=accounts,
            more=lambda: chain(reconciling.figures(), audit_figures(audit, anchoring)),
            journal=lambda: words.figures(journal.stats(), journal.position),
            snapshots=record.snapshots.figures,
            clock=clock,
            version=version,
        ),
        version=version,
        accounts=accounts,
        reconciler=reconciling.reconciler,
        audit=audit,
        configuring=configuring,
        corrections=desk,
    )


async def listen(
    loaded: Loaded, ports: Ports, clock: Clock, shared: socket.socket | None = None
) -> tuple[Server, str] | None:
    """Serve the ports as `[api]` says; the server and its address, or None without that section. Where the
    address stays as it was, `shared` is the socket of the server that is there already.

    Raises:
        StartFailed: the address cannot be listened on.
    """
    settings = loaded.configuration.api
    if settings is None:
        return None
    host, _, port = settings.listen.rpartition(":")
    server = Server(create_app(ports, ApiSettings(), now=clock.now), host=host.strip("[]"), port=int(port))
    try:
        await server.start(shared)
    except OSError as error:
        raise StartFailed(
            f"cannot listen on {settings.listen}: {error.strerror or error}",
            hint="is another gateway running? choose another [api] listen address",
        ) from error
    return server, f"http://{host}:{server.port}"
