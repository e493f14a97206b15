"""What the API tells of reconciliations: the report, its parts, and the port that makes one.

A reconciliation compares what memory, journal, database and broker hold of one truth. Nothing here knows how.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class Difference(msgspec.Struct, frozen=True):
    """Two that should say the same and do not.

    `equipment` is empty where it is about none; `place` says which event, topic or row. `since` is when a
    reconciliation first saw it. `remedy` says what mends it; `harmless` is whether the gateway does that by
    itself. `outcome` is `told`, `repaired`, or `not repaired`: it was tried, and the difference is still
    there.
    """

    kind: str
    equipment: str
    place: str
    expected: str
    found: str
    since: datetime
    remedy: str
    harmless: bool
    outcome: str


class ComparedPart(msgspec.Struct, frozen=True):
    """One part of a reconciliation: how many things were compared, and why not all, or none, were."""

    part: str
    compared: int
    reason: str | None


class Reconciliation(msgspec.Struct, frozen=True):
    """The report of one reconciliation.

    `trigger` is `schedule` or `request`; `full` is whether all the journal holds was compared and not only
    what is newest. `agree` is true when no difference is left. `differences` are the first ones, `left_out`
    counts those beyond.
    """

    started_at: datetime
    ended_at: datetime
    trigger: str
    full: bool
    repair: bool
    agree: bool
    parts: Sequence[ComparedPart]
    differences: Sequence[Difference]
    left_out: int


class ReconciliationList(msgspec.Struct, frozen=True):
    """The newest reports, newest first."""

    items: Sequence[Reconciliation]


class ReconciliationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do: `repair` mends what can be mended without harm, `full` compares all the journal holds."""

    repair: bool = False
    full: bool = False


class AlreadyRunning(Exception):
    """A reconciliation is at work; there is one at a time."""


class Reconciler(Protocol):
    """Compares and mends on demand."""

    async def reconcile(self, *, repair: bool, full: bool) -> Reconciliation:
        """Compare now; returns the report.

        Raises:
            AlreadyRunning: one is at work.
        """
        ...

    def reports(self) -> Sequence[Reconciliation]:
        """The newest reports, newest first; bounded."""
        ...
