"""Parameters of questions about a stretch of time: its ends, how it is cut, whose clocks count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from api import params
from api.hints import did_you_mean, shown
from api.operation import Call, Context
from api.params import Param, UnreadableError, invalid_parameter, write_time
from api.settings import ApiSettings
from statemodel.calendars import Unit
from statemodel.durations import parse_duration

#: A unit of the calendar, or a length of time.
Bucket = str | timedelta


def read_zone(text: str) -> ZoneInfo:
    """A place's time zone by its IANA name.

    Raises:
        UnreadableError: there is none.
    """
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # no such key, a folder of keys, or no file name at all
        raise UnreadableError(
            f'"{shown(text)}" is not a time zone', "Write its IANA name, such as Europe/Berlin or UTC."
        ) from None


def read_bucket(text: str) -> Bucket:
    """A unit of the calendar, or a length of time.

    Raises:
        UnreadableError: it is neither.
    """
    units = get_args(Unit)
    if text in units:
        return text
    try:
        length = parse_duration(text)
    except ValueError:
        length = timedelta(0)
    if length < timedelta(seconds=1):
        hint = did_you_mean(
            text, units, f"It takes {', '.join(units)}, or a length of at least one second such as 15m or 8h."
        )
        raise UnreadableError(f'"{shown(text)}" is not a bucket', hint)
    return length


def range_params(settings: ApiSettings) -> tuple[Param, Param]:
    """`from` and `to`."""
    return (
        params.time(
            "from",
            f"Where to begin; {settings.timeline_s / 3600:g} h before `to` when left out.",
            "2026-11-21T00:00:00Z",
        ),
        params.time("to", "Where to end; now when left out or in the future.", "2026-11-22T00:00:00Z"),
    )


def bucket_param(otherwise: str) -> Param:
    """How the range is cut; `otherwise` says what happens when it is left out."""
    return Param(
        "bucket",
        read_bucket,
        {"type": "string"},
        "Cut by `hour`, `day`, `week` or `month` of the place's calendar, or into equal lengths "
        f"such as `15m`; {otherwise} when left out.",
        "day",
    )


KNOWN_AT = params.time(
    "known_at",
    "Answer as it would have been answered then: without what was recorded later, corrections and what "
    "devices told late alike. As known now when left out.",
    "2026-11-21T23:00:00Z",
)


def known_at_of(context: Context, call: Call) -> datetime | None:
    """The instant of knowledge a request asks for.

    Raises:
        Problem: `invalid_parameter`, when it lies in the future.
    """
    known_at: datetime | None = call.query["known_at"]
    now = context.now()
    if known_at is not None and known_at > now + timedelta(seconds=context.settings.clock_skew_s):
        reason = "it lies in the future, and nobody knows what will be known then"
        raise invalid_parameter("known_at", reason, f"It is {write_time(now)} here.")
    return known_at


TZ = Param(
    "tz",
    read_zone,
    {"type": "string"},
    "Time zone of the calendar, by its IANA name; UTC when left out. Days on which clocks change "
    "have 23 or 25 hours.",
    "Europe/Berlin",
)
