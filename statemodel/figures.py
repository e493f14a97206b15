"""All figures of a stretch of time together: durations by state and category, counts, E10, ISO 22400.

This is the form that people and programs are told; what the figures mean is `kpi.py`, where time is cut is
`calendars.py`. It knows no clock, and no time zone but the one it is handed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise

import msgspec

from statemodel.kpi import (
    E10Counts,
    E10Metrics,
    IsoFactors,
    e10_counts,
    e10_metrics,
    e10_times,
    iso_factors,
    iso_times,
)
from statemodel.model import CATEGORIES
from statemodel.timeline import Span, durations, within
from statemodel.types import UNKNOWN

#: Time in states that have no category in their model.
UNQUALIFIED = "unqualified"
#: Time of which nothing is known.
NOT_SEEN = "unknown"


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of time to be told about; `name` is that of a shift, else null."""

    begin: datetime
    end: datetime
    name: str | None = None


class Figures(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What the time from `from` to `to` was spent on, and what it was worth. All times are seconds.

    `categories` has the six states of SEMI E10, `unqualified` (states without a category) and `unknown`;
    they sum to `duration_s`, and so does `states`. `seen` is the share of the time in the six. The figures
    in `e10` and `iso22400` are about that time alone; null where there is nothing to divide by. `local_from`
    is `from` by the clocks of the place.
    """

    name: str | None
    from_: datetime
    to: datetime
    local_from: str
    duration_s: float
    seen: float | None
    categories: Mapping[str, float]
    states: Mapping[str, float]
    counts: E10Counts
    e10: E10Metrics
    iso22400: IsoFactors


def stretches(bounds: Sequence[datetime]) -> tuple[Stretch, ...]:
    """The stretches between neighbouring bounds."""
    return tuple(Stretch(begin, end) for begin, end in pairwise(bounds))


def figures(spans: Sequence[Span], asked: Iterable[Stretch], zone: tzinfo) -> tuple[Figures, ...]:
    """The figures of each stretch, in order, from a timeline without holes that covers them all."""
    return tuple(_figures_of(spans, stretch, zone) for stretch in asked)


def _figures_of(spans: Sequence[Span], stretch: Stretch, zone: tzinfo) -> Figures:
    before, part = within(spans, stretch.begin, stretch.end)
    spent = durations(part)
    times, counts = e10_times(spent), e10_counts(part, before=before)
    not_seen = spent.by_state.get(UNKNOWN, timedelta(0))
    unqualified = spent.in_category(None) - not_seen
    categories = {category: spent.in_category(category).total_seconds() for category in CATEGORIES}
    categories |= {UNQUALIFIED: unqualified.total_seconds(), NOT_SEEN: not_seen.total_seconds()}
    return Figures(
        name=stretch.name,
        from_=stretch.begin,
        to=stretch.end,
        local_from=stretch.begin.astimezone(zone).isoformat(),
        duration_s=spent.total.total_seconds(),
        seen=(spent.total - spent.in_category(None)) / spent.total if spent.total else None,
        categories=categories,
        states={state: length.total_seconds() for state, length in spent.by_state.items()},
        counts=counts,
        e10=e10_metrics(times, **msgspec.structs.asdict(counts)),
        iso22400=iso_factors(iso_times(spent)),
    )
