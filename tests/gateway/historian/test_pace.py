"""A backlog keeps to its rate, gives way to what comes now, and knows when it will be done."""

from __future__ import annotations

import pytest

from gateway.historian.pace import Pace, Rate


def test_a_set_rate_is_kept_over_time_and_not_made_up_for() -> None:
    pace, now_s, rows = Pace(2_000), 100.0, 0
    for _ in range(20):
        now_s += pace.pause_s(1_000, now_s) + 0.01
        rows += 1_000
    assert rows / (now_s - 100.0) == pytest.approx(2_000, rel=0.1)
    assert pace.pause_s(1_000, now_s + 60) == 0.0
    assert pace.pause_s(1_000, now_s + 60) == pytest.approx(0.5), "a rest earns no burst"


def test_at_a_set_rate_a_portion_is_about_a_second() -> None:
    assert Pace(0).rows_at_once(100_000) == 100_000
    assert Pace(5_000).rows_at_once(100_000) == 5_000
    assert Pace(5_000).rows_at_once(30) == 30
    assert Pace(1).rows_at_once(100_000) == 100


def test_without_a_rate_it_pauses_only_while_the_other_lane_is_slow() -> None:
    pace = Pace(0)
    for _ in range(20):
        pace.wrote_alone(0.1)
    pace.wrote_beside(0.19)
    assert pace.pause_s(1_000, 0.0) == 0.0, "less than twice the usual"
    pauses = []
    for _ in range(10):
        pace.wrote_beside(0.25)
        pauses.append(pace.pause_s(1_000, 0.0))
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert pauses[-1] == 1.0, "longer and longer, but never for ever"
    assert pace.rows_at_once(100_000) == 100_000 // 16, "and in small portions"
    for _ in range(20):
        pace.wrote_beside(0.1)
    assert pace.pause_s(1_000, 0.0) == 0.0
    assert pace.rows_at_once(100_000) == 100_000


def test_quick_writes_are_never_called_slow() -> None:
    pace = Pace(0)
    pace.wrote_alone(0.001)
    pace.wrote_beside(0.04)
    assert pace.pause_s(1_000, 0.0) == 0.0


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(0.0)
    assert rate.per_s(1.0) is None
    rate.add(100, 1.0)
    assert rate.per_s(1.0) == 100.0
    for second in range(2, 30):
        rate.add(500, float(second))
    assert rate.per_s(30.0) == pytest.approx(500, rel=0.02)
