"""Whether a second person may let a command go that waits: one small question after the other, in one order.

Pure. What the command itself is asked then is in `judging`; those that wait are in `waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from api.access import Permission, Principal
from gateway.config.control import AllowSettings
from gateway.control.carrying import Halt
from gateway.control.facts import halt, same
from statemodel.types import TagValue


class Seconding(msgspec.Struct, frozen=True, kw_only=True):
    """A second person's word on a command that waits. `asked` is what waits, `said` what is approved;
    `made_by` is who made the key it was asked for with, empty where it was none."""

    rule: AllowSettings
    path: str
    requested_by: str
    by: Principal
    made_by: str = ""
    asked: TagValue
    said: TagValue
    now_s: float
    until_s: float


def _is_person(word: Seconding) -> Halt | None:
    if word.by.kind not in ("user", "token"):
        return halt("approval_person", f"{word.by.name} is no person who has logged in")
    return None


def _is_other(word: Seconding) -> Halt | None:
    if word.by.name.casefold() == word.requested_by.casefold():
        return halt("approval_self", f"{word.by.name} asked for it, and cannot approve it too")
    if word.by.name.casefold() == word.made_by.casefold():
        reason = f"{word.by.name} made the key {word.requested_by} that asked for it, and cannot approve it"
        return halt("approval_self", reason)
    return None


def _may_second(word: Seconding) -> Halt | None:
    if not word.by.may(Permission.APPROVE) or word.by.roles.isdisjoint(word.rule.roles):
        return halt("role", f"{word.by.name} has none of the roles {', '.join(word.rule.roles)}")
    if not word.by.sees(word.path):
        return halt("area", f"{word.rule.equipment} lies outside the areas of {word.by.name}")
    return None


def _is_same(word: Seconding) -> Halt | None:
    if not same(word.asked, word.said):
        return halt("approval_value", f"{word.said!r} is approved, and {word.asked!r} was asked for")
    return None


def _in_time(word: Seconding) -> Halt | None:
    if word.now_s >= word.until_s:
        return halt("approval_expired", "it waited too long for its approval")
    return None


#: Every question to a second person, in order.
APPROVAL: tuple[tuple[str, Callable[[Seconding], Halt | None]], ...] = (
    ("person", _is_person),
    ("other", _is_other),
    ("may", _may_second),
    ("same", _is_same),
    ("in time", _in_time),
)


def judge_second(
    word: Seconding, stages: Sequence[tuple[str, Callable[[Seconding], Halt | None]]] = APPROVAL
) -> Halt | None:
    """The first halt, None when it is approved."""
    return next((found for _, stage in stages if (found := stage(word)) is not None), None)
