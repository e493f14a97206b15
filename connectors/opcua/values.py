"""OPC UA values as tag samples.

Values keep their type and are exact: integers of all sizes and enumerations are `int`, both float sizes are
`float`, booleans are `bool`. Everything that is text to people is `str`:

    String, XmlElement, Guid   their text; a null String is "", as the standard lets servers send either
    LocalizedText              its text, without the locale
    QualifiedName, NodeId      as the standard writes them: `2:Name`, `ns=2;s=Name`
    DateTime                   RFC 3339 in UTC, `2026-11-21T22:07:03.250000Z`
    ByteString                 hexadecimal digits, `0aff`
    StatusCode                 the number

What is no usable scalar becomes a bad sample without a value: null (`no_value`), NaN (`not_a_number`),
infinity (`infinite`), arrays and structures (`unsupported_type`). A bad status always takes the value
away, because a last good value under a bad status looks good to whoever forgets to ask. Pure.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final, NamedTuple

from connectors.opcua.quality import quality_of
from statemodel.types import Quality, TagSample, TagValue


class _Unsupported:
    """Type of `UNSUPPORTED`."""


#: Stands for a value that is there but is no scalar this gateway can carry.
UNSUPPORTED: Final = _Unsupported()

Raw = TagValue | _Unsupported

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
    if isinstance(value, _Unsupported):
        return None, Quality.BAD, "unsupported_type"
    if value is None:
        return None, Quality.BAD, "no_value"
    if isinstance(value, float) and not math.isfinite(value):
        return None, Quality.BAD, "not_a_number" if math.isnan(value) else "infinite"
    return value, quality, substatus


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
