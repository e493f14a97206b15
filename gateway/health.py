"""One honest word about the whole, and one about each part. Reads what the parts say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

from msgspec import structs

from connectors.base import Clock
from gateway.historian.values import Backlog
from gateway.supervisor import Supervised

#: The pipeline must have come round within this, or the process is not doing its work.
STALL_S_MAX = 15.0


class Sink(Protocol):
    """What health and metrics need to know of a historian or publisher."""

    @property
    def connected(self) -> bool:
        """Whether it reaches its database or broker."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why not, in words."""
        ...

    @property
    def lag_events(self) -> int:
        """Events it has yet to hand over."""
        ...

    @property
    def oldest_unsent_at(self) -> datetime | None:
        """When the oldest of them happened."""
        ...

    @property
    def backlog(self) -> Backlog | None:
        """What gathered during an outage and is handed over beside what comes now."""
        ...


class HealthReport:
    """Implements `api.ports.Health`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._came_round_s = clock.monotonic()
        self.supervised: Collection[Supervised] = ()
        self.sinks: Mapping[str, SinkOf] = {}
        #: Why the journal takes nothing at present, and what else is wrong with it; None when all is well.
        self.journal_full: Callable[[], str | None] = lambda: None
        self.journal_damage: Callable[[], str | None] = lambda: None
        #: Why the books of what was recorded do not add up.
        self.books: Callable[[], str | None] = lambda: None
        #: Further parts, each as the report shows it.
        self.more: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
        #: What is wrong with the audit trail.
        self.audit: Callable[[], str | None] = lambda: None
        #: What is wrong with the certificate of the API, or will be soon.
        self.certificate: Callable[[], str | None] = lambda: None
        #: Why the last snapshot came to nothing.
        self.snapshots: Callable[[], str | None] = lambda: None
        self.started = False

    def came_round(self) -> None:
        """The pipeline has finished a round."""
        self._came_round_s = self._clock.monotonic()

    def live(self) -> bool:
        """The process runs and its loops move.

        Waiting for room on the disk counts as moving: a restart would give none.
        """
        if self.journal_full() is not None:
            return True
        return self._clock.monotonic() - self._came_round_s < STALL_S_MAX

    def report(self) -> Mapping[str, Any]:
        """`ok`, `degraded` (something is away, nothing is lost) or `failing`, and each part's reason."""
        full = self.journal_full()
        trouble = full or self.journal_damage()
        parts: dict[str, dict[str, Any]] = {
            "pipeline": {"ok": self.live(), "reason": None if self.live() else "has not come round lately"},
            "journal": {"ok": trouble is None, "reason": trouble},
        }
        if (wrong := self.books()) is not None:
            parts["accounts"] = {"ok": False, "reason": wrong}
        if unaudited := self.audit():
            parts["audit"] = {"ok": False, "reason": unaudited}
        if certified := self.certificate():
            parts["api certificate"] = {"ok": False, "reason": certified}
        if untaken := self.snapshots():
            parts["snapshots"] = {"ok": False, "reason": untaken}
        parts.update({name: dict(part) for name, part in self.more().items()})
        for name, sink in self.sinks.items():
            status = sink.status()
            parts[name] = {
                # A broker that will not have one message is connected, and still not well.
                "ok": status.connected and status.last_error is None,
                "reason": status.last_error if status.connected else status.last_error or "not connected yet",
                "lag_events": status.lag_events,
                "oldest_unsent_at": status.oldest_unsent_at,
            }
            if warnings := getattr(status, "warnings", ()):
                parts[name]["warnings"] = list(warnings)
            if (backlog := status.backlog) is not None:
                parts[name]["backlog"] = structs.asdict(backlog)
        for supervised in self.supervised:
            up = supervised.link == "up"
            reason = None if up else supervised.last_error or "not connected yet"
            parts[f"connection {supervised.settings.name}"] = {"ok": up, "reason": reason}
        failing = full is not None or not self.live()
        degraded = any(not part["ok"] for part in parts.values())
        return {
            "status": "failing" if failing else "degraded" if degraded else "ok",
            "ready": self.started and not failing,
            "parts": parts,
        }


class SinkOf(Protocol):
    """Anything that can say how it is."""

    def status(self) -> Sink:
        """How it is now."""
        ...
