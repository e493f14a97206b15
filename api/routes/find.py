"""Finding the thing a request names, or saying which one was probably meant."""

from __future__ import annotations

from api.hints import did_you_mean, shown
from api.ports import ConnectionView, EquipmentView, LiveView, TagView
from api.problems import Problem


def equipment_hint(live: LiveView, name: str) -> str:
    """What to say about a name that no equipment has."""
    return did_you_mean(name, (view.name for view in live.equipment()))


def find_equipment(live: LiveView, name: str) -> EquipmentView:
    """The equipment of this name.

    Raises:
        Problem: `unknown_equipment`.
    """
    view = live.equipment_named(name)
    if view is None:
        detail = f'No equipment is named "{shown(name)}".'
        raise Problem("unknown_equipment", detail, hint=equipment_hint(live, name))
    return view


def find_tag(live: LiveView, connection: str, name: str) -> TagView:
    """The tag of this connection and name.

    Raises:
        Problem: `unknown_tag`.
    """
    wanted = f"{connection}/{name}"
    view = live.tag(wanted)
    if view is None:
        ids = [tag.tag for tag in live.tags() if tag.connection == connection]
        hint = did_you_mean(wanted, ids) if ids else connection_hint(live, connection)
        raise Problem("unknown_tag", f'There is no tag "{shown(wanted)}".', hint=hint)
    return view


def connection_hint(live: LiveView, name: str) -> str:
    """What to say about a name that no connection has."""
    return did_you_mean(name, (view.name for view in live.connections()))


def find_connection(live: LiveView, name: str) -> ConnectionView:
    """The connection of this name.

    Raises:
        Problem: `unknown_connection`.
    """
    for view in live.connections():
        if view.name == name:
            return view
    detail = f'No connection is named "{shown(name)}".'
    raise Problem("unknown_connection", detail, hint=connection_hint(live, name))
