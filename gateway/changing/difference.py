"""What differs between two configurations, and what each change touches when it is made. Pure.

Things are told apart by their names, so the order of tables and whether a tag stands in the file or in a tag
list mean nothing. What a change disturbs is said here in sentences, in the words of those who will see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from api.configuring import UNDISTURBED, Action, Change, Difference, Edit
from connectors.settings import ConnectionSettings
from gateway.assembly.telling import connected_anew, told_otherwise
from gateway.changing.models import model_edits
from gateway.changing.settings import Side, edits
from gateway.config.lines import KeyPath
from gateway.config.load import Loaded
from gateway.config.schema import Configuration
from gateway.configured import feeding_connections
from statemodel.builtin import BUILTIN

#: Settings, by their whole key or its beginning, that cannot change while the gateway runs, and why.
NEEDS_RESTART: Mapping[str, str] = {
    "gateway.id": "everything on record belongs to the gateway of this name",
    "gateway.data_dir": "the journal is open there",
    "gateway.journal": "the journal is open with the present settings",
    "gateway.audit": "the audit trail is open with the present settings",
}
#: What happens when a setting of [gateway] changes; of all others nothing is disturbed.
_OF_GATEWAY: Mapping[str, str] = {
    "enterprise": "every topic changes: all brokers are told anew, and the old topics are cleared",
    "site": "every topic changes: all brokers are told anew, and the old topics are cleared",
}
#: What is said of a sink whose connection to its broker ends, and of one that goes on with it.
_ANEW = "connects anew; what happens meanwhile waits in the journal"
_GOES_ON = "is told anew on the same connection; what happens meanwhile waits in the journal"
_TOLD_BY_BROKERS = ("connection", "tag", "equipment", "model")


def difference(old: Loaded, new: Loaded) -> Difference:
    """All that differs: `old` is what runs, `new` what would. Equal ones give no change."""
    found: list[Change] = []
    for field in Configuration.model_fields:
        if field == "connections":
            found += _connections(old, new)
        elif field == "equipment":
            found += _equipment(old, new)
        elif isinstance(getattr(new.configuration, field), tuple) or isinstance(
            getattr(old.configuration, field), tuple
        ):
            found += _brokers(field, old, new)
        else:
            found += _section(field, old, new)
    found += _models(old, new)
    parted = connected_anew(old, new)
    if anew := tuple(f"{sink} {_ANEW if sink in parted else _GOES_ON}" for sink in told_otherwise(old, new)):
        found = [
            _with_touches(change, anew) if change.kind in _TOLD_BY_BROKERS else change for change in found
        ]
    return Difference(tuple(found))


def _with_touches(change: Change, more: tuple[str, ...]) -> Change:
    said = tuple(line for line in change.touches if line != UNDISTURBED)
    return msgspec.structs.replace(change, touches=(*said, *more))


# -- sections --------------------------------------------------------------------------------------


def _section(field: str, old: Loaded, new: Loaded) -> Iterator[Change]:
    was, is_ = getattr(old.configuration, field), getattr(new.configuration, field)
    if was == is_:
        return
    what = edits(_side(was, (field,), old), _side(is_, (field,), new))
    action = _action(was, is_)
    yield Change(
        field,
        "",
        action,
        _essential(what, action),
        _touches_section(field, action, what),
        _restart_reason(field, what),
    )


def _touches_section(field: str, action: Action, what: Iterable[Edit]) -> tuple[str, ...]:
    if field == "gateway":
        if _restart_reason(field, what):
            return ()
        told = [_OF_GATEWAY[edit.key] for edit in what if edit.key in _OF_GATEWAY]
        return tuple(dict.fromkeys(told)) or (UNDISTURBED,)
    if field == "historian":
        return {
            "add": ("the database is written from now on",),
            "remove": ("the database is written no longer; what it holds stays",),
        }.get(action, ("the database is connected anew; what happens meanwhile waits in the journal",))
    if field == "api":
        if action == "remove":
            return ("the API ends, and with it every client",)
        moved = any(edit.key.partition(".")[0] in ("listen", "tls") for edit in what)
        return (
            ("clients of the API connect anew, streams go on where they were",) if moved else (UNDISTURBED,)
        )
    return (UNDISTURBED,)


def _restart_reason(field: str, what: Iterable[Edit]) -> str:
    reasons = [
        f"{field}.{edit.key}: {reason}"
        for edit in what
        for key, reason in NEEDS_RESTART.items()
        if f"{field}.{edit.key}" == key or f"{field}.{edit.key}".startswith(f"{key}.")
    ]
    return "; ".join(dict.fromkeys(reasons))


def _brokers(field: str, old: Loaded, new: Loaded) -> Iterator[Change]:
    """Sections of which there may be several, told apart by their names."""
    before = {_own_name(item, index): (index, item) for index, item in enumerate(_all(old, field))}
    after = {_own_name(item, index): (index, item) for index, item in enumerate(_all(new, field))}
    for name in dict.fromkeys((*before, *after)):
        (old_at, was), (new_at, is_) = before.get(name, (0, None)), after.get(name, (0, None))
        if was == is_:
            continue
        what = edits(_side(was, (field, old_at), old), _side(is_, (field, new_at), new))
        action = _action(was, is_)
        sink = getattr(is_ if is_ is not None else was, "sink", f"{field} {name}".strip())
        goes_on = field != "compliance" and sink not in connected_anew(old, new)
        touches = {
            "add": (f"{sink} connects",),
            "remove": (f"{sink} takes its leave of the broker",),
        }.get(action, (f"{sink} {_GOES_ON if goes_on else _ANEW}",))
        if field == "compliance":
            touches = (UNDISTURBED,)
        yield Change(field, name, action, _essential(what, action), touches)


def _own_name(item: Any, index: int) -> str:
    name = getattr(item, "name", None)
    if isinstance(name, str):
        return name
    return "" if hasattr(item, "sink") else str(index)


# -- connections and their tags --------------------------------------------------------------------


def _connections(old: Loaded, new: Loaded) -> Iterator[Change]:
    before = {item.name: (index, item) for index, item in enumerate(old.configuration.connections)}
    after = {item.name: (index, item) for index, item in enumerate(new.configuration.connections)}
    fed_before, fed_after = _fed(old), _fed(new)
    for name in dict.fromkeys((*before, *after)):
        (old_at, was), (new_at, is_) = before.get(name, (0, None)), after.get(name, (0, None))
        if was is None and is_ is not None:
            what = _of_connection(None, is_, old, new, (0, new_at))
            meanwhile = _unknown(fed_after.get(name, ()), "until its first values are there")
            yield Change("connection", name, "add", what, (f"{name} connects{meanwhile}",))
        elif was is not None and is_ is None:
            what = _of_connection(was, None, old, new, (old_at, 0))
            afterwards = _unknown(fed_before.get(name, ()), "from then on")
            yield Change("connection", name, "remove", what, (f"{name} is disconnected{afterwards}",))
        elif was is not None and is_ is not None and was != is_:
            yield from _changed_connection(was, is_, old, new, (old_at, new_at), fed_after.get(name, ()))


def _changed_connection(
    was: ConnectionSettings, is_: ConnectionSettings, old: Loaded, new: Loaded, at: tuple[int, int], fed: Any
) -> Iterator[Change]:
    touches = (f"{is_.name} reconnects{_unknown(fed, 'meanwhile')}",)
    what = _of_connection(was, is_, old, new, at)
    tags = list(_tags(was, is_, old, new, at, touches))
    if what:
        yield Change("connection", is_.name, "change", what, touches)
    yield from tags


def _of_connection(
    was: ConnectionSettings | None,
    is_: ConnectionSettings | None,
    old: Loaded,
    new: Loaded,
    at: tuple[int, int],
) -> tuple[Edit, ...]:
    """The settings of a connection and of its groups; of one that comes or goes, how many tags it has."""
    before, after = ("connections", at[0]), ("connections", at[1])
    found = list(edits(_side(was, before, old), _side(is_, after, new), without=("groups",)))
    old_groups = {group.name: (index, group) for index, group in enumerate(was.groups if was else ())}
    new_groups = {group.name: (index, group) for index, group in enumerate(is_.groups if is_ else ())}
    for name in dict.fromkeys((*old_groups, *new_groups)):
        (i, group), (j, twin) = old_groups.get(name, (0, None)), new_groups.get(name, (0, None))
        found += [
            Edit(f"groups.{name}.{edit.key}", edit.old, edit.new, edit.secret)
            for edit in edits(
                _side(group, (*before, "groups", i), old),
                _side(twin, (*after, "groups", j), new),
                without=("tags", "name"),
            )
        ]
    if was is None or is_ is None:
        counts = [None if one is None else str(len(one.tags())) for one in (was, is_)]
        return (*_essential(found, "add"), Edit("tags", counts[0], counts[1]))
    return tuple(found)


def _tags(
    was: ConnectionSettings,
    is_: ConnectionSettings,
    old: Loaded,
    new: Loaded,
    at: tuple[int, int],
    touches: tuple[str, ...],
) -> Iterator[Change]:
    """Tags by their names; where one is read, its group, is a setting of its own."""
    before, after = _placed(was, at[0]), _placed(is_, at[1])
    for name in dict.fromkeys((*before, *after)):
        old_tag, new_tag = before.get(name), after.get(name)
        if old_tag is not None and new_tag is not None and old_tag[1:] == new_tag[1:]:
            continue
        old_place, old_group, old_settings = old_tag or ((), None, None)
        new_place, new_group, new_settings = new_tag or ((), None, None)
        what = [Edit("group", old_group, new_group)] if old_group != new_group else []
        what += edits(
            _side(old_settings, old_place, old), _side(new_settings, new_place, new), without=("name",)
        )
        action = _action(old_tag, new_tag)
        yield Change("tag", f"{is_.name}/{name}", action, _essential(what, action), touches)


def _placed(connection: ConnectionSettings, at: int) -> dict[str, tuple[KeyPath, str, BaseModel]]:
    return {
        tag.name: (("connections", at, "groups", g, "tags", t), group.name, tag)
        for g, group in enumerate(connection.groups)
        for t, tag in enumerate(group.tags)
    }


def _fed(loaded: Loaded) -> Mapping[str, list[str]]:
    """For each connection the equipment whose state depends on it."""
    found: dict[str, list[str]] = {}
    for equipment, connections in feeding_connections(loaded).items():
        for connection in connections:
            found.setdefault(connection, []).append(equipment)
    return found


def _unknown(equipment: Iterable[str], when: str) -> str:
    names = list(equipment)
    if not names:
        return ""
    shown = names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    listed = " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return f"; {listed} {'is' if len(names) == 1 else 'are'} Unknown {when}"


# -- equipment and models --------------------------------------------------------------------------


def _equipment(old: Loaded, new: Loaded) -> Iterator[Change]:
    before = {item.name: (index, item) for index, item in enumerate(old.configuration.equipment)}
    after = {item.name: (index, item) for index, item in enumerate(new.configuration.equipment)}
    for name in dict.fromkeys((*before, *after)):
        (old_at, was), (new_at, is_) = before.get(name, (0, None)), after.get(name, (0, None))
        if was == is_:
            continue
        what = edits(
            _side(was, ("equipment", old_at), old), _side(is_, ("equipment", new_at), new), without=("name",)
        )
        if was is None:
            yield Change("equipment", name, "add", _essential(what, "add"), (_begins(name),))
        elif is_ is None:
            touches = f"{name} is told no longer: its last state is Unknown, its topics are cleared"
            yield Change("equipment", name, "remove", (), (touches,))
        else:
            yield Change("equipment", name, "change", what, tuple(_touches_equipment(name, what)))


def _begins(name: str) -> str:
    return f"{name} begins with what is known of its tags, as Unknown where that is nothing"


def _touches_equipment(name: str, what: Iterable[Edit]) -> Iterator[str]:
    keys = {edit.key.partition(".")[0].partition("[")[0] for edit in what}
    if "path" in keys:
        yield f"the topics of {name} move with its path, and the old ones are cleared"
    if "model" in keys:
        yield f"{name} goes on from its state where the new model has it, else from Unknown"
    if keys & {"state", "mode", "bind"}:
        yield f"the state of {name} is judged anew from the values that are known"
    if keys <= {"counters", "tags"}:
        yield f"only what is published with {name} changes"


def _models(old: Loaded, new: Loaded) -> Iterator[Change]:
    for name in dict.fromkeys((*old.models, *new.models)):
        was, is_ = old.models.get(name), new.models.get(name)
        if name in BUILTIN and (was is None or is_ is None):
            continue  # it is always there; who uses it is told with the equipment
        if was is None or is_ is None:
            yield Change("model", name, "add" if was is None else "remove", (), (UNDISTURBED,))
        elif what := model_edits(was, is_):
            users = [spec.name for spec in new.equipment if spec.model.name == name]
            touches = tuple(
                f"{user} goes on from its state where the model still has it, else from Unknown"
                for user in users
            )
            yield Change("model", name, "change", what, touches or (UNDISTURBED,))


def _action(was: object, is_: object) -> Action:
    return "add" if was is None else "remove" if is_ is None else "change"


def _side(settings: BaseModel | None, place: KeyPath, whole: Loaded) -> Side:
    return Side(settings, place, whole.references)


def _essential(what: Iterable[Edit], action: Action) -> tuple[Edit, ...]:
    """Of what comes or goes, the settings that have a value; empty texts and lists say nothing."""
    if action == "change":
        return tuple(what)
    return tuple(edit for edit in what if (edit.old or edit.new) not in (None, "", "[]", "false"))


def _all(loaded: Loaded, field: str) -> tuple[Any, ...]:
    found = getattr(loaded.configuration, field)
    return found if isinstance(found, tuple) else () if found is None else (found,)
