"""Finding the thing a request names, or saying which one was probably meant.

What lies outside the areas of the caller is answered exactly like what does not exist, hints included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from api.access import Principal
from api.hints import did_you_mean, shown
from api.ports import ConnectionView, EquipmentView, LiveView, Models, TagView
from api.problems import Problem
from statemodel.builtin import BUILTIN


def seen_equipment(live: LiveView, by: Principal) -> Sequence[EquipmentView]:
    """The equipment a caller may see, in the order of the configuration."""
    views = live.equipment()
    return views if by.areas is None else [view for view in views if by.sees(view.path)]


def equipment_hint(live: LiveView, name: str, by: Principal) -> str:
    """What to say about a name that no equipment has."""
    return did_you_mean(name, (view.name for view in seen_equipment(live, by)))


def find_equipment(live: LiveView, name: str, by: Principal) -> EquipmentView:
    """The equipment of this name.

    Raises:
        Problem: `unknown_equipment`, also for what the caller may not see.
    """
    view = live.equipment_named(name)
    if view is None or not by.sees(view.path):
        detail = f'No equipment is named "{shown(name)}".'
        raise Problem("unknown_equipment", detail, hint=equipment_hint(live, name, by))
    return view


def seen_models(models: Models, live: LiveView, by: Principal) -> Sequence[str]:
    """The models a caller may know: all, or the built-in ones and those of the equipment the caller sees."""
    names = models.names()
    if by.areas is None:
        return names
    used = {view.model for view in seen_equipment(live, by)}
    return [name for name in names if name in BUILTIN or name in used]


def seen_tags(live: LiveView, by: Principal) -> Sequence[TagView]:
    """The tags a caller may see: all, or those that belong to equipment in the caller's areas."""
    views = live.tags()
    if by.areas is None:
        return views
    belonging = _tags_of(live, seen_equipment(live, by))
    return [view for view in views if view.tag in belonging]


def _tags_of(live: LiveView, equipment: Iterable[EquipmentView]) -> frozenset[str]:
    return frozenset(tag for view in equipment for tag in live.tags_of(view.name))


def find_tag(live: LiveView, connection: str, name: str, by: Principal) -> TagView:
    """The tag of this connection and name.

    Raises:
        Problem: `unknown_tag`, also for what the caller may not see.
    """
    wanted = f"{connection}/{name}"
    view = live.tag(wanted)
    if view is not None and (by.areas is None or wanted in _tags_of(live, seen_equipment(live, by))):
        return view
    ids = [tag.tag for tag in seen_tags(live, by) if tag.connection == connection]
    hint = did_you_mean(wanted, ids) if ids else did_you_mean(connection, connection_names(live, by))
    raise Problem("unknown_tag", f'There is no tag "{shown(wanted)}".', hint=hint)


def connection_names(live: LiveView, by: Principal) -> Sequence[str]:
    """Names of the connections of which a caller may know."""
    if by.areas is None:
        return [view.name for view in live.connections()]
    return list(dict.fromkeys(view.connection for view in seen_tags(live, by)))


def find_connection(live: LiveView, name: str) -> ConnectionView:
    """The connection of this name. Only callers who see everything may ask.

    Raises:
        Problem: `unknown_connection`.
    """
    views = live.connections()
    for view in views:
        if view.name == name:
            return view
    detail = f'No connection is named "{shown(name)}".'
    raise Problem("unknown_connection", detail, hint=did_you_mean(name, (view.name for view in views)))
