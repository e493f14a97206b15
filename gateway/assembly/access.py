"""Users, keys and sessions: opened after the audit trail, which every change of them leaves its record in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from connectors.base import Clock
from gateway.access.desk import AccessDesk
from gateway.access.opening import open_access
from gateway.access.trail import Records
from gateway.config.load import Loaded
from gateway.config.schema import ApiSettings


def build_access(loaded: Loaded, audit: Records, clock: Clock, stack: AsyncExitStack) -> AccessDesk:
    """Who is there; `stack` closes it. Without `[api]` nobody can come, and no first admin is made.

    Raises:
        StartFailed: its folder cannot be used.
    """
    api = loaded.configuration.api
    settings = api or ApiSettings()
    desk = open_access(
        loaded.data_dir,
        settings,
        clock,
        anonymous=settings.lets_in_anybody,
        audit=audit,
        people=api is not None,
    )
    stack.push_async_callback(desk.close)
    return desk


def follow_access(desk: AccessDesk) -> Callable[[Loaded], Callable[[], None]]:
    """See `gateway.assembly.exchange.Follower`. Sessions stay; the settings are others."""

    def follow(loaded: Loaded) -> Callable[[], None]:
        settings = loaded.configuration.api or ApiSettings()
        return lambda: desk.use(settings, anonymous=settings.lets_in_anybody)

    return follow


def parts_of_health(desk: AccessDesk) -> Mapping[str, Mapping[str, Any]]:
    """What an admin has to see to; nothing where all is well."""
    troubles = list(desk.troubles())
    return {"access": {"ok": False, "reason": "; ".join(troubles)}} if troubles else {}


def figures(desk: AccessDesk) -> Iterator[Metric]:
    """Who is there, in figures."""
    for name, help_, value in (
        ("sessions", "Sessions that are open.", len(desk.open_sessions)),
        ("users", "Users there are.", len(desk.keeper.users)),
        ("keys", "API keys there are.", len(desk.keeper.keys)),
    ):
        yield GaugeMetricFamily(f"andon_access_{name}", help_, value=float(value))
    refused = CounterMetricFamily("andon_access_refused", "Credentials that were refused.", labels=["kind"])
    for kind, count in desk.refused.items():
        refused.add_metric([kind], float(count))
    yield refused
    yield CounterMetricFamily(
        "andon_access_unrecorded", "Logins that could not be recorded.", value=float(desk.trail.missed)
    )
