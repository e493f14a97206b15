"""What the historian is told and what it says of itself. Values only."""

from __future__ import annotations

from datetime import datetime

import msgspec


class TagMeta(msgspec.Struct, frozen=True):
    """What people should know of a recorded tag; the key beside it is its full id."""

    connection: str
    name: str
    unit: str = ""


class EquipmentMeta(msgspec.Struct, frozen=True):
    """What people should know of an equipment; the key beside it is its name."""

    path: str
    model: str


class ServerInfo(msgspec.Struct, frozen=True):
    """What kind of server it is. `timescale` is the extension's version, empty without it."""

    version: str
    version_number: int
    database: str
    timescale: str
    license: str
    durable: bool

    @property
    def policies(self) -> bool:
        """Whether the server compresses and drops chunks by itself."""
        return bool(self.timescale) and self.license == "timescale"

    def __str__(self) -> str:
        extension = f", TimescaleDB {self.timescale} ({self.license})" if self.timescale else ""
        return f"PostgreSQL {self.version}{extension}"


class Backlog(msgspec.Struct, frozen=True):
    """What gathered during an outage and is handed over now, beside what comes or before it."""

    events: int
    batches: int
    caught_up_at: datetime | None
    """When it will be written if all goes on as in the last seconds; None while that is not known."""
    events_per_s: float | None = None
    """How many events a second are handed over lately; None while that is not known, or not measured."""


class Progress(msgspec.Struct, frozen=True):
    """How far the journal has been written into the database. Counts are since the start of the process."""

    lag_events: int
    """Events in the journal the database does not hold yet."""
    lag_batches: int
    """Sample batches in the journal the database does not hold yet."""
    oldest_unsent_at: datetime | None
    """When the oldest of them was recorded."""
    backlog_events: int
    """Those of them that gathered during an outage and are written beside what comes now."""
    backlog_batches: int
    """The same of batches."""
    caught_up_at: datetime | None
    """When the backlog will be written if all goes on as in the last seconds; None without one."""
    events: int
    """Events written."""
    samples: int
    """Samples written."""
    set_aside: int
    """Events and samples the database would not take, kept with the reason in `andon.set_aside`."""
    missing: int
    """Events and batches the journal could not give any more, noted in `andon.set_aside`."""
    transactions: int
    """Transactions committed."""
    moved_by_others: int
    """Times the cursor in the database was not where this process had left it."""

    @property
    def backlog(self) -> Backlog | None:
        """The backlog in one value; None when there is none."""
        if not (self.backlog_events or self.backlog_batches):
            return None
        return Backlog(self.backlog_events, self.backlog_batches, self.caught_up_at)


class SinkStatus(Progress, frozen=True, kw_only=True):
    """The historian at one instant.

    `alarm` is `refused` while a person has to act (password, rights, version), else empty.
    """

    connected: bool
    last_error: str | None
    alarm: str
    retry_at: datetime | None
    """When the next attempt to connect is due, while there is no connection."""
    server: str
    """What answered last, empty before the first time."""
    connects: int
    """Connections made for writing."""
