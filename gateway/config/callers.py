"""Who speaks when a command comes over a broker: one name and one set of rights for everybody there.

A broker does not tell who published a message. So all that come over one section count as one caller, who may
what is said here and no more; who may publish there is for the broker to say.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from api.access import Principal, Role
from connectors.settings import Name, Settings
from gateway.config.control import only_commanding


class CallerSettings(Settings):
    """Whom commands of a broker are from, for the rules, the audit trail and everybody who asks."""

    name: Name = "broker"
    """Name of the caller."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(only_commanding)] = (
        Role.OPERATOR,
    )
    """What the caller may do: `operator`, `engineer` or both."""
    areas: tuple[str, ...] | None = None
    """Beginnings of paths of equipment the caller may command. Unset: all."""

    def principal(self) -> Principal:
        """The caller as everybody else knows callers."""
        return Principal(
            self.name, "key", frozenset(self.roles), self.areas, credential=f"broker:{self.name}"
        )
