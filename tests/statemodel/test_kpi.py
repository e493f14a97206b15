"""Figures against published inputs, and against what they must be when there is nothing to divide by."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta

import pytest

from statemodel.kpi import (
    E10Times,
    IsoTimes,
    e10_metrics,
    e10_of,
    e10_times,
    iso_factors,
    iso_times,
)
from statemodel.timeline import Span, durations
from tests.statemodel.support import after


@pytest.mark.parametrize(
    ("planned_min", "run_min", "cycle_s", "total", "good", "expected"),
    [
        (420, 373, 1, 19271, 18848, (0.888095, 0.861081, 0.978050, 0.747937)),
        (480, 420, 60, 400, 380, (0.875, 0.952381, 0.95, 0.791667)),
    ],
    ids=["O1", "O2"],
)
def test_oee_of_published_inputs(
    planned_min: float, run_min: float, cycle_s: float, total: int, good: int, expected: tuple[float, ...]
) -> None:
    times = IsoTimes(pbt_s=planned_min * 60, apt_s=run_min * 60, aupt_s=run_min * 60, adet_s=0)
    told = iso_factors(times, run_s_per_item=cycle_s, produced=total, good=good, scrap=total - good)
    figures = (told.availability, told.effectiveness, told.quality_ratio, told.oee)
    assert figures == pytest.approx(expected, abs=5e-7)
    assert told.oee == pytest.approx(good * cycle_s / (planned_min * 60), rel=1e-12), (
        "never rounded on the way"
    )
    assert told.nee == pytest.approx(told.oee)
    assert told.scrap_ratio == pytest.approx((total - good) / total)
    assert told.rework_ratio is None


_WEEK = E10Times(*(hours * 3600 for hours in (120, 20, 4, 6, 10, 8)))


def test_e10_metrics_of_a_week() -> None:
    assert _WEEK.total_s == 168 * 3600
    assert _WEEK.operations_s == 160 * 3600
    assert _WEEK.uptime_s == 144 * 3600
    told = e10_metrics(_WEEK, failures_productive=5, failures_uptime=5, repairs=5, downtime_events=8)
    assert told.operational_uptime == pytest.approx(0.9, abs=1e-9)
    assert told.total_uptime == pytest.approx(0.857143, abs=5e-7)
    assert told.operational_utilization == pytest.approx(0.75, abs=1e-9)
    assert told.total_utilization == pytest.approx(0.714286, abs=5e-7)
    assert told.mtbf_productive_s == 24 * 3600
    assert told.mtbf_uptime_s == 28.8 * 3600
    assert told.mttr_s == 2 * 3600
    assert told.mtol_s == 2 * 3600


def test_no_failure_is_no_mean_but_a_lower_bound() -> None:
    told = e10_metrics(_WEEK, failures_productive=0, failures_uptime=0, repairs=0, downtime_events=0)
    assert (told.mtbf_productive_s, told.mtbf_uptime_s, told.mttr_s, told.mtol_s) == (None,) * 4
    assert told.mtbf_productive_least_s == 120 * 3600


def test_nothing_to_divide_by_is_null() -> None:
    none = iso_factors(IsoTimes(0, 0, 0, 0), run_s_per_item=1, produced=0, good=0)
    assert all(figure is None for figure in (none.availability, none.effectiveness, none.oee, none.nee))
    assert none.technical_efficiency is None
    idle = e10_metrics(
        E10Times(0, 0, 0, 0, 0, 0), failures_productive=0, failures_uptime=0, repairs=0, downtime_events=0
    )
    assert (idle.operational_uptime, idle.total_uptime, idle.total_utilization) == (None, None, None)


def test_amounts_nobody_knows_leave_oee_open() -> None:
    told = iso_factors(IsoTimes(100, 80, 90, 10))
    assert told.availability == 0.8
    assert told.technical_efficiency == pytest.approx(80 / 90)
    assert (told.effectiveness, told.quality_ratio, told.oee) == (None, None, None)


def test_a_cycle_planned_too_slow_shows() -> None:
    told = iso_factors(IsoTimes(100, 80, 80, 0), run_s_per_item=2, produced=50, good=50)
    assert told.effectiveness == 1.25
    assert told.oee == 1.0


def _spans(*parts: tuple[str | None, float]) -> list[Span]:
    spans, at = [], 0.0
    for category, seconds in parts:
        spans.append(Span(category or "Unknown", category, after(at), after(at + seconds)))
        at += seconds
    return spans


def test_times_by_category_sum_to_the_total() -> None:
    spans = _spans(
        ("productive", 10),
        ("unscheduled-down", 3),
        ("productive", 5),
        (None, 2),
        ("standby", 4),
        ("scheduled-down", 6),
        ("non-scheduled", 7),
        ("engineering", 1),
    )
    times = e10_times(durations(spans))
    assert astuple(times) == (15, 4, 1, 6, 3, 7, 2)
    assert times.total_s + times.unknown_s == 38
    iso = iso_times(durations(spans), setup=timedelta(seconds=2))
    assert astuple(iso) == (23, 15, 17, 3, 2)


def test_failures_are_counted_where_they_were_seen_to_begin() -> None:
    spans = _spans(
        ("unscheduled-down", 1),  # lasts since before: a repair, no failure
        ("productive", 10),
        ("unscheduled-down", 2),  # failure while productive
        ("standby", 5),
        ("unscheduled-down", 3),  # failure in uptime
        (None, 1),
        ("unscheduled-down", 4),  # out of the unknown: nobody saw it begin, or the one before it end
        ("productive", 10),
        ("scheduled-down", 2),  # downtime, no failure
        ("unscheduled-down", 1),  # the same downtime
    )
    times, told = e10_of(spans)
    assert times.productive_s == 20
    assert told.mtbf_productive_s == 20.0
    assert told.mtbf_uptime_s == 12.5
    assert told.mttr_s == pytest.approx(11 / 3)
    assert told.mtol_s == pytest.approx(13 / 3)
