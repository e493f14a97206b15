"""What differs between two settings of one kind, key by key. Pure.

Knows how settings are declared, not what any of them means. Every field there is takes part, so that a
setting somebody adds elsewhere shows up here by itself. Secrets are compared as they were resolved and shown
as they were written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretBytes, SecretStr

from api.configuring import Edit
from gateway.config.lines import KeyPath
from gateway.config.secrets import SECRET_KEYS
from statemodel.durations import format_duration

#: What is shown where a secret has no reference; `check` lets none through, so it is one inside an address.
HIDDEN = "(secret)"


class Leaf(NamedTuple):
    """One value: its key as people write it, its place in the settings, itself."""

    place: KeyPath
    value: Any


class Side(NamedTuple):
    """Settings with the place they have in the whole, and the references of that whole."""

    settings: BaseModel | None
    place: KeyPath
    references: Mapping[KeyPath, str]


def edits(old: Side, new: Side, *, without: Collection[str] = ()) -> tuple[Edit, ...]:
    """What differs, in the order of the declarations. Keys of `without` are told elsewhere."""
    before, after = dict(_leaves_of(old, without)), dict(_leaves_of(new, without))
    found = []
    for key in dict.fromkeys((*before, *after)):
        was, is_ = before.get(key), after.get(key)
        if _worth(was) == _worth(is_):
            continue
        old_text, new_text = _shown(key, was, old.references), _shown(key, is_, new.references)
        found.append(Edit(key, old_text.text, new_text.text, old_text.secret or new_text.secret))
    return tuple(found)


def _leaves_of(side: Side, without: Collection[str]) -> Iterator[tuple[str, Leaf]]:
    if side.settings is None:
        return
    for field in type(side.settings).model_fields:
        if field not in without:
            yield from _leaves(getattr(side.settings, field), field, (*side.place, field))


def _leaves(value: Any, key: str, place: KeyPath) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, BaseModel):
        # Written or not differs even where nothing is written in it.
        yield key, Leaf(place, _Table.HERE)
        for field in type(value).model_fields:
            yield from _leaves(getattr(value, field), f"{key}.{field}", (*place, field))
    elif isinstance(value, dict):
        yield key, Leaf(place, _Table.HERE)
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}", (*place, name))
    elif isinstance(value, tuple | list) and any(isinstance(item, BaseModel) for item in value):
        for index, (word, item) in enumerate(zip(_words(value), value, strict=True)):
            yield from _leaves(item, f"{key}{word}", (*place, index))
    else:
        yield key, Leaf(place, value)


class _Table:
    """Stands for a table that is there."""

    HERE: Any = object()


def _words(items: Any) -> list[str]:
    """What tells the tables of a list apart: their names where all have one, else their numbers."""
    names = [getattr(item, "name", None) for item in items]
    if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return [f".{name}" for name in names]
    return [f"[{number}]" for number in range(len(names))]


def _worth(leaf: Leaf | None) -> Any:
    """What is compared: a setting that is not there is worth as much as one without a value."""
    if leaf is None:
        return None
    if isinstance(leaf.value, SecretStr | SecretBytes):
        return leaf.value.get_secret_value()
    # 1, 1.0 and true are equal to Python, and not to people.
    return (type(leaf.value), leaf.value) if isinstance(leaf.value, bool) else leaf.value


class _Text(NamedTuple):
    text: str | None
    secret: bool


def _shown(key: str, leaf: Leaf | None, references: Mapping[KeyPath, str]) -> _Text:
    if leaf is None or leaf.value is None:
        return _Text(None, secret=False)
    if leaf.value is _Table.HERE:
        return _Text("(a table)", secret=False)
    written = [
        text
        for place, text in references.items()
        if place[: len(leaf.place)] == leaf.place or leaf.place[: len(place)] == place
    ]
    if written:
        return _Text(", ".join(written), secret=True)
    if key.rpartition(".")[2] in SECRET_KEYS or isinstance(leaf.value, SecretStr | SecretBytes):
        return _Text(HIDDEN, secret=True)
    return _Text(text_of(leaf.value), secret=False)


def text_of(value: Any) -> str:
    """A value as people write it in a file, but without quotes."""
    match value:
        case bool():
            return "true" if value else "false"
        case timedelta():
            return format_duration(value)
        case str():
            return value
        case frozenset() | set():
            return f"[{', '.join(sorted(text_of(item) for item in value))}]"
        case tuple() | list():
            return f"[{', '.join(text_of(item) for item in value)}]"
        case _:
            return str(value)
