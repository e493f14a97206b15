"""Figures by bucket: they add up to the whole, to the microsecond and to the last failure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from statemodel.calendars import Shift, calendar_bounds, shift_runs
from statemodel.figures import Figures, Stretch, figures, stretches
from statemodel.model import CATEGORIES
from statemodel.timeline import Span, filled, within
from statemodel.types import UNKNOWN
from tests.statemodel.support import START, after

_KINDS = [*CATEGORIES, "plain", UNKNOWN]
_BERLIN = ZoneInfo("Europe/Berlin")


def _span(kind: str, begin: datetime, end: datetime) -> Span:
    return Span(kind, kind if kind in CATEGORIES else None, begin, end)


@st.composite
def _timelines(draw: st.DrawFn) -> tuple[Span, ...]:
    at, spans = START, []
    steps = st.sampled_from([1, 500_000, 999_999, 3_600_000_000, 7_777_777_777])
    for kind in draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=20)):
        end = at + timedelta(microseconds=draw(steps))
        if draw(st.integers(0, 5)):  # else a hole
            spans.append(_span(kind, at, end))
        at = end
    return filled(spans, START, at)


def _microseconds(values: dict[str, float]) -> int:
    return sum(round(value * 1_000_000) for value in values.values())


@given(_timelines(), st.data())
def test_buckets_add_up_to_the_whole(spans: tuple[Span, ...], data: st.DataObject) -> None:
    end = spans[-1].end
    inner = st.one_of(
        st.sampled_from([span.begin for span in spans]),
        st.datetimes(START.replace(tzinfo=None), end.replace(tzinfo=None)),
    )
    cuts = {at.replace(tzinfo=UTC) for at in data.draw(st.lists(inner, max_size=5))}
    bounds = sorted({START, end, *cuts})
    parts = figures(spans, stretches(bounds), UTC)
    (whole,) = figures(spans, [Stretch(START, end)], UTC)
    for told in (whole, *parts):
        length = round(told.duration_s * 1_000_000)
        assert length == (told.to - told.from_) // timedelta(microseconds=1)
        assert _microseconds(dict(told.categories)) == length == _microseconds(dict(told.states))
        assert told.seen is not None
        assert 0 <= told.seen <= 1
    for name, total in msgspec.structs.asdict(whole.counts).items():
        assert sum(getattr(part.counts, name) for part in parts) == total, name
    for category in whole.categories:
        pieces = sum(round(part.categories[category] * 1_000_000) for part in parts)
        assert pieces == round(whole.categories[category] * 1_000_000)


def test_what_happens_at_a_bound_belongs_to_the_bucket_that_begins_there() -> None:
    spans = [
        _span("productive", after(0), after(10)),
        _span("unscheduled-down", after(10), after(20)),
        _span("productive", after(20), after(30)),
    ]
    first, second, third = figures(spans, stretches([after(0), after(10), after(20), after(30)]), UTC)
    assert [part.counts.failures_productive for part in (first, second, third)] == [0, 1, 0]
    assert [part.counts.repairs for part in (first, second, third)] == [0, 0, 1]
    assert (second.e10.mtbf_productive_s, second.e10.operational_uptime) == (0.0, 0.0)
    assert first.iso22400.availability == 1.0
    assert (first.iso22400.oee, first.iso22400.quality_ratio) == (None, None)


def test_unknown_and_unqualified_time_are_in_no_figure() -> None:
    spans = [
        _span("productive", after(0), after(30)),
        _span("plain", after(30), after(40)),
        _span(UNKNOWN, after(40), after(60)),
    ]
    (told,) = figures(spans, [Stretch(after(0), after(60))], UTC)
    assert (told.categories["unqualified"], told.categories["unknown"]) == (10.0, 20.0)
    assert told.seen == 0.5
    assert told.e10.total_utilization == 1.0
    assert told.states == {"productive": 30.0, "plain": 10.0, UNKNOWN: 20.0}
    (blind,) = figures(filled([], after(0), after(5)), [Stretch(after(0), after(5))], UTC)
    assert (blind.seen, blind.e10.total_uptime, blind.iso22400.availability) == (0.0, None, None)


def test_days_and_shifts_are_those_of_the_place() -> None:
    begin, end = datetime(2026, 10, 23, 22, tzinfo=UTC), datetime(2026, 10, 26, 23, tzinfo=UTC)
    spans = filled([_span("productive", begin, end)], begin, end)
    days = figures(spans, stretches(calendar_bounds(begin, end, "day", _BERLIN)), _BERLIN)
    assert [day.duration_s / 3600 for day in days] == [24, 25, 24]
    assert days[2].local_from == "2026-10-26T00:00:00+01:00"
    night = Shift("night", datetime.min.time().replace(hour=22), datetime.min.time().replace(hour=6))
    runs = shift_runs(begin, end, [night], _BERLIN)
    told = figures(spans, [Stretch(max(r.begin, begin), min(r.end, end), r.name) for r in runs], _BERLIN)
    assert Counter(part.duration_s / 3600 for part in told) == Counter([6, 9, 8, 2])
    assert {part.name for part in told} == {"night"}


def test_a_part_knows_what_ended_where_it_begins() -> None:
    spans = filled(
        [_span("standby", after(2), after(4)), _span("standby", after(4), after(6))], after(0), after(9)
    )
    assert [(s.state, s.begin, s.end) for s in spans] == [
        (UNKNOWN, after(0), after(2)),
        ("standby", after(2), after(6)),
        (UNKNOWN, after(6), after(9)),
    ]
    assert within(spans, after(2), after(3)) == (spans[0], (_span("standby", after(2), after(3)),))
    assert within(spans, after(3), after(7))[0] is None
    assert within(spans, after(0), after(1)) == (None, (_span(UNKNOWN, after(0), after(1)),))


def test_figures_read_back_as_they_were_told() -> None:
    spans = filled([_span("productive", after(0), after(1))], after(0), after(3))
    told = figures(spans, [Stretch(after(0), after(3), "early")], _BERLIN)
    assert tuple(msgspec.json.decode(msgspec.json.encode(told), type=list[Figures])) == told
