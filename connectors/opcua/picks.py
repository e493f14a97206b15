"""The part of a value a tag is about: an element of an array, a field of a structure, a field of an element.

    index = 3                   the fourth element (elements count from 0, as in OPC UA)
    index = [1, 2]              of an array of two dimensions
    field = "motor.speed"       a field of a field
    field = "motors[2].speed"   with an element on the way

Picking never guesses: what is not there is `no_such_element`, what cannot be taken apart `unsupported_type`.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.opcua.structures import Structures
from connectors.opcua.values import (
    MISSING,
    TEXT_MAX,
    TOO_LONG,
    UNSUPPORTED,
    Body,
    Raw,
    Reading,
    Unusable,
    sample_of,
    whole,
)
from statemodel.types import TagSample

if TYPE_CHECKING:
    from connectors.opcua.config import OpcuaConnection

_PART = re.compile(r"(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,9})\]")
_PATH = re.compile(r"[^.\[\]]+(\[\d{1,9}\])*(\.[^.\[\]]+(\[\d{1,9}\])*)*")
#: Elements counted from 0; more than any array that is taken apart has.
INDEX_MAX = 65_535


class PickSyntaxError(ValueError):
    """A field path that cannot be read; the message says what would be right."""


@dataclass(frozen=True)
class Pick:
    """The way from a value to the part of it that is wanted: indexes and names of fields."""

    steps: tuple[int | str, ...]

    @property
    def through_structure(self) -> bool:
        """Whether the types of the server must be known for it."""
        return any(isinstance(step, str) for step in self.steps)

    def of(self, value: Raw, structures: Structures) -> Raw:
        """The part of a value; null stays null."""
        for step in self.steps:
            if isinstance(value, Body):
                fields = structures.take_apart(value)
                value = UNSUPPORTED if fields is None else fields
            if value is None or isinstance(value, Unusable):
                return value
            if isinstance(step, str):
                value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else MISSING
        if isinstance(value, Body):
            fields = structures.take_apart(value)
            return UNSUPPORTED if fields is None else fields
        return value


def parse_pick(index: Sequence[int] | None, path: str) -> Pick | None:
    """What a tag's `index` and `field` say together: first the element, then the field; None for neither.

    Raises:
        PickSyntaxError: the path is none.
    """
    steps: list[int | str] = list(index or ())
    if path:
        if not _PATH.fullmatch(path):
            raise PickSyntaxError(
                f'"{path}" is no path to a field; write names joined by dots, such as "motor.speed" '
                'or "motors[2].speed"'
            )
        parts = _PART.finditer(path)
        steps.extend(int(part["index"]) if part["index"] else part["name"] for part in parts)
    return Pick(tuple(steps)) if steps else None


class Picks:
    """The picks of a connection by client handle, and what one session knows of the server's structures."""

    def __init__(self, tags: Sequence[str] = (), by_handle: Mapping[int, Pick] | None = None) -> None:
        self.by_handle = dict(by_handle or {})
        self.tags = frozenset(tags[handle] for handle in self.by_handle)
        self.structures = Structures()

    def __bool__(self) -> bool:
        return bool(self.by_handle)

    def through_structure(self, handle: int) -> bool:
        """Whether the tag of this handle needs the server's data types to be known."""
        pick = self.by_handle.get(handle)
        return pick is not None and pick.through_structure

    def of(self, handle: int, reading: Reading) -> Reading:
        """A reading with what the tag of this handle wants of its value."""
        pick = self.by_handle.get(handle)
        return reading if pick is None else reading._replace(value=pick.of(reading.value, self.structures))

    def sample(self, handle: int, tag: str, reading: Reading, received_at: datetime) -> TagSample:
        """A reading as a sample of the tag of this handle."""
        return sample_of(tag, self.of(handle, reading), received_at)


class Tags(tuple[str, ...]):
    """Tag ids by client handle (0 is nobody's), and which part of a value each is about."""

    picks: Picks

    def __new__(cls, ids: Sequence[str], picks: Picks) -> Tags:
        """`picks` are those of one session: what they know of structures holds for no other."""
        made = super().__new__(cls, ids)
        made.picks = picks
        return made


def picks_of(settings: OpcuaConnection) -> Picks:
    """The picks of a connection, with nothing known of its server yet."""
    by_handle: dict[int, Pick] = {}
    ids = [""]
    for handle, tag in enumerate((tag for group in settings.groups for tag in group.tags), 1):
        ids.append(settings.tag_id(tag))
        pick = parse_pick(tag.index, tag.field)
        if pick is not None:
            by_handle[handle] = pick
    return Picks(ids, by_handle)


#: Of a connection whose tags all are about whole values.
NO_PICKS = Picks()


def complaint(sent: Raw, value: Raw, structures: Structures) -> str:
    """What keeps a value from being a tag's, in words that lead on; empty when nothing does.

    `sent` is all that came, `value` the part of it the tag is about.
    """
    if value is MISSING:
        return 'the value has no such element or field; compare "index" and "field" with `andon browse`'
    if isinstance(value, Body):
        return f'a structure ({value.type_id}); name one of its fields with "field"'
    if isinstance(sent, Body) and value is UNSUPPORTED:
        data_type = structures.by_encoding.get(sent.type_id)
        if data_type is None:
            return f"the server does not define the type of this structure ({sent.type_id})"
        return structures.unknown(data_type) or "the structure does not fit the definition of its type"
    if isinstance(value, list | dict):
        value = whole(value)
    if value is TOO_LONG:
        return f'an array of more than {TEXT_MAX} characters; name one element with "index"'
    if isinstance(value, Unusable):
        return "a value of a type the gateway cannot carry"
    return ""
