"""What a command is judged by, as values: the facts at one instant, and the halt that a question may end in.

Pure; who gathers the facts (`bench`) answers for their freshness, what they are asked is in `judging`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from api.access import Principal
from api.commanding import CommandRequest
from api.refusals import REFUSALS
from gateway.config.control import AllowSettings, CommandsSettings
from gateway.control.carrying import Halt
from statemodel.types import TagSample, TagValue

Kind = Literal["bool", "integer", "fraction", "text"]

#: Longest time between arming a command and sending it.
ARM_S_MAX = 60.0
#: Longest life of a command.
EXPIRES_S_MAX = 3600.0


class Arming(msgspec.Struct, frozen=True):
    """What an arming stands for: one person, one target, one value, until `until_s` (monotonic)."""

    person: tuple[str, str]
    target: str
    value: TagValue
    until_s: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a judgement depends on.

    `rule` is None where none names what is asked for. `state` is None where there is no such equipment;
    `standstill` says why it may not be so any more, None while it is followed.
    `own_wait_s` and `all_wait_s` are how long the rates of the rule and of the gateway make one wait.
    `arming` is what `request.arm` stands for, None when that is nothing. `reused` says that the key came with
    another request, `audit` why nothing can be audited. Times in seconds are monotonic. With `taken` its
    place in the rates, its arming and its key are its own already: it was accepted before. `basis` is what it
    rests on (`basis.basis_of`).
    """

    settings: CommandsSettings
    request: CommandRequest
    by: Principal
    via: str
    rule: AllowSettings | None
    path: str
    state: str | None
    standstill: str | None = None
    kind: Kind | None
    present: TagSample | None
    own_wait_s: float
    all_wait_s: float
    arming: Arming | None
    now: datetime
    now_s: float
    until_s: float
    reused: bool = False
    audit: str | None = None
    approved: bool = False
    taken: bool = False
    basis: str = ""


def halt(code: str, reason: str, hint: str = "", retry_after_s: float | None = None) -> Halt:
    """A halt with the usual hint, unless there is a better one."""
    return Halt(code, reason, hint or REFUSALS[code].hint, retry_after_s)


def person(by: Principal) -> tuple[str, str]:
    """Who somebody is, whatever session it is."""
    return by.kind, by.name


def same(one: TagValue, other: TagValue) -> bool:
    """Exactly the same value; true is not 1, and 90 is 90.0."""
    if isinstance(one, bool) != isinstance(other, bool) or isinstance(one, str) != isinstance(other, str):
        return False
    return one == other
