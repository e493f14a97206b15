"""Whose turn it is: fixed rates, nothing queued, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.schedule import Cycle, Schedule


def test_a_group_that_keeps_up_is_due_on_its_grid() -> None:
    schedule = Schedule([1.0], 100.0)
    assert schedule.next(100.0) == 0
    schedule.began(0, 100.0)
    assert schedule.finished(0, 100.25) == Cycle(0.25, 0.0, 0)
    assert schedule.next(100.25) is None
    assert schedule.wait_s(100.25) == 0.75
    schedule.began(0, 101.125)
    assert schedule.finished(0, 101.25) == Cycle(0.125, 0.125, 0)
    assert schedule.wait_s(101.25) == 0.75, "lateness does not move the grid"


def test_a_little_late_is_made_good_at_once() -> None:
    schedule = Schedule([1.0], 0.0)
    schedule.began(0, 0.0)
    assert schedule.finished(0, 1.5) == Cycle(1.5, 0.0, 0)
    assert schedule.next(1.5) == 0


@pytest.mark.parametrize(
    ("took_s", "skipped", "next_due"), [(2.0, 1, 2.0), (2.5, 1, 2.0), (3.5, 2, 3.0), (60.25, 59, 60.0)]
)
def test_cycles_that_passed_are_skipped_and_counted(took_s: float, skipped: int, next_due: float) -> None:
    schedule = Schedule([1.0], 0.0)
    schedule.began(0, 0.0)
    assert schedule.finished(0, took_s).skipped == skipped
    schedule.began(0, took_s)
    assert schedule.finished(0, took_s).lateness_s == took_s - next_due


def test_the_group_with_the_least_time_left_goes_first() -> None:
    schedule = Schedule([10.0, 0.1], 0.0)
    assert schedule.next(0.0) == 1
    schedule.began(1, 0.0)
    schedule.finished(1, 0.01)
    assert schedule.next(0.01) == 0
    schedule.began(0, 0.01)
    assert schedule.next(0.1) == 1, "a fast group does not wait for the end of a slow one's cycle"


def test_without_groups_nothing_is_ever_due() -> None:
    assert Schedule([], 0.0).next(5.0) is None
    assert Schedule([], 0.0).wait_s(5.0) == float("inf")


@given(
    st.lists(st.sampled_from([0.1, 0.25, 1.0, 5.0]), min_size=2, max_size=4),
    st.lists(st.integers(1, 8), min_size=4, max_size=4),
    st.sampled_from([0.001, 0.02, 0.3]),
)
def test_every_group_gets_turns_even_when_there_is_too_much_to_do(
    intervals: list[float], requests: list[int], request_s: float
) -> None:
    """A link that takes `request_s` a request, driven for a while."""
    schedule, now = Schedule(intervals, 0.0), 0.0
    left = [0] * len(intervals)
    cycles = [0] * len(intervals)
    skipped = [0] * len(intervals)
    end = 100.0
    while now < end:
        group = schedule.next(now)
        if group is None:
            now += schedule.wait_s(now)
            continue
        if left[group] == 0:
            schedule.began(group, now)
            left[group] = requests[group]
        now += request_s
        left[group] -= 1
        if left[group] == 0:
            cycles[group] += 1
            skipped[group] += schedule.finished(group, now).skipped
    work_s = sum(requests[: len(intervals)]) * request_s
    for index, interval in enumerate(intervals):
        assert cycles[index] >= (end - 2 * work_s - 2 * interval) / (work_s + interval + request_s) - 1
        assert cycles[index] + skipped[index] <= end / interval + 2, "nothing is queued"
        assert cycles[index] + skipped[index] >= (end - work_s) / interval - 2, "nothing is lost count of"
