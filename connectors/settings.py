"""Settings every connection has, whatever its protocol, and how they are judged.

A protocol subclasses these three models; its fields are then declared once, with type, default and
description, and everything else (checks, documentation, defaults) follows from that. Nothing here opens a
socket or a file.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from statemodel.durations import format_duration, parse_duration


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise PydanticCustomError("duration", "{reason}", {"reason": str(error)}) from error
    raise PydanticCustomError(
        "duration",
        '{value} is not a duration; write a string with a unit, such as "250ms"',
        {"value": repr(value)},
    )


#: A length of time, written as a string with a unit.
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_RANGE = re.compile(r"(.+?)\s*\.\.\s*(.+)")


def refuse(kind: str, reason: str) -> PydanticCustomError:
    """A refusal in our words, `reason; hint`."""
    return PydanticCustomError(kind, "{reason}", {"reason": reason})


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _deviation(value: Any) -> Any:
    """A number of 0 or more, or a percentage as the text `"2%"`."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        if float(match[1]) > 100:
            raise refuse("deviation", "must be at most 100%")
        return f"{match[1]}%" if float(match[1]) else 0.0
    number = _number(value)
    if number is None:
        raise refuse("deviation", 'must be a number, or a percentage of the range such as "2%"')
    if number < 0:
        raise refuse("deviation", "must be at least 0")
    return number


def _range(value: Any) -> Any:
    """Two ends, `[0, 400]`; in a CSV cell `0..400`."""
    ends = value
    if isinstance(value, str):
        match = _RANGE.fullmatch(value.strip())
        ends = match.groups() if match else ()
    numbers = [_number(end) for end in ends] if isinstance(ends, (list, tuple)) else []
    if len(numbers) != 2 or None in numbers:
        raise refuse("range", "must be two numbers; such as [0, 400], in a CSV file 0..400")
    low, high = numbers
    if low is None or high is None or not low < high:
        raise refuse("range", "must begin below its end; such as [0, 400]")
    return low, high


#: A distance between two values: in units of the value, or as a share of its range, `"2%"`.
Deviation = Annotated[float | str, BeforeValidator(_deviation, json_schema_input_type=float | str)]

#: Lowest and highest value to be expected.
Range = Annotated[tuple[float, float], BeforeValidator(_range, json_schema_input_type=list[float] | str)]


def _lasting(value: Any) -> Any:
    duration = _duration(value)
    if duration <= timedelta(0):
        raise refuse("duration", 'must be longer than nothing; such as "1s"')
    return duration


#: A `Duration` that is not 0.
LastingDuration = Annotated[
    timedelta,
    BeforeValidator(_lasting, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]


def _from_folder(value: Any, info: ValidationInfo) -> Any:
    folder = info.context.get(FOLDER) if isinstance(info.context, dict) else None
    return str(folder / value) if isinstance(folder, Path) and isinstance(value, str) else value


#: Key of the validation context under which the folder of the configuration file is handed in.
FOLDER = "folder"
#: Path of a file; a relative one counts from the folder of the configuration file.
FileName = Annotated[str, BeforeValidator(_from_folder, json_schema_input_type=str)]

#: A name that is safe in URLs, MQTT topics, SQL and file names alike.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class Bare(str):
    """A text from where there are only texts, a cell of a table or a variable: it may stand for a number."""

    __slots__ = ()


#: What a field takes -> what is wrong with anything else.
_PLAIN: Mapping[type, str] = {
    bool: "must be true or false",
    int: "must be a whole number",
    float: "must be a number",
}


@cache
def _plain(settings: type[BaseModel], field: str) -> type | None:
    """bool, int or float where a field takes that and nothing else (but None); else None."""
    kinds = {kind for kind in _kinds(settings.model_fields[field].annotation) if kind is not types.NoneType}
    return kinds.pop() if len(kinds) == 1 and kinds <= _PLAIN.keys() else None


def _kinds(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values are not guessed, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_it_is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers stand without quotes, and are neither true nor false; durations are texts with a unit."""
        if info.field_name is None or isinstance(value, Bare):
            return value
        kind = _plain(cls, info.field_name)
        if kind is None:
            return value
        if isinstance(value, str):
            raise refuse("plain", f"{_PLAIN[kind]}; write it without quotes")
        if isinstance(value, bool) != (kind is bool):
            raise refuse("plain", _PLAIN[kind])
        return value


class TagSettings(Settings):
    """One signal."""

    name: Name
    """Unique within the connection; `connection/name` is the tag's id everywhere."""
    unit: str = ""
    """Engineering unit, for people and for history."""
    range: Range | None = None
    """Lowest and highest value to be expected; what percentages are of. Nothing is cut off at it."""
    deadband: Deviation = 0.0
    """Smallest change worth passing on, in units of the value or in percent of `range`; numbers only."""
    swing: Deviation | None = None
    """Swinging door: how far history, joined by straight lines, may be off; numbers only."""
    report_min: LastingDuration | None = None
    """Shortest time between two values in history and on a topic; the newest within it follows then."""
    report_max: LastingDuration | None = None
    """Longest time a change within `deadband` or `swing` is held back. Unset: as the group."""
    heartbeat: LastingDuration | None = None
    """A value in history and on a topic is told again after this long, when it was read again."""
    record: bool = True
    """Whether samples go to history. States are recorded in any case."""
    publish: bool = False
    """Whether the value is published as a retained MQTT topic."""
    stale: Duration | None = None
    """Longest time without a sample or a reading of its whole group; then it is bad. Unset: as the group."""

    #: Whether a range that is not given may be asked of the device (see `connectors.selfreport.Ranged`).
    range_from_device: ClassVar[bool] = False

    def kind(self) -> Literal["bool", "integer", "fraction", "text"] | None:
        """What its values are; None where only the device knows."""
        return None

    def read_only(self) -> str:
        """Why its value can never be written, as the end of a sentence; empty where it may be possible."""
        return ""

    def deadband_in(self, range_: tuple[float, float] | None = None) -> float | None:
        """`deadband` in units of the value; None while it is a percentage and no range is known.

        `range_` is the device's own, used where none is configured.
        """
        return in_units(self.deadband, self.range or range_)

    @field_validator("deadband", "swing")
    @classmethod
    def _percent_of_something(cls, value: float | str | None, info: ValidationInfo) -> float | str | None:
        if isinstance(value, str) and not cls.range_from_device and info.data.get("range", ()) is None:
            raise refuse("range", f"{value} of what is not said; add `range = [0, 400]`, or write a number")
        if info.field_name == "swing" and value is not None and in_units(value, (0.0, 1.0)) == 0:
            raise refuse("swing", "must be more than 0; leave it out to record every change")
        return value

    @field_validator("report_max")
    @classmethod
    def _holds_something_back(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if value is None:
            return None
        if info.data.get("swing", ()) is None and info.data.get("deadband") == 0:
            hint = "`heartbeat` is what tells an unchanged value again"
            raise refuse("report_max", f"holds nothing back without a `deadband` or a `swing`; {hint}")
        return value


def in_units(deviation: float | str, range_: tuple[float, float] | None) -> float | None:
    """A deviation in units of the value; None when it is a percentage and there is no range."""
    if not isinstance(deviation, str):
        return deviation
    if range_ is None:
        return None
    return float(deviation.rstrip("%")) / 100.0 * (range_[1] - range_[0])


class ReportTimes(NamedTuple):
    """What holds for a tag, from itself or its group; None where neither says anything."""

    report_min: timedelta | None
    report_max: timedelta | None
    heartbeat: timedelta | None


class GroupSettings(Settings):
    """Tags that are read together."""

    name: Name
    interval: Duration
    """Poll period, or publishing interval of a subscription."""
    tags: tuple[TagSettings, ...] = ()
    tags_csv: str | None = None
    """Path of a CSV file with one tag a row, relative to the configuration file."""
    stale: Duration | None = None
    """`stale` of the tags that name none; unset: as the connection."""
    report_min: LastingDuration | None = None
    """`report_min` of the tags that name none."""
    report_max: LastingDuration | None = None
    """`report_max` of the tags that name none."""
    heartbeat: LastingDuration | None = None
    """`heartbeat` of the tags that name none."""

    def report_times(self, tag: TagSettings) -> ReportTimes:
        """The report times of a tag of this group."""
        return ReportTimes(
            tag.report_min or self.report_min,
            tag.report_max or self.report_max,
            tag.heartbeat or self.heartbeat,
        )


class ConnectionSettings(Settings):
    """One device."""

    name: Name
    protocol: str
    endpoint: str
    time: Literal["received", "source"] = "received"
    """Which time transitions carry: ours on receipt, or the device's where it is plausible."""
    stale: Duration | None = None
    """`stale` of the groups that name none; unset: tags are bad only when the device or the link says so."""
    groups: tuple[GroupSettings, ...] = ()

    def link(self) -> tuple[str, Mapping[str, object]] | None:
        """What it shares its link by, and the settings all on that link have to agree on; None: nothing."""
        return None

    def tags(self) -> tuple[TagSettings, ...]:
        """All tags of all groups, in order."""
        return tuple(tag for group in self.groups for tag in group.tags)

    def tag_id(self, tag: TagSettings) -> str:
        """The id under which the rest of the gateway knows a tag of this connection."""
        return f"{self.name}/{tag.name}"

    def stale_limit(self, group: GroupSettings, tag: TagSettings) -> timedelta | None:
        """How long a tag may go without proof: as it says, else its group, else the connection."""
        limits = (tag.stale, group.stale, self.stale)
        return next((limit for limit in limits if limit is not None), None)

    def proof_interval(self, group: GroupSettings) -> timedelta:
        """Longest time between two readings of a group that works and has nothing new to say."""
        return group.interval
