"""What a client may ask a stream for, judged alike for both forms of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.access import Principal
from api.hints import shown
from api.ports import LiveView
from api.routes.find import equipment_hint


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
            reason = f'no equipment is named "{shown(name)}"'
            yield "equipment", reason, equipment_hint(live, name, by)
    if coalesce and types is not None and "transition" not in types:
        reason = "it keeps transitions, and types leaves them out"
        yield "coalesce", reason, "Add transition to types, or leave coalesce out."
