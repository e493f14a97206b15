"""What the server of the API says of itself: its certificate, its connections, what it turned away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.server import Server


def certificate_trouble(server: Server | None, now: datetime) -> str | None:
    """What people should do about the certificate, or None."""
    certificate = None if server is None else server.certificate
    return None if certificate is None else certificate.trouble(now)


def serving_figures(server: Server | None, now: datetime) -> Iterator[Metric]:
    """The server in figures."""
    if server is None:
        return
    if server.certificate is not None:
        left_s = (server.certificate.expires_at - now).total_seconds()
        yield GaugeMetricFamily(
            "andon_api_certificate_expires_seconds",
            "Time until the certificate of the API ends.",
            value=left_s,
        )
    yield GaugeMetricFamily(
        "andon_api_connections", "Connections of the API.", value=float(server.connections.by_address.total())
    )
    refused = CounterMetricFamily(
        "andon_api_refused", "Connections and requests turned away by a limit.", labels=("limit",)
    )
    refused.add_metric(("connections",), float(server.connections.refused_count))
    refused.add_metric(("rate",), float(server.refused_count))
    yield refused
