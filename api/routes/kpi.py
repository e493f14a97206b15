"""What the time of an equipment was spent on, by calendar: durations, SEMI E10, ISO 22400."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast

from starlette.responses import Response

from api.access import Permission
from api.examples import KPI
from api.hints import shown
from api.operation import PREFIX, Answer, Call, Context, Operation
from api.params import Param, UnreadableError, earlier, invalid_parameter
from api.ranges import KNOWN_AT, TZ, Bucket, bucket_param, known_at_of, range_params
from api.responses import list_answer
from api.routes.equipment import NAME
from api.routes.find import find_equipment
from api.schemas import KpiReport
from api.settings import ApiSettings
from statemodel.calendars import Shift, Unit, calendar_bounds, equal_bounds, shift_runs
from statemodel.durations import format_duration
from statemodel.figures import Figures, Stretch, figures, stretches
from statemodel.timeline import Span, filled

_PAGE_INTERVALS = 1000
_SHIFTS_MAX = 24
_SHIFT = re.compile(
    r"(?P<name>[A-Za-z0-9_. -]{1,32})=(?P<begin>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})"
)


async def get_kpi(context: Context, call: Call) -> Response:
    """Figures of a range and of each of its buckets."""
    live = context.ports.live
    view = find_equipment(live, call.path["name"], call.by)
    query = call.query
    known_at = known_at_of(context, call)
    now = context.now() if known_at is None else min(context.now(), known_at)
    to = min(query["to"] or now, now)  # what has not happened yet is not counted
    from_ = query["from"] or earlier(to, timedelta(seconds=context.settings.timeline_s))
    if from_ >= to:
        raise invalid_parameter(
            "from", "it is not before to (or now)", "Exchange from and to, or move one of them."
        )
    zone = query["tz"] or UTC
    buckets = _buckets(query["bucket"], query["shifts"], from_, to, zone, context.settings.buckets_max)
    position = live.position()
    spans = await _spans(context, view.name, from_, to, known_at)
    whole, *parts = await asyncio.to_thread(_all_figures, spans, from_, to, buckets, zone)
    report = KpiReport(
        view.name,
        from_,
        to,
        str(zone),
        _written(query["bucket"], query["shifts"]),
        whole,
        parts,
        position.stream,
        position.last_seq,
    )
    return await list_answer(report, call.headers, context.settings.gzip_bytes_min)


def _all_figures(
    spans: Sequence[Span], from_: datetime, to: datetime, buckets: Sequence[Stretch], zone: Any
) -> Sequence[Figures]:
    timeline = filled(spans, from_, to)
    return figures(timeline, (Stretch(from_, to), *buckets), zone)


def _buckets(
    bucket: Bucket | None,
    shifts: Sequence[Shift] | None,
    from_: datetime,
    to: datetime,
    zone: Any,
    buckets_max: int,
) -> Sequence[Stretch]:
    if bucket is not None and shifts is not None:
        raise invalid_parameter("shifts", "it cannot be given together with bucket", "Leave one of them out.")
    name = "shifts" if shifts is not None else "bucket"
    found: Sequence[Stretch] = ()
    try:
        if shifts is not None:
            runs = shift_runs(from_, to, shifts, zone)
            found = [Stretch(max(run.begin, from_), min(run.end, to), run.name) for run in runs]
        elif isinstance(bucket, timedelta):
            found = stretches(equal_bounds(from_, to, bucket))
        elif bucket is not None:
            found = stretches(calendar_bounds(from_, to, cast(Unit, bucket), zone))
    except (ValueError, OverflowError):
        found = ()
        buckets_max = -1
    if len(found) > buckets_max:
        raise invalid_parameter(
            name, "the range holds too many of them", "Ask for a shorter range, or for larger buckets."
        )
    return found


async def _spans(
    context: Context, name: str, from_: datetime, to: datetime, known_at: datetime | None
) -> Sequence[Span]:
    """The whole timeline of a range, page by page.

    Raises:
        Problem: `invalid_parameter`, when it holds more than one answer may read.
    """
    spans: list[Span] = []
    at, asked = from_, _PAGE_INTERVALS
    while at < to:
        found = await context.ports.history.timeline(name, at, to, asked, known_at)
        if not found:
            break
        spans += [
            Span(i.state, i.category, i.from_, i.to) for i in found if i.to is not None and i.to > i.from_
        ]
        reached = found[-1].to or to
        # a page can be full of states that lasted no time at all: then only a larger one leads on
        at, asked = (reached, _PAGE_INTERVALS) if reached > at else (at, asked * 2)
        if len(spans) > context.settings.kpi_intervals_max:
            raise invalid_parameter(
                "from",
                f"the range holds more than {context.settings.kpi_intervals_max} changes of state",
                "Ask for a shorter range.",
            )
    return spans


# Parameters -------------------------------------------------------------------------------------------------


def read_shifts(text: str) -> tuple[Shift, ...]:
    """Shifts by local clock.

    Raises:
        UnreadableError: they are not written as such.
    """
    parts = text.split(",")
    found = [_SHIFT.fullmatch(part) for part in parts[: _SHIFTS_MAX + 1]]
    try:
        shifts = tuple(
            Shift(match["name"], time.fromisoformat(match["begin"]), time.fromisoformat(match["end"]))
            for match in found
            if match is not None
        )
    except ValueError:
        shifts = ()
    if len(shifts) != len(parts):
        raise UnreadableError(
            f'"{shown(text)}" is not a list of shifts',
            f"Write early=06:00-14:00,late=14:00-22:00,night=22:00-06:00; at most {_SHIFTS_MAX}.",
        )
    return shifts


def _written(bucket: Bucket | None, shifts: Sequence[Shift] | None) -> str | None:
    if shifts is not None:
        return "shift"
    return format_duration(bucket) if isinstance(bucket, timedelta) else bucket


def operations(settings: ApiSettings) -> tuple[Operation, ...]:
    """The routes of this file."""
    return (
        Operation(
            f"{PREFIX}/equipment/{{name}}/kpi",
            "equipment",
            "Durations, SEMI E10 and ISO 22400 figures",
            "What the time between two instants was spent on, as a whole and by bucket, cut exactly at every "
            "bound. The six E10 categories, `unqualified` and `unknown` sum to the time of the bucket. "
            "Figures are ratios and seconds, unrounded and not clamped, over the time that was seen; null "
            "where there is nothing to divide by. ISO 22400 figures that need counts of parts are null.",
            get_kpi,
            (Answer(200, "The figures.", "application/json", KpiReport, {"a day": KPI}),),
            (
                NAME,
                *range_params(settings),
                KNOWN_AT,
                bucket_param("not at all"),
                TZ,
                Param(
                    "shifts",
                    read_shifts,
                    {"type": "string"},
                    "Cut by shifts of the place's clocks instead of by `bucket`.",
                    "early=06:00-14:00,late=14:00-22:00,night=22:00-06:00",
                ),
            ),
            ("unknown_equipment", "history_unavailable"),
            needs=Permission.READ,
            scoped=True,
        ),
    )
