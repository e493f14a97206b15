"""Days, hours and shifts of a place, across its clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from statemodel.calendars import BUCKETS_MAX, Shift, calendar_bounds, equal_bounds, shift_runs
from tests.statemodel.support import after

_BERLIN = ZoneInfo("Europe/Berlin")


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def _hours(bounds: tuple[datetime, ...]) -> list[float]:
    return [(b - a).total_seconds() / 3600 for a, b in pairwise(bounds)]


def test_equal_buckets_end_with_what_is_left() -> None:
    assert equal_bounds(after(0), after(25), timedelta(seconds=10)) == (
        after(0),
        after(10),
        after(20),
        after(25),
    )
    assert equal_bounds(after(0), after(20), timedelta(seconds=10)) == (after(0), after(10), after(20))


@pytest.mark.parametrize(
    ("begin", "end", "hours"),
    [
        (_utc(2026, 3, 27, 23), _utc(2026, 3, 30, 22), [24, 23, 24]),
        (_utc(2026, 10, 23, 22), _utc(2026, 10, 26, 23), [24, 25, 24]),
        (_utc(2026, 10, 25, 12), _utc(2026, 10, 26, 12), [11, 13]),
    ],
    ids=["spring", "autumn", "from-noon"],
)
def test_local_days_have_23_24_or_25_hours(begin: datetime, end: datetime, hours: list[float]) -> None:
    bounds = calendar_bounds(begin, end, "day", _BERLIN)
    assert _hours(bounds) == hours
    assert all(bound.tzinfo is UTC for bound in bounds)


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    begin, end = _utc(2026, 1, 15), _utc(2026, 4, 10)
    weeks = calendar_bounds(begin, end, "week", _BERLIN)[1:-1]
    assert weeks[0] == _utc(2026, 1, 18, 23)
    assert all(bound.astimezone(_BERLIN).weekday() == 0 for bound in weeks)
    assert len(weeks) == 12
    months = calendar_bounds(begin, end, "month", _BERLIN)[1:-1]
    assert [bound.astimezone(_BERLIN).strftime("%d.%m. %H:%M") for bound in months] == [
        "01.02. 00:00",
        "01.03. 00:00",
        "01.04. 00:00",
    ]


def test_hours_follow_each_other_through_a_clock_change() -> None:
    bounds = calendar_bounds(_utc(2026, 10, 24, 22), _utc(2026, 10, 25, 23), "hour", _BERLIN)
    assert _hours(bounds) == [1.0] * 25
    half = calendar_bounds(_utc(2026, 1, 1), _utc(2026, 1, 1, 2), "hour", ZoneInfo("Asia/Kolkata"))
    assert _hours(half) == [0.5, 1.0, 0.5]


def test_a_day_whose_midnight_does_not_exist_begins_at_the_change() -> None:
    havana = ZoneInfo("America/Havana")  # clocks go from 00:00 to 01:00 on 8 March 2026
    bounds = calendar_bounds(_utc(2026, 3, 7, 5), _utc(2026, 3, 9, 4), "day", havana)
    assert _hours(bounds) == [24, 23]


def test_a_night_shift_lasts_seven_or_nine_hours_when_clocks_change() -> None:
    night = Shift("night", time(22), time(6))
    spring = shift_runs(_utc(2026, 3, 28, 12), _utc(2026, 3, 29, 12), [night], _BERLIN)
    assert [(run.begin, run.end - run.begin) for run in spring] == [
        (_utc(2026, 3, 28, 21), timedelta(hours=7))
    ]
    autumn = shift_runs(_utc(2026, 10, 24, 12), _utc(2026, 10, 25, 12), [night], _BERLIN)
    assert [run.end - run.begin for run in autumn] == [timedelta(hours=9)]


def test_shifts_around_the_clock_leave_no_hole() -> None:
    shifts = [
        Shift("early", time(6), time(14)),
        Shift("late", time(14), time(22)),
        Shift("night", time(22), time(6)),
    ]
    runs = shift_runs(_utc(2026, 10, 20), _utc(2026, 10, 30), shifts, _BERLIN)
    assert all(a.end == b.begin for a, b in pairwise(runs))
    assert runs[0].begin <= _utc(2026, 10, 20)
    assert runs[-1].end >= _utc(2026, 10, 30)
    assert [run.name for run in runs[:3]] == ["night", "early", "late"]


def test_shifts_keep_to_their_weekdays() -> None:
    weekdays = frozenset(range(5))
    runs = shift_runs(
        _utc(2026, 11, 16), _utc(2026, 11, 23), [Shift("day", time(6), time(14), weekdays)], _BERLIN
    )
    assert [run.day.weekday() for run in runs] == [0, 1, 2, 3, 4]


def test_questions_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match=str(BUCKETS_MAX)):
        equal_bounds(after(0), after(1e6), timedelta(milliseconds=1))
    with pytest.raises(ValueError, match=str(BUCKETS_MAX)):
        calendar_bounds(_utc(1, 1, 1), _utc(9000, 1, 1), "hour", _BERLIN)
    with pytest.raises(ValueError, match="range"):
        calendar_bounds(after(1), after(1), "day", _BERLIN)
    with pytest.raises(ValueError, match="length"):
        equal_bounds(after(0), after(1), timedelta(0))
