"""What differs between two state models of one name: by state, by transition, by rule. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from difflib import SequenceMatcher
from typing import Any

from api.configuring import Edit
from gateway.changing.settings import text_of
from statemodel.durations import format_duration
from statemodel.model import Mode, Model, Rule, State

#: Fields of a model that are told part by part; all others are told as they are.
_IN_PARTS = frozenset({"states", "transitions", "rules", "codes", "modes"})


def model_edits(old: Model, new: Model) -> tuple[Edit, ...]:
    """What differs, in the order a model file has; nothing for models that mean the same."""
    if old is new:
        return ()
    return (
        *_plain(old, new),
        *_keyed(_by_name("states", old.states), _by_name("states", new.states)),
        *_order(old, new),
        *_keyed(_transitions(old), _transitions(new)),
        *_rules([_rule_text(rule) for rule in old.rules], [_rule_text(rule) for rule in new.rules]),
        *_keyed(_codes(old), _codes(new)),
        *_keyed(_by_name("modes", old.modes), _by_name("modes", new.modes)),
    )


def _plain(old: Model, new: Model) -> Iterator[Edit]:
    for field in fields(Model):
        if not field.init or field.name in _IN_PARTS:
            continue
        was, is_ = getattr(old, field.name), getattr(new, field.name)
        if was != is_:
            yield Edit(field.name, _text(was), _text(is_))


def _by_name(part: str, items: Iterable[State | Mode]) -> Mapping[str, str]:
    found = {}
    for item in items:
        found[f"{part}.{item.name}"] = item.name
        for field in fields(item):
            value = getattr(item, field.name)
            if field.name != "name" and value not in (None, "", frozenset()):
                found[f"{part}.{item.name}.{field.name}"] = text_of(value)
    return found


def _order(old: Model, new: Model) -> Iterator[Edit]:
    """The order of states is that of legends and lists."""
    before, after = [state.name for state in old.states], [state.name for state in new.states]
    if before != after and sorted(before) == sorted(after):
        yield Edit("states", text_of(before), text_of(after))


def _transitions(model: Model) -> Mapping[str, str]:
    """Every move with what makes it; those that are there twice count once more."""
    found: dict[str, list[str]] = {}
    for edge in model.transitions:
        found.setdefault(f"transitions.{edge.from_state} -> {edge.to_state}", []).append(
            edge.trigger or "any"
        )
    return {key: ", ".join(triggers) for key, triggers in found.items()}


def _rule_text(rule: Rule) -> str:
    held = f" for {format_duration(rule.for_)}" if rule.for_ is not None else ""
    return f"{rule.state} when {rule.guard.text}{held}"


def _rules(old: list[str], new: list[str]) -> Iterator[Edit]:
    """Rules are tried in order, so one that has moved is a change; they are numbered as they stand now."""
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            continue
        for step in range(max(old_to - old_from, new_to - new_from)):
            was = old[old_from + step] if old_from + step < old_to else None
            is_ = new[new_from + step] if new_from + step < new_to else None
            yield Edit(f"rules[{(new_from if is_ is not None else old_from) + step}]", was, is_)


def _codes(model: Model) -> Mapping[str, str]:
    # The number 3 and the word "3" are two codes.
    return {
        f"codes.{code if isinstance(code, int) else repr(code)}": name for code, name in model.codes.items()
    }


def _keyed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Edit]:
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield Edit(key, old.get(key), new.get(key))


def _text(value: Any) -> str | None:
    return None if value in (None, "") else text_of(value)
