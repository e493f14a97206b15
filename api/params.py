"""Parameters of requests: declared once, then read, judged and documented from the declaration.

Reading is strict: an unknown name, a name given twice and a value that cannot be read are all refused, and
all of them at once. The readers below say what is wrong and what to write instead. Nothing here knows a
route or a port.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from api.cursor import Cursor, parse_cursor
from api.hints import did_you_mean, shown
from api.problems import ParameterError, Problem
from statemodel.records import TYPE_OF
from statemodel.types import Quality

_PARAMETERS_MAX = 32


class UnreadableError(Exception):
    """A value is not what the parameter takes."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Param(msgspec.Struct, frozen=True):
    """One parameter. `read` turns its text into a value or raises `UnreadableError`."""

    name: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str
    example: str
    place: str = "query"


def read_query(raw: bytes, params: Sequence[Param]) -> dict[str, Any]:
    """The values of a query string by parameter name; None for those not given.

    Raises:
        Problem: `unknown_parameter` or `invalid_parameter`, listing everything that is wrong.
    """
    values: dict[str, Any] = {param.name: None for param in params}
    if not raw:
        return values
    declared = {param.name: param for param in params}
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except UnicodeError:
        raise _unreadable("The query is not valid UTF-8.", "Percent-encode UTF-8 bytes.") from None
    except ValueError:
        raise _unreadable(f"The query has more than {_PARAMETERS_MAX} parameters.", "") from None
    unknown: list[ParameterError] = []
    invalid: list[ParameterError] = []
    seen: set[str] = set()
    for name, text in pairs:
        param = declared.get(name)
        if param is None:
            hint = did_you_mean(name, declared, _names_hint(declared))
            unknown.append(ParameterError("query", shown(name), "there is no such parameter", hint))
        elif name in seen:
            hint = "Give it once; where several values are allowed, separate them with commas."
            invalid.append(ParameterError("query", name, "it is given twice", hint))
        else:
            seen.add(name)
            try:
                values[name] = param.read(text)
            except UnreadableError as error:
                invalid.append(ParameterError("query", name, error.reason, error.hint))
    if unknown or invalid:
        raise refused(unknown, invalid)
    return values


def read_header(value: bytes, param: Param) -> Any:
    """The value of a header.

    Raises:
        Problem: `invalid_parameter`.
    """
    try:
        return param.read(value.decode("latin-1"))
    except UnreadableError as error:
        raise invalid_parameter(param.name, error.reason, error.hint, place="header") from None


def invalid_parameter(name: str, reason: str, hint: str, *, place: str = "query") -> Problem:
    """The problem of one parameter whose value cannot be used."""
    return refused((), (ParameterError(place, name, reason, hint),))


def refused(unknown: Sequence[ParameterError], invalid: Sequence[ParameterError]) -> Problem:
    """One problem for everything that is wrong with the parameters of a request."""
    errors = (*unknown, *invalid)
    sentences = "; ".join(f'"{error.parameter}": {error.reason}' for error in errors)
    hint = next((error.hint for error in errors if error.hint), "")
    return Problem(
        "invalid_parameter" if invalid else "unknown_parameter", sentences, hint=hint, errors=errors
    )


def _unreadable(detail: str, hint: str) -> Problem:
    return Problem("invalid_parameter", detail, hint=hint)


def _names_hint(declared: Mapping[str, Param]) -> str:
    return f"This route takes {', '.join(declared)}." if declared else "This route takes no parameters."


# Times ------------------------------------------------------------------------------------------------------

_TIME = re.compile(
    r"(?P<local>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_LOST_PLUS = re.compile(r".+:[0-9]{2}(?:\.[0-9]+)? [0-9]{2}:?[0-9]{2}")
_EXAMPLE = "2026-11-21T22:07:03Z"


def read_time(text: str) -> datetime:
    """An RFC 3339 instant, in UTC.

    Raises:
        UnreadableError: it is not one, or it does not say in which zone it is meant.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise UnreadableError(f'"{shown(text)}" is not an RFC 3339 time', _time_hint(text))
    if found["zone"] is None:
        raise UnreadableError(
            f'"{text}" does not say in which time zone it is meant',
            f"Add Z for UTC ({text}Z) or an offset such as %2B01:00.",
        )
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableError(
            f'"{text}" is not a date and time that exists', f"Write it like {_EXAMPLE}."
        ) from None


def earlier(at: datetime, by: timedelta) -> datetime:
    """An instant so much earlier, or the first there is (of the year 1)."""
    try:
        return at - by
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def write_time(at: datetime) -> str:
    """An instant as `read_time` reads it back. `at` is aware and in UTC."""
    return at.isoformat().replace("+00:00", "Z")


def _time_hint(text: str) -> str:
    if _LOST_PLUS.fullmatch(text):
        return 'A "+" in a URL means a space: write the offset as %2B01:00, or use Z.'
    if re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", text):
        return f"Seconds or milliseconds since 1970 are not taken; write the time like {_EXAMPLE}."
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return f"Add the time of day and the zone: {text}T00:00:00Z."
    return f"Write it like {_EXAMPLE}."


_TIME_SCHEMA = {"type": "string", "format": "date-time"}


def time(name: str, description: str, example: str = _EXAMPLE) -> Param:
    """A parameter that takes an instant."""
    return Param(name, read_time, _TIME_SCHEMA, description, example)


# Cursors, limits, words -------------------------------------------------------------------------------------


def read_cursor(text: str) -> Cursor:
    """A place in the sequence.

    Raises:
        UnreadableError: it is not one.
    """
    cursor = parse_cursor(text)
    if cursor is None:
        raise UnreadableError(
            f'"{shown(text)}" is not a cursor',
            "Write a sequence number, or stream:seq as an earlier answer gave it.",
        )
    return cursor


def cursor(description: str) -> Param:
    """The parameter `after`: a place in the sequence."""
    return Param("after", read_cursor, {"type": "string"}, description, "1042")


def limit(limit_default: int, limit_max: int) -> Param:
    """The parameter `limit`: how many items a page holds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= limit_max:
            raise UnreadableError(
                f'"{shown(text)}" is not a whole number from 1 to {limit_max}',
                f"Ask for at most {limit_max} items and go on with next.",
            )
        return int(text)

    schema = {"type": "integer", "minimum": 1, "maximum": limit_max, "default": limit_default}
    return Param("limit", read, schema, "How many items the page holds at most.", str(limit_default))


def one_of(name: str, words: Sequence[str], description: str) -> Param:
    """A parameter that takes one word of a few."""

    def read(text: str) -> str:
        return _word(text, words)

    return Param(name, read, {"type": "string", "enum": list(words)}, description, words[0])


def some_of(name: str, words: Sequence[str], description: str) -> Param:
    """A parameter that takes some words of a few, separated by commas."""

    def read(text: str) -> frozenset[str]:
        return frozenset(_word(part, words) for part in _parts(text))

    schema = {"type": "string", "pattern": f"^(?:{'|'.join(words)})(?:,(?:{'|'.join(words)}))*$"}
    return Param(name, read, schema, description, ",".join(words[:2]))


def names(name: str, description: str, example: str) -> Param:
    """A parameter that takes names, separated by commas; the route judges whether they exist."""

    def read(text: str) -> tuple[str, ...]:
        return tuple(_parts(text))

    return Param(name, read, {"type": "string"}, description, example)


def text(name: str, description: str, example: str, place: str = "query") -> Param:
    """A parameter that takes any text; the route judges whether it means something."""
    return Param(name, _read_text, {"type": "string"}, description, example, place)


def _read_text(text: str) -> str:
    if not text:
        raise UnreadableError("it is empty", "Leave the parameter out, or give it a value.")
    return text


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not all(parts):
        raise UnreadableError("a name in the list is empty", "Separate names with single commas.")
    return parts


def _word(text: str, words: Sequence[str]) -> str:
    if text not in words:
        hint = did_you_mean(text, words, f"It takes {', '.join(words)}.")
        raise UnreadableError(f'"{shown(text)}" is not one of its words', hint)
    return text


#: The types of events, as the parameter `types` takes them.
EVENT_TYPES = tuple(TYPE_OF.values())
#: The qualities of samples, as the parameter `quality` takes them.
QUALITIES = tuple(quality.value for quality in Quality)
