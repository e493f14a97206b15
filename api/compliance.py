"""Compliance as callers see it: the rules of the configuration, how they stand, where they were not kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Protocol

import msgspec

from statemodel.corrected import REASON_CHARS_MAX

Standing = Literal["kept", "violated", "unknown"]


class Violation(msgspec.Struct, frozen=True, rename={"from_": "from"}, kw_only=True):
    """A rule that was not kept. `id` is the same whenever and wherever it is evaluated.

    It is about `equipment` (at `path`), both empty when it is about the gateway itself, and about the time
    from `from` to `to`, null while it lasts. `settled_at` is when what was missing was done after all.
    `reason` says what is wrong, `recommendation` what to do.
    """

    id: str
    rule: str
    kind: str
    equipment: str
    path: str
    from_: datetime
    to: datetime | None
    settled_at: datetime | None
    reason: str
    recommendation: str


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and how it stands over the last day.

    `scope` is what it is about: an equipment, an area, or empty for everything. `violations` counts those of
    the last day that are not settled. `state` is `unknown`, with the `reason`, where it could not be judged.
    """

    name: str
    kind: str
    scope: str
    says: str
    state: Standing
    violations: int
    judged_at: datetime | None
    reason: str | None


class Found(msgspec.Struct, frozen=True):
    """Violations, oldest first. `incomplete` has a sentence for each rule that could not be judged."""

    items: Sequence[Violation]
    incomplete: Sequence[str]


class Compliance(Protocol):
    """Who judges the rules."""

    async def rules(self) -> Sequence[RuleView]:
        """All rules in the order of the configuration, judged now over the last day."""
        ...

    async def violations(self, from_: datetime, to: datetime) -> Found:
        """What was not kept between two instants."""
        ...


class WantedReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why an equipment was in a state: `seq` is that of the transition that led there."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_CHARS_MAX)]
