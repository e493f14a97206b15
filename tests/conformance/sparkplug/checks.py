"""All checks; importing the families enters them. See `judging` for what a check is."""

from __future__ import annotations

from tests.conformance.sparkplug import (
    checks_births,
    checks_commands,
    checks_data,
    checks_host,
    checks_payload,
    checks_session,
    checks_topics,
)
from tests.conformance.sparkplug.judging import CHECKS, Check

#: The families, in the order of the report.
FAMILIES = (
    checks_topics,
    checks_session,
    checks_births,
    checks_data,
    checks_payload,
    checks_host,
    checks_commands,
)


def checks() -> dict[str, Check]:
    """Every check by its name."""
    return dict(CHECKS)


def proving(id_: str, *, guards: bool = False) -> list[str]:
    """The names of the checks that prove a rule (or, guards, that it does not apply)."""
    return [name for name, check in CHECKS.items() if id_ in check.ids and check.guard == guards]
