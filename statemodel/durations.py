"""Durations as people write them in configuration: `250ms`, `5s`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(text: str) -> timedelta:
    """Read a duration.

    Raises:
        ValueError: the text is not one; the message says what is.
    """
    compact = text.replace(" ", "")
    if not _WHOLE.fullmatch(compact):
        hint = 'write a number with a unit, such as "250ms", "5s", "1h30m"'
        raise ValueError(f'"{text}" is not a duration; {hint}')
    try:
        return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in _PART.findall(compact)))
    except OverflowError:
        raise ValueError(f'"{text}" is too long for a duration') from None


def format_duration(duration: timedelta) -> str:
    """Write a duration so that `parse_duration` reads it back (to the millisecond)."""
    rest = round(duration.total_seconds() * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
