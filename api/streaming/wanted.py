"""What a client may ask a stream for, judged alike for both forms of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.access import Principal
from api.hints import did_you_mean, shown
from api.ports import LiveView


def judged(
    live: LiveView,
    by: Principal,
    equipment: Sequence[str] | None,
    types: frozenset[str] | None,
    *,
    coalesce: bool,
) -> Iterator[tuple[str, str, str]]:
    """What is wrong with filters that would never match: the filter, the reason, and a hint."""
    for name in equipment or ():
        view = live.equipment_named(name)
        if view is None or not by.sees(view.path):
            seen = [view.name for view in live.equipment() if by.sees(view.path)]
            yield "equipment", f'no equipment is named "{shown(name)}"', did_you_mean(name, seen)
    if coalesce and types is not None and "transition" not in types:
        reason = "it keeps transitions, and types leaves them out"
        yield "coalesce", reason, "Add transition to types, or leave coalesce out."
