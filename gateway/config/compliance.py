"""Settings of compliance rules: what a plant promised itself, for an equipment, an area or everything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from connectors.settings import Duration, Name, Settings
from statemodel.model import CATEGORIES

RuleKind = Literal[
    "reason_within",
    "unknown_at_most",
    "illegal_moves",
    "command_verified",
    "password_age",
    "stale_keys",
    "audit_anchored",
]
Area = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")
]

#: Keys that only some kinds take, and which; the others are for all of them.
TAKES: Final[Mapping[str, frozenset[str]]] = {
    "reason_within": frozenset(("equipment", "area", "categories", "longer_than", "within")),
    "unknown_at_most": frozenset(("equipment", "area", "share", "per", "begins")),
    "illegal_moves": frozenset(("equipment", "area")),
    "command_verified": frozenset(("targets",)),
    "password_age": frozenset(("older_than",)),
    "stale_keys": frozenset(("older_than",)),
    "audit_anchored": frozenset(("within",)),
}
_SHORTEST: Final = timedelta(minutes=1)


class ComplianceSettings(Settings):
    """One rule. Without `equipment` and `area` it is about all equipment."""

    name: Name
    """Unique among the rules."""
    kind: RuleKind
    """What is promised."""
    equipment: Name | None = None
    """The one equipment it is about."""
    area: Area | None = None
    """The beginning of the paths it is about, cut at levels."""
    categories: tuple[str, ...] = ()
    """`reason_within`: categories of states that are a downtime; none means `unscheduled-down`."""
    longer_than: Duration = timedelta(minutes=5)
    """`reason_within`: downtimes that are shorter need no reason."""
    within: Duration = timedelta(minutes=30)
    """`reason_within`: from the beginning of the downtime. `audit_anchored`: since the head has moved."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """`unknown_at_most`: most of a shift that may be Unknown, 0 to 1."""
    per: Duration = timedelta(hours=8)
    """`unknown_at_most`: length of a shift; a day is a whole number of them."""
    begins: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "06:00"
    """`unknown_at_most`: when one of the shifts begins, in UTC."""
    targets: tuple[str, ...] = ()
    """`command_verified`: beginnings of the targets it is about; none means every command."""
    older_than: Duration = timedelta(days=90)
    """`stale_keys`: time without use. `password_age`: time without a change."""

    @property
    def downtimes(self) -> tuple[str, ...]:
        """Categories of states that are a downtime."""
        return self.categories or ("unscheduled-down",)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> ComplianceSettings:
        own = self.model_fields_set - {"name", "kind"} - TAKES[self.kind]
        if own:
            raise ValueError(f'a rule of the kind "{self.kind}" does not take {", ".join(sorted(own))}')
        if self.equipment is not None and self.area is not None:
            raise ValueError("is about an equipment or about an area, not both")
        if unknown := [one for one in self.categories if one not in CATEGORIES]:
            raise ValueError(f'"{unknown[0]}" is no category; there are {", ".join(CATEGORIES)}')
        if self.kind == "reason_within" and self.within < self.longer_than:
            raise ValueError(
                "within is counted from the beginning of the downtime: it is at least longer_than"
            )
        if self.per < timedelta(minutes=10) or timedelta(days=1) % self.per:
            raise ValueError(
                'per must be at least "10m", and a day a whole number of it, such as "8h" or "12h"'
            )
        if min(self.within, self.older_than) < _SHORTEST:
            raise ValueError('is shorter than "1m"')
        return self
