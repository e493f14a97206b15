"""Instants as people name them on the command line: RFC 3339, a day, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.errors import GatewayError
from statemodel.durations import parse_duration


class WrongArgument(GatewayError):
    """An argument or option has a value that cannot be used."""

    exit_code = 2


def read_when(text: str | None, option: str, now: datetime) -> datetime | None:
    """The instant an option names, in UTC; None when it was not given.

    `2026-11-21T22:07:03Z` is itself, without a zone it is UTC, `2026-11-21` is the beginning of that day in
    UTC, `8h` is eight hours before `now`.

    Raises:
        WrongArgument: it is none of these.
    """
    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        pass  # not a duration: then an instant
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongArgument(
            f'{option}: "{text}" is not a time',
            hint="write 2026-11-21T22:07:03Z, 2026-11-21 (its beginning), or 8h (eight hours ago)",
        ) from None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise WrongArgument(f'{option}: "{text}" is beyond all calendars', hint="check the year") from None


def write_when(at: datetime) -> str:
    """An instant as the REST face takes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
