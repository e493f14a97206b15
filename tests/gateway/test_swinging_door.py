"""The swinging door: few points, and the straight lines between them pass no other too far away."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.swinging_door import Point, SwingingDoor

AT = datetime(2026, 3, 1, tzinfo=UTC)


def point(at_ms: int, value: float) -> Point[int]:
    return Point(AT + timedelta(milliseconds=at_ms), value, at_ms)


def through(door: SwingingDoor[int], points: list[Point[int]]) -> list[int]:
    """The places in time of the points let through, the one held at the end too."""
    passed = [what for item in points for what in door.take(item)]
    return [*passed, *door.flush()]


def off_the_line(kept: list[Point[int]], points: list[Point[int]]) -> float:
    """The greatest distance of a point from the straight lines that join those kept."""
    worst = 0.0
    for before, after in pairwise(kept):
        for item in points:
            if before.at <= item.at <= after.at and before.at < after.at:
                share = (item.at - before.at) / (after.at - before.at)
                on_line = before.value + share * (after.value - before.value)
                worst = max(worst, abs(item.value - on_line))
    return worst


def test_a_ramp_is_its_two_ends() -> None:
    ramp = [point(100 * step, 0.5 * step) for step in range(200)]

    assert through(SwingingDoor(0.1), ramp) == [0, 19_900]


def test_a_step_has_both_its_edges() -> None:
    signal = [point(100 * step, 0.0 if step < 50 else 10.0) for step in range(100)]

    assert through(SwingingDoor(0.5), signal) == [0, 4_900, 5_000, 9_900]


def test_noise_within_the_deviation_is_two_points() -> None:
    noise = [point(100 * step, 20.0 + 0.2 * math.sin(step)) for step in range(1_000)]

    assert len(through(SwingingDoor(0.5), noise)) == 2


def test_a_sine_needs_few_points_and_stays_within_the_deviation() -> None:
    wave = [point(10 * step, 100 * math.sin(step / 500)) for step in range(10_000)]
    kept = set(through(SwingingDoor(1.0), wave))

    assert len(kept) < 150
    assert off_the_line([item for item in wave if item.what in kept], wave) <= 1.0 + 1e-9


def test_two_values_at_one_instant_are_both_kept() -> None:
    assert through(SwingingDoor(5.0), [point(0, 1.0), point(0, 1.1), point(100, 1.0)]) == [0, 0, 100]


def test_a_clock_that_goes_back_loses_no_point() -> None:
    points = [point(0, 1.0), point(1_000, 1.0), point(500, 1.0), point(600, 1.0)]

    assert through(SwingingDoor(5.0), points) == [0, 1_000, 500, 600]


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324])
def test_extreme_values_break_nothing(value: float) -> None:
    points = [point(0, value), point(1, -value), point(2, value), point(3, 0.0)]
    kept = through(SwingingDoor(1.0), points)

    assert (kept[0], kept[-1]) == (0, 3)


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.floats(-1_000, 1_000, width=32)), min_size=1, max_size=80),
    st.floats(0.001, 100),
    st.sets(st.integers(0, 79)),
)
def test_no_point_is_further_off_than_the_deviation(
    steps: list[tuple[int, float]], deviation: float, flushed_after: set[int]
) -> None:
    door: SwingingDoor[int] = SwingingDoor(deviation)
    points: list[Point[int]] = []
    passed: list[int] = []
    at_ms = 0
    for number, (pause_ms, value) in enumerate(steps):
        at_ms += pause_ms
        points.append(point(at_ms, value))
        passed += door.take(points[-1])
        if number in flushed_after:
            passed += door.flush()
    passed += door.flush()
    kept = set(passed)

    assert passed == sorted(kept), "each once, in order"
    assert passed[0] == points[0].what
    assert passed[-1] == points[-1].what
    assert (
        off_the_line([item for item in points if item.what in kept], points) <= deviation * (1 + 1e-9) + 1e-9
    )
