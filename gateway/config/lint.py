"""What no single section can know: names used twice, references that lead nowhere, models without inputs.

Pure: takes sections that are right in themselves (or None where they are not) and says what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from connectors.settings import ConnectionSettings
from gateway.config.lines import KeyPath
from gateway.config.problems import did_you_mean, path_text
from gateway.config.schema import EquipmentSettings
from statemodel.durations import format_duration
from statemodel.guard_types import Kind, type_errors
from statemodel.model import Model

#: Begins a place in a model file: its name follows, then the keys in it.
MODEL_FILE = "model file"

#: Place, reason, hint.
Finding = tuple[KeyPath, str, str]


def lint(
    connections: Sequence[ConnectionSettings | None],
    equipment: Sequence[EquipmentSettings | None],
    models: Mapping[str, Model | None],
) -> Iterator[Finding]:
    """Everything that does not fit together, in the order of the file."""
    yield from _unique((("connections", i, "name"), c.name) for i, c in enumerate(connections) if c)
    for index, connection in enumerate(connections):
        if connection is not None:
            yield from _connection(index, connection)
    yield from _links(connections)
    yield from _unique((("equipment", i, "name"), e.name) for i, e in enumerate(equipment) if e)
    yield from _unique((("equipment", i, "path"), e.path) for i, e in enumerate(equipment) if e)
    # A connection that is wrong in itself would make every reference to it look wrong too.
    tags = (
        None if None in connections else {c.tag_id(t): t.kind() for c in connections if c for t in c.tags()}
    )
    for index, item in enumerate(equipment):
        if item is not None:
            yield from _equipment(index, item, models.get(item.model), tags)
    yield from _guards(equipment, models, tags or {})


def _guards(
    equipment: Sequence[EquipmentSettings | None],
    models: Mapping[str, Model | None],
    tags: Mapping[str, Kind | None],
) -> Iterator[Finding]:
    """Rules that the kinds of their tags make undecidable; each once, however many equipment it serves.

    The place is in the model's file: `model`, the file as the equipment names it, and the keys in it.
    """
    found: dict[tuple[KeyPath, int], Finding] = {}
    for item in equipment:
        model = models.get(item.model) if item is not None else None
        if item is None or model is None:
            continue
        kinds = {name: kind for name, tag in item.bind.items() if (kind := tags.get(tag)) is not None}
        for number, rule in enumerate(model.rules):
            for error in type_errors(rule.guard, kinds):
                named = [f"{name} is {item.bind[name]}" for name in rule.guard.names if name in kinds]
                where = f" (in {item.name}, {', '.join(named)})" if named else ""
                place: KeyPath = (MODEL_FILE, item.model, "rules", number, "when")
                reason = f"column {error.column}: {error.reason}{where}"
                found.setdefault((place, error.column), (place, reason, error.hint))
    yield from found.values()


def _unique(named: Iterable[tuple[KeyPath, str]]) -> Iterator[Finding]:
    first: dict[str, KeyPath] = {}
    for place, name in named:
        key = name.casefold()
        if key in first:
            other = first[key]
            yield (
                place,
                f'"{name}" is used twice',
                f"the first is {path_text(other[:-1])}; case does not tell names apart",
            )
        else:
            first[key] = place


def _links(connections: Sequence[ConnectionSettings | None]) -> Iterator[Finding]:
    """Connections that share a link and want it set up differently: the later one would never be let in."""
    first: dict[str, tuple[str, Mapping[str, object]]] = {}
    for index, connection in enumerate(connections):
        if connection is None or (link := connection.link()) is None:
            continue
        key, wanted = link
        name, agreed = first.setdefault(key, (connection.name, wanted))
        if differing := [setting for setting, value in wanted.items() if agreed.get(setting) != value]:
            yield (
                ("connections", index, "endpoint"),
                f'is that of "{name}" too, which wants the link otherwise ({", ".join(differing)})',
                "give connections with the same endpoint the same settings of the link",
            )


def _connection(index: int, connection: ConnectionSettings) -> Iterator[Finding]:
    yield from _unique(
        (("connections", index, "groups", g, "name"), group.name) for g, group in enumerate(connection.groups)
    )
    seen: dict[str, tuple[int, int]] = {}
    for g, group in enumerate(connection.groups):
        if group.interval.total_seconds() <= 0:
            yield (
                ("connections", index, "groups", g, "interval"),
                "must be longer than nothing",
                'such as "250ms" or "1s"',
            )
        for t, tag in enumerate(group.tags):
            if tag.name in seen:
                other_group, other_tag = seen[tag.name]
                yield (
                    ("connections", index, "groups", g, "tags", t, "name"),
                    f'the tag "{tag.name}" is there twice in "{connection.name}"',
                    f"the first is groups[{other_group}].tags[{other_tag}]",
                )
            seen.setdefault(tag.name, (g, t))
            if tag.swing is not None and (kind := tag.kind()) in ("bool", "text"):
                yield (
                    ("connections", index, "groups", g, "tags", t, "swing"),
                    f"is for numbers that are measured, and {tag.name} is a {kind}",
                    "take it out: every change of such a tag is recorded",
                )
    yield from _stale(index, connection)
    yield from _report_times(index, connection)
    if not seen:
        yield (
            ("connections", index),
            f'"{connection.name}" has no tags',
            "add [[connections.groups]] with an interval and tags, or take the connection out",
        )


def _stale(index: int, connection: ConnectionSettings) -> Iterator[Finding]:
    """Limits so short that a tag which does not change would be stale between two readings; each once."""
    found: dict[KeyPath, Finding] = {}
    for g, group in enumerate(connection.groups):
        shortest = 2 * connection.proof_interval(group)
        hint = f'a tag without news is proved that seldom; write "{format_duration(shortest)}" or more'
        for t, tag in enumerate(group.tags):
            place: KeyPath = ("connections", index)
            if tag.stale is not None or group.stale is not None:
                place = (*place, "groups", g)
            if tag.stale is not None:
                place = (*place, "tags", t)
            limit = connection.stale_limit(group, tag)
            if limit is not None and limit < shortest:
                reason = f'is shorter than two readings of the group "{group.name}"'
                found.setdefault((*place, "stale"), ((*place, "stale"), reason, hint))
    yield from found.values()


def _report_times(index: int, connection: ConnectionSettings) -> Iterator[Finding]:
    """Report times that contradict each other, be it over tag and group; each once."""
    found: dict[KeyPath, Finding] = {}
    for g, group in enumerate(connection.groups):
        for t, tag in enumerate(group.tags):
            times = group.report_times(tag)
            for key, longer in (("report_max", times.report_max), ("heartbeat", times.heartbeat)):
                if times.report_min is None or longer is None or times.report_min <= longer:
                    continue
                place: KeyPath = ("connections", index, "groups", g)
                if tag.report_min is not None or getattr(tag, key) is not None:
                    place = (*place, "tags", t)
                own = group if len(place) == 4 else tag
                place = (*place, "report_min" if own.report_min is not None else key)
                reason = f"report_min is longer than {key}"
                hint = f"{format_duration(times.report_min)} and {format_duration(longer)}: swap or drop one"
                found.setdefault(place, (place, reason, hint))
    yield from found.values()


def thinned_inputs(
    connections: Sequence[ConnectionSettings], equipment: Sequence[EquipmentSettings]
) -> Iterator[Finding]:
    """Equipment whose replay would see less than the gateway did; no reason to refuse anything."""
    thinned = {
        connection.tag_id(tag): " and ".join(
            key
            for key, value in (("swing", tag.swing), ("report_min", group.report_times(tag).report_min))
            if value is not None
        )
        for connection in connections
        for group in connection.groups
        for tag in group.tags
    }
    for index, item in enumerate(equipment):
        for where, tag in _references(index, item):
            if keys := thinned.get(tag):
                reason = (
                    f"the history of {tag} is thinned out by {keys}, so a replay sees less than the rules"
                )
                yield where, reason, f"take {keys} out where replays must be exact"


def _references(index: int, item: EquipmentSettings) -> list[tuple[KeyPath, str]]:
    """The tags an equipment names, and where."""
    place: KeyPath = ("equipment", index)
    references: list[tuple[KeyPath, str]] = []
    match item.state:
        case str() as tag:
            references.append(((*place, "state"), tag))
        case tuple() as levels:
            references += [((*place, "state", level), tag) for level, tag in enumerate(levels)]
    if item.mode is not None:
        references.append(((*place, "mode"), item.mode))
    return [*references, *(((*place, "bind", name), tag) for name, tag in item.bind.items())]


def _shown(index: int, item: EquipmentSettings) -> list[tuple[KeyPath, str]]:
    """The tags that are only told with an equipment, and where they are named."""
    place: KeyPath = ("equipment", index)
    return [
        *(((*place, "counters", name), tag) for name, tag in item.counters.items()),
        *(((*place, "tags", number), tag) for number, tag in enumerate(item.tags)),
    ]


def _equipment(
    index: int, item: EquipmentSettings, model: Model | None, tags: Mapping[str, Kind | None] | None
) -> Iterator[Finding]:
    place: KeyPath = ("equipment", index)
    if tags is not None:
        for where, tag in (*_references(index, item), *_shown(index, item)):
            if tag not in tags:
                hint = did_you_mean(tag, tags) or "write connection/tag, as both are named in [[connections]]"
                yield where, f'there is no tag "{tag}"', hint
    yield from _unique(((*place, "counters", name), name) for name in item.counters)
    yield from _unique(((*place, "counters", name), tag) for name, tag in item.counters.items())
    if model is None:
        return
    needed = frozenset(model.inputs)
    for name in sorted(needed - item.bind.keys()):
        hint = f'bind = {{ {name} = "connection/tag" }}'
        yield (
            (*place, "bind"),
            f'the rules of the model "{model.name}" use "{name}", which is not bound',
            hint,
        )
    for name in sorted(item.bind.keys() - needed):
        hint = did_you_mean(name, needed) or f'to publish it with the equipment: tags = ["{item.bind[name]}"]'
        yield (*place, "bind", name), f'the model "{model.name}" has no rule that uses "{name}"', hint
    if item.mode is not None and not model.modes:
        yield (
            (*place, "mode"),
            f'the model "{model.name}" has no modes',
            "give it `modes`, or take `mode` out",
        )
    if not model.rules and item.state is None:
        yield (
            (*place, "state"),
            f'the model "{model.name}" reads its state from a tag, and none is named',
            'state = "connection/tag"',
        )
    if model.rules and item.state is not None and not model.by_value:
        yield (
            (*place, "state"),
            f'no state of the model "{model.name}" has a code, so no tag can carry it',
            "give the states codes, or take `state` out",
        )
