"""Settings every connection has, whatever its protocol, and how they are judged.

A protocol subclasses these three models; its fields are then declared once, with type, default and
description, and everything else (checks, documentation, defaults) follows from that. Nothing here opens a
socket or a file.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
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

#: A name that is safe in URLs, MQTT topics, SQL and file names alike.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values are not guessed, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)


class TagSettings(Settings):
    """One signal."""

    name: Name
    """Unique within the connection; `connection/name` is the tag's id everywhere."""
    unit: str = ""
    """Engineering unit, for people and for history."""
    deadband: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change worth passing on, in units of the value; numbers only."""
    record: bool = True
    """Whether samples go to history. States are recorded in any case."""
    publish: bool = False
    """Whether the value is published as a retained MQTT topic."""
    stale: Duration | None = None
    """Longest time without a sample or a reading of its whole group; then it is bad. Unset: as the group."""

    def kind(self) -> Literal["bool", "integer", "fraction", "text"] | None:
        """What its values are; None where only the device knows."""
        return None


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
