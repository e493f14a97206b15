"""How the publisher is doing, for health, metrics and people. A value; knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from gateway.historian.values import Backlog


class SinkStatus(msgspec.Struct, frozen=True):
    """The publisher at one instant. Counts are since the start of the process.

    `alarm` is one word while a person has to act, else empty: `refused` (password, rights, certificate,
    version), `client_id_taken` (somebody else connects with our client id).
    """

    connected: bool
    last_error: str | None
    alarm: str
    retry_at: datetime | None
    """When the next attempt to connect is due, while there is no connection."""
    lag_events: int
    """Events in the journal that the broker has not acknowledged, or that are to be said again."""
    oldest_unsent_at: datetime | None
    """When the oldest of them was recorded, as far as is known."""
    in_flight: int
    """Messages sent and not yet acknowledged."""
    sent: int
    """Messages handed to the connection: events, states, tags and status."""
    acknowledged: int
    """Messages the broker acknowledged."""
    events: int
    """Events the broker acknowledged; one that was said again counts again."""
    too_large: int
    """Messages left out because the broker's Maximum Packet Size forbids them."""
    tags_merged: int
    """Tag values that were overtaken by a newer one before they could be sent."""
    connects: int
    """Connections the broker accepted."""

    refused: int = 0
    """Messages the broker refused, one by one, while it went on taking others."""
    backlog: Backlog | None = None
    """What gathered in an outage, how fast it goes out, and when it will be out; None when there is none."""
    unproven: int = 0
    """Retained topics of what is gone that are left alone, because they may be another gateway's by now."""
    warnings: tuple[str, ...] = ()
    """What people should know while all goes on: certificates that end soon or are of no use."""
    certificate_days_left: float | None = None
    """Days until our certificate ends; None without one."""
    broker_certificate_days_left: float | None = None
    """Days until the broker's ends; None while none was seen."""
    orders: Mapping[str, int] = {}
    """Commands that came over the broker, by what became of them; nothing while none are taken."""
