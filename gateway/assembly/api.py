"""The API: what its ports are in this gateway, and the server that listens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from prometheus_client.core import Metric

from api.access import Access
from api.app import create_app
from api.configuring import Configuring
from api.ports import Ports
from api.server import Server
from api.settings import ApiSettings
from api.tls import Certificate, CertificateUnusable
from connectors.base import Clock
from gateway.accounts.report import AccountsReport
from gateway.assembly.auditing import Watch
from gateway.assembly.commanding import Commanding
from gateway.assembly.core import Core
from gateway.assembly.record import Record
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
    configuring: Configuring,
    watch: Watch,
    commanding: Commanding,
    serving: Callable[[], Iterable[Metric]],
    access: Access,
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
            more=lambda: chain(reconciling.figures(), watch.figures(), commanding.figures(), serving()),
            journal=lambda: words.figures(journal.stats(), journal.position),
            snapshots=record.snapshots.figures,
            clock=clock,
            version=version,
        ),
        version=version,
        accounts=accounts,
        reconciler=reconciling.reconciler,
        audit=watch.trail,
        compliance=watch.compliance,
        configuring=configuring,
        commands=commanding.desk,
        access=access,
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
    certificate = None
    if settings.tls is not None:
        try:
            certificate = Certificate(Path(settings.tls.cert_file), Path(settings.tls.key_file))
        except CertificateUnusable as error:
            raise StartFailed(
                f"the API cannot speak TLS: {error.reason}",
                hint="[api] tls names a PEM file of the certificate and one of its key, not encrypted",
            ) from error
    limits = ApiSettings(
        hosts=frozenset(map(str.lower, settings.hosts)) if settings.loopback else None,
        requests_per_s=float(settings.rate),
        requests_burst=settings.burst,
    )
    server = Server(
        create_app(ports, limits, now=clock.now, monotonic=clock.monotonic),
        host=host.strip("[]"),
        port=int(port),
        connections_max=settings.connections_max,
        connections_of_one_max=settings.address_connections_max,
        certificate=certificate,
    )
    try:
        await server.start(shared)
    except OSError as error:
        raise StartFailed(
            f"cannot listen on {settings.listen}: {error.strerror or error}",
            hint="is another gateway running? choose another [api] listen address",
        ) from error
    return server, f"{'http' if certificate is None else 'https'}://{host}:{server.port}"
