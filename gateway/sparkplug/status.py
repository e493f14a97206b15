"""How an edge node is doing, for health, metrics and people. A value; knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from gateway.historian.values import Backlog


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An edge node at one instant. Counts are since the start of the process.

    `alarm` is one word while a person has to act, else empty, as with `[mqtt]`: `refused`, `client_id_taken`;
    and `unheard` (what is published does not come back), `name_taken` (somebody else has our group and name).
    """

    connected: bool
    """Whether hosts hear of what happens: the births have been said and the connection stands."""
    last_error: str | None
    alarm: str
    retry_at: datetime | None
    """When the next attempt to connect is due, while there is no connection."""
    lag_events: int
    """Events in the journal that no broker has read, or that are to be said again."""
    oldest_unsent_at: datetime | None
    """When the oldest of them was recorded, as far as is known."""
    backlog: Backlog | None
    """What gathered while no host heard it and is told as history, beside what comes now."""
    server: str
    """The broker that is used, or tried next. Never with user or password."""
    host: str
    """The primary host: `online` or `offline`, which it is until it is heard; empty without one."""
    bdseq: int | None
    """Number of the session that stands."""
    connects: int
    """Connections a broker accepted."""
    births: int
    """Births of the node: one for each connection, and one for each rebirth."""
    sent: int
    """Messages handed to the connection."""
    too_large: int
    """Messages left out because the broker's Maximum Packet Size forbids them."""
    historical: int
    """Values told afterwards, flagged as historical."""
    tags_merged: int
    """Values of tags that were overtaken by a newer one before they could be sent."""
    left_out: int
    """Events of dead devices that were too many to keep for their birth, and messages of devices whose birth
    is too large for the broker."""
    commands: Mapping[str, int]
    """Commands by what became of them; the words are few and always the same."""
    heard: str = ""
    """Whether the broker passes on our births, as far as it lets us hear them: `yes`, `no`, `unknown`; empty
    while that is to be seen."""
    foreign: int = 0
    """Births and deaths under our name that are somebody else's."""
    warnings: tuple[str, ...] = ()
    """What people should know while all goes on: certificates that end soon or are of no use, devices
    of which hosts do not hear all, since the broker takes no messages so large."""
    certificate_days_left: float | None = None
    """Days until our certificate ends; None without one."""
    broker_certificate_days_left: float | None = None
    """Days until the broker's certificate ends; None while none has been seen."""
