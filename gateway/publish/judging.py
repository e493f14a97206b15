"""Whether the templates of a broker will do, judged by what they make of everything that is configured. Pure.

A level that an equipment does not have, two things on one topic, characters no topic may have: each is told
once, however many things it concerns. Events may share topics, since each says what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.config.lines import KeyPath
from gateway.config.mqtt import MqttSettings
from gateway.config.problems import path_text
from gateway.publish.kinds import Kinds
from gateway.publish.templates import OF_EQUIPMENT, NotATemplate, Unfilled, template, wrong
from gateway.publish.topics import CONNECTION_TYPES, GATEWAY_TYPES, OFFERS, Place
from gateway.publish.tree import Plant, Said, things, topics_of

#: Keys below the section, reason, hint.
Finding = tuple[KeyPath, str, str]

_CHARS_SHOWN = 120


def judge(settings: MqttSettings, of: Plant) -> Iterator[Finding]:
    """What is wrong with the topics of a broker."""
    found = [
        finding
        for key, rule in settings.topics.items()
        if rule.topic is not None
        for finding in _template(key, rule.topic)
    ]
    yield from found or _together(settings, of)


def _together(settings: MqttSettings, of: Plant) -> Iterator[Finding]:
    """The same in view of all there is; templates are right in themselves."""
    topics, kinds = topics_of(settings, of.gateway), Kinds(settings)
    first: dict[str, Said] = {}
    told: set[tuple[str, str]] = set()
    for key, about, place, values in things(of):
        try:
            said = Said(topics.filled(key, place, **values), key, about, kinds.of(key))
        except Unfilled as lacking:
            mark = (_table(settings, key), lacking.placeholder)
            finding: Finding = (_place(settings, key), *_lacks(lacking.placeholder, key, about, place))
        else:
            if (bad := wrong(said.topic)) is not None:
                mark = (_table(settings, key), bad[0])
                finding = (_place(settings, key), f"{_short(said.topic)}, for {said.what}, {bad[0]}", bad[1])
            elif _may_share(said, other := first.setdefault(said.topic, said)):
                continue
            else:
                mark = (other.key, key)
                finding = _collision(settings, said, other)
        if mark not in told:
            told.add(mark)
            yield finding


def _collision(settings: MqttSettings, said: Said, other: Said) -> Finding:
    """Two things on one topic: told where one of them has a template, else of the section."""
    tables = _table(settings, said.key), _table(settings, other.key)
    here, there = (said, other) if tables[0] and tables[0] != tables[1] else (other, said)
    table = _table(settings, there.key)
    also = f" ({path_text(('topics', table))})" if table and tables[0] != tables[1] else ""
    return (
        _place(settings, here.key),
        f"{_short(said.topic)} would be the topic of {here.what} and of {there.what}{also}",
        "each needs a topic of its own: tell them apart by {path}, {equipment} or another level",
    )


def _may_share(said: Said, other: Said) -> bool:
    both_events = said.key.startswith("event/") and other.key.startswith("event/")
    return both_events or (said.key, said.about) == (other.key, other.about)


def _table(settings: MqttSettings, key: str) -> str:
    """The table whose template a kind or type of event follows; empty: it is said as without settings."""
    kind, _, type_ = key.partition("/")
    for name in (key,) if type_ in CONNECTION_TYPES | GATEWAY_TYPES else (key, kind):
        rule = settings.topics.get(name)
        if rule is not None and rule.topic is not None:
            return name
    return ""


def _place(settings: MqttSettings, key: str) -> KeyPath:
    """Where a person changes the topic of a kind."""
    table = _table(settings, key)
    return ("topics", table, "topic") if table else ("topics",)


def _template(key: str, text: str) -> Iterator[Finding]:
    """What is wrong with a template in itself."""
    place: KeyPath = ("topics", key, "topic")
    try:
        names = template(text).names
    except NotATemplate as refused:
        yield place, refused.reason, refused.hint
        return
    offered = OFFERS[key]
    for name in sorted(names - offered):
        reason = f'has "{{{name}}}", which {_WHOSE.get(key, "these events")} do not have'
        yield place, reason, f"there is {_listed(offered)}"
    if names <= offered and (bad := wrong(template(text).fill(dict.fromkeys((*offered, "path"), "x")))):
        yield place, *bad


def _listed(names: frozenset[str]) -> str:
    levels = {f"level{number}" for number in range(1, 10)}
    shown = " ".join(f"{{{name}}}" for name in sorted(names - levels))
    return f"{shown} {{level1}} to {{level9}}" if levels <= names else shown


_WHOSE = {
    "state": "states",
    "event": "events of equipment",
    "tag": "tags",
    "status": "gateways",
    "availability": "equipment",
    "connection": "connections",
}


def _lacks(name: str, key: str, about: str, place: Place | None) -> tuple[str, str]:
    """Why a thing does not have what a template names, and a hint."""
    if place is None and name in OF_EQUIPMENT:
        return (
            f'has "{{{name}}}", and the {key} "{about}" belongs to no equipment',
            "a level that is {path} alone is left out then; or bind the tag to an equipment",
        )
    path = place.path if place is not None else ""
    count = len(path.split("/"))
    return (
        f'has "{{{name}}}", and "{about}" has {count} level{"" if count == 1 else "s"} ({path})',
        "use {path} where paths differ in length, or give the equipment a longer one",
    )


def _short(topic: str) -> str:
    return f'"{topic}"' if len(topic) <= _CHARS_SHOWN else f'"{topic[: _CHARS_SHOWN - 3]}..."'
