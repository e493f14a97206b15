"""OPC UA values as tag samples.

Values keep their type and are exact: integers of all sizes and enumerations are `int`, both float sizes are
`float`, booleans are `bool`. Everything that is text to people is `str`:

    String, XmlElement, Guid   their text; a null String is "", as the standard lets servers send either
    LocalizedText              its text, without the locale
    QualifiedName, NodeId      as the standard writes them: `2:Name`, `ns=2;s=Name`
    DateTime                   RFC 3339 in UTC, `2026-11-21T22:07:03.250000Z`
    ByteString                 hexadecimal digits, `0aff`
    StatusCode                 the number

An array as a whole is JSON text, `[1,2,3]`, lists within lists for several dimensions; so is a structure of
which the fields are known. Elements that are not finite are `null` there, and integers are exact. A tag that
names an element or a field (see `picks`) gets that alone, as a value of its own type.

What is no usable value becomes a bad sample without one: null (`no_value`), NaN (`not_a_number`), infinity
(`infinite`), structures of which nothing is known (`unsupported_type`), an index or field that is not there
(`no_such_element`), arrays whose text would be longer than `TEXT_MAX` (`too_long`). A bad status always takes
the value away, because a last good value under a bad status looks good to whoever forgets to ask. Pure.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from connectors.opcua.quality import quality_of
from statemodel.types import Quality, TagSample, TagValue


class Unusable:
    """Stands for a value that is there but is none this gateway can carry."""

    __slots__ = ("substatus",)

    def __init__(self, substatus: str) -> None:
        self.substatus = substatus

    def __repr__(self) -> str:
        return f"Unusable({self.substatus!r})"


class Body:
    """A structure as it was sent: the node id of its encoding as text, and its bytes if it has any."""

    # No dataclass: those have a text in JSON, and a structure of which nothing is known must not have one.
    __slots__ = ("data", "type_id")

    def __init__(self, type_id: str, data: bytes | None) -> None:
        self.type_id = type_id
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and (self.type_id, self.data) == (other.type_id, other.data)

    def __hash__(self) -> int:
        return hash((self.type_id, self.data))

    def __repr__(self) -> str:
        return f"Body({self.type_id!r}, {self.data!r})"


UNSUPPORTED: Final = Unusable("unsupported_type")
MISSING: Final = Unusable("no_such_element")
TOO_LONG: Final = Unusable("too_long")
#: Substatus of values that are there and could be carried if the tag were configured otherwise.
UNCARRIED: Final = frozenset(one.substatus for one in (UNSUPPORTED, MISSING, TOO_LONG))

#: What a message can carry: scalars; arrays and known structures as lists and dicts of such; and the rest.
Raw = TagValue | list[Any] | dict[str, Any] | Body | Unusable

#: Longest text of an array or structure as a whole, in characters.
TEXT_MAX = 4096

#: Ticks of 100 ns between 1601 and 1970 (OPC 10000-6 section 5.2.2.5).
_UNIX_EPOCH_TICKS = 116_444_736_000_000_000
_TICKS_PER_DAY = 864_000_000_000
#: Source times before 1990 and from 2100 on come from clocks that were never set.
_PLAUSIBLE_FROM = _UNIX_EPOCH_TICKS + 7_305 * _TICKS_PER_DAY
_PLAUSIBLE_TO = _UNIX_EPOCH_TICKS + 47_482 * _TICKS_PER_DAY
#: DateTime values from the end of year 9999 on are one and the same (OPC 10000-6 section 5.2.2.5).
_LAST_TICKS = _UNIX_EPOCH_TICKS + 2_932_896 * _TICKS_PER_DAY + 863_990_000_000

_MICROS = 1_000_000


def source_time(ticks: int) -> datetime | None:
    """A source timestamp in 100 ns ticks since 1601 as an instant; None when it cannot be meant."""
    if _PLAUSIBLE_FROM <= ticks < _PLAUSIBLE_TO:
        return datetime.fromtimestamp((ticks - _UNIX_EPOCH_TICKS) // 10 / _MICROS, UTC)
    return None


def datetime_text(ticks: int) -> str | None:
    """A DateTime value as text; None for the standard's null, zero and below."""
    if ticks <= 0:
        return None
    if ticks >= _LAST_TICKS:
        return "9999-12-31T23:59:59Z"
    seconds, rest = divmod((ticks - _UNIX_EPOCH_TICKS) // 10, _MICROS)
    # From 1601 to 9999 seconds are exact in a double; microseconds are added apart, because theirs are not.
    whole = datetime.fromtimestamp(seconds, UTC)
    return whole.replace(microsecond=rest, tzinfo=None).isoformat() + "Z"


def judge(value: Raw, code: int) -> tuple[TagValue, Quality, str]:
    """Value, quality and substatus that a raw value with a status code amounts to."""
    quality, substatus = quality_of(code)
    if quality is Quality.BAD:
        return None, quality, substatus
    if type(value) is str:
        return value, quality, substatus
    if isinstance(value, (list, dict)):
        value = whole(value)
    if isinstance(value, Unusable):
        return None, Quality.BAD, value.substatus
    if isinstance(value, Body):
        return None, Quality.BAD, UNSUPPORTED.substatus
    if value is None:
        return None, Quality.BAD, "no_value"
    if isinstance(value, float) and not math.isfinite(value):
        return None, Quality.BAD, "not_a_number" if math.isnan(value) else "infinite"
    return value, quality, substatus


def whole(value: list[Any] | dict[str, Any]) -> str | Unusable:
    """An array or a structure as one text."""
    if len(value) > TEXT_MAX // 2:
        return TOO_LONG
    try:
        text = msgspec.json.encode(value, enc_hook=_no_text).decode()
    except _NoTextError:
        return UNSUPPORTED
    return text if len(text) <= TEXT_MAX else TOO_LONG


class _NoTextError(Exception):
    """Somewhere inside is a value that has no text."""


def _no_text(value: Any) -> Any:
    raise _NoTextError


class Reading(NamedTuple):
    """A data value as it was sent: raw value, status code, source time in ticks if there is one."""

    value: Raw
    code: int
    ticks: int | None


def sample_of(tag: str, reading: Reading, received_at: datetime) -> TagSample:
    """A data value as a sample of a tag."""
    value, quality, substatus = judge(reading.value, reading.code)
    source_at = None if reading.ticks is None else source_time(reading.ticks)
    return TagSample(tag, value, quality, source_at, received_at, substatus)


def bad_sample(tag: str, substatus: str, received_at: datetime) -> TagSample:
    """A sample that says why there is none."""
    return TagSample(tag, None, Quality.BAD, None, received_at, substatus)
