"""The settings of commands to machines: off unless switched on, and then only what a rule allows.

Types, defaults, descriptions and limits live here; how a command is judged by them is in gateway/control/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from api.access import GRANTS, Permission, Role
from connectors.settings import Duration, LastingDuration, Name, Settings, refuse
from statemodel.durations import parse_duration

#: The ways a command can come.
Via = Literal["rest", "mqtt", "sparkplug"]

_RATE = re.compile(r"\s*(\d{1,6})\s*/\s*(\S+)\s*")
_KEEP_MAX = timedelta(days=31)
_EXPIRES_MAX = timedelta(hours=1)


def read_rate(text: str) -> tuple[int, float]:
    """How many within how many seconds, of a text such as "6/1m".

    Raises:
        ValueError: it is none.
    """
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError('is no rate; write how many in what time, such as "6/1m"')
    within_s = parse_duration(match[2]).total_seconds()
    if not 1 <= within_s <= 86_400:
        raise ValueError('is a rate over less than 1s or more than 1d; such as "6/1m"')
    return int(match[1]), within_s


def _rate(text: str) -> str:
    try:
        read_rate(text)
    except ValueError as error:
        raise refuse("rate", str(error)) from error
    return text


def only_commanding(roles: Sequence[Role]) -> Sequence[Role]:
    """Roles that may command at all; refused otherwise."""
    strangers = sorted(set(roles) - GRANTS[Permission.COMMAND])
    if strangers:
        may = ", ".join(sorted(GRANTS[Permission.COMMAND]))
        raise refuse("roles", f"{', '.join(strangers)} may never command; there is {may}")
    return roles


def _up_to(longest: timedelta, shortest: timedelta) -> AfterValidator:
    def judge(value: timedelta) -> timedelta:
        if not shortest <= value <= longest:
            raise refuse("duration", f"must be from {shortest} to {longest}")
        return value

    return AfterValidator(judge)


#: How many in what time, written as "6/1m".
Rate = Annotated[str, AfterValidator(_rate)]
TagId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ReadbackSettings(Settings):
    """Where it shows that a value has arrived."""

    tag: TagId | None = None
    """Tag (`connection/tag`) that shows it; unset: the tag itself."""
    within: Annotated[Duration, _up_to(timedelta(minutes=1), timedelta(milliseconds=10))] = timedelta(
        seconds=3
    )
    """How long after the write it may take to be read as written."""
    settle: Annotated[Duration, _up_to(timedelta(minutes=1), timedelta(0))] = timedelta(0)
    """How long after the write a reading has to be taken to count: what it takes the machine to react."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Largest difference between what was written and what is read that still counts as the same."""

    @model_validator(mode="after")
    def _time_to_read(self) -> ReadbackSettings:
        if self.settle >= self.within:
            raise refuse("readback", "has a settle as long as its within; nothing could ever be read back")
        return self


class PackmlSettings(Settings):
    """The command tags of a PackML machine."""

    command: TagId
    """Tag that takes the number of the command (`Command.CntrlCmd`)."""
    request: TagId
    """Tag that tells the machine to look at it (`Command.CmdChangeRequest`)."""
    commands: tuple[Name, ...] = ()
    """Names of the commands that are allowed, such as "Start"."""
    reset: Literal["machine", "gateway"] = "machine"
    """Who takes the request back once the command is taken."""
    within: Annotated[Duration, _up_to(timedelta(minutes=10), timedelta(milliseconds=100))] = timedelta(
        seconds=10
    )
    """How long it may take until the machine shows a state the command leads to."""


class AllowSettings(Settings):
    """One thing that may be commanded, by whom, when and how far."""

    equipment: Name
    """Equipment it is done to: its state, path and area count."""
    tag: TagId | None = None
    """Tag (`connection/tag`) that may be written. Either this or `packml`."""
    packml: PackmlSettings | None = None
    """Command tags of the equipment, for commands by name."""
    roles: Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(only_commanding)] = (
        Role.OPERATOR,
        Role.ENGINEER,
    )
    """Who may; one of these roles is enough."""
    via: Annotated[tuple[Via, ...], Field(min_length=1)] = ("rest",)
    """The ways it may come."""
    states: tuple[str, ...] = ()
    """States of the equipment in which it may be done; the state must be known then. Empty: in any."""
    min: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Smallest value."""
    max: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Largest value."""
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Most the value may change at once, against the newest good value of the tag."""
    rate: Rate | None = None
    """Most commands in a time, such as "6/1m", besides the limit of the whole gateway."""
    arm: bool = False
    """It has to be armed first, by the same person, for exactly this value."""
    second_person: bool = False
    """Another person has to approve it, with the same value."""
    readback: ReadbackSettings = ReadbackSettings()
    """Where it shows that the value has arrived."""

    @model_validator(mode="after")
    def _one_thing(self) -> AllowSettings:
        if (self.tag is None) == (self.packml is None):
            what = "neither a tag nor packml" if self.tag is None else "a tag and packml at once"
            raise refuse("allow", f"names {what}; a rule allows one thing")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise refuse("allow", "has a min above its max; nothing would ever be allowed")
        given: dict[str, Any] = {"min": self.min, "max": self.max, "step": self.step}
        if self.packml is not None and (extra := [key for key, value in given.items() if value is not None]):
            raise refuse("allow", f"has {', '.join(extra)}, which commands by name do not have")
        return self


class CommandsSettings(Settings):
    """Commands to machines. Without `enabled = true` nothing is ever written, whatever else is there."""

    enabled: bool = False
    """Carry out what the rules allow. Off: every command is refused."""
    dry_run: bool = False
    """Judge, arm, approve, audit and tell, but write nothing."""
    expires: Annotated[LastingDuration, _up_to(_EXPIRES_MAX, timedelta(milliseconds=100))] = timedelta(
        seconds=10
    )
    """How long a command holds that says nothing of it; after that nothing is sent."""
    rate: Rate = "60/1m"
    """Most commands of the whole gateway in a time."""
    keep: Annotated[Duration, _up_to(_KEEP_MAX, timedelta(minutes=1))] = timedelta(days=1)
    """How long a key is known and its command can be asked for."""
    allow: tuple[AllowSettings, ...] = ()
    """The rules; what none of them allows is refused."""
