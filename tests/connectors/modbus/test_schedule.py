"""Whose turn it is: fixed rates, nothing queued, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.schedule import Cycle, Schedule, Turn


def turn(interval_s: float, due: float = 0.0) -> Turn:
    return Turn(interval_s, due)


def test_a_group_that_keeps_up_is_due_on_its_grid() -> None:
    group = turn(1.0, 100.0)
    schedule = Schedule([group])
    assert schedule.next(100.0) is group
    group.begin(100.0)
    assert group.finish(100.25) == Cycle(0.25, 0.0, 0)
    assert schedule.next(100.25) is None
    assert schedule.wait_s(100.25) == 0.75
    group.begin(101.125)
    assert group.finish(101.25) == Cycle(0.125, 0.125, 0)
    assert schedule.wait_s(101.25) == 0.75, "lateness does not move the grid"


def test_a_little_late_is_made_good_at_once() -> None:
    group = turn(1.0)
    group.begin(0.0)
    assert group.finish(1.5) == Cycle(1.5, 0.0, 0)
    assert Schedule([group]).next(1.5) is group


@pytest.mark.parametrize(
    ("took_s", "skipped", "next_due"), [(2.0, 1, 2.0), (2.5, 1, 2.0), (3.5, 2, 3.0), (60.25, 59, 60.0)]
)
def test_cycles_that_passed_are_skipped_and_counted(took_s: float, skipped: int, next_due: float) -> None:
    group = turn(1.0)
    group.begin(0.0)
    assert group.finish(took_s).skipped == skipped
    group.begin(took_s)
    assert group.finish(took_s).lateness_s == took_s - next_due


def test_the_group_with_the_least_time_left_goes_first() -> None:
    slow, fast = turn(10.0), turn(0.1)
    schedule = Schedule([slow, fast])
    assert schedule.next(0.0) is fast
    fast.begin(0.0)
    fast.finish(0.01)
    assert schedule.next(0.01) is slow
    slow.begin(0.01)
    assert schedule.next(0.1) is fast, "a fast group does not wait for the end of a slow one's cycle"


def test_a_group_that_is_not_ready_is_passed_over() -> None:
    one, other = turn(1.0), turn(5.0)
    schedule = Schedule([one, other])
    one.ready = False
    assert schedule.next(0.0) is other
    other.ready = False
    assert schedule.next(0.0) is None
    assert schedule.wait_s(0.0) == float("inf"), "whoever makes one ready again looks for himself"


def test_a_group_put_off_has_a_whole_interval() -> None:
    group = turn(2.0)
    group.put_off(5.5)
    assert Schedule([group]).wait_s(5.5) == 2.0


def test_without_groups_nothing_is_ever_due() -> None:
    assert Schedule[Turn]().next(5.0) is None
    assert Schedule[Turn]().wait_s(5.0) == float("inf")


@given(
    st.lists(st.sampled_from([0.1, 0.25, 1.0, 5.0]), min_size=2, max_size=4),
    st.lists(st.integers(1, 8), min_size=4, max_size=4),
    st.sampled_from([0.001, 0.02, 0.3]),
)
def test_every_group_gets_turns_even_when_there_is_too_much_to_do(
    intervals: list[float], requests: list[int], request_s: float
) -> None:
    """A link that takes `request_s` a request, driven for a while."""
    groups, now = [turn(interval_s) for interval_s in intervals], 0.0
    schedule = Schedule(groups)
    left = dict.fromkeys(groups, 0)
    cycles = dict.fromkeys(groups, 0)
    skipped = dict.fromkeys(groups, 0)
    end = 100.0
    while now < end:
        group = schedule.next(now)
        if group is None:
            now += schedule.wait_s(now)
            continue
        if left[group] == 0:
            group.begin(now)
            left[group] = requests[groups.index(group)]
        now += request_s
        left[group] -= 1
        if left[group] == 0:
            cycles[group] += 1
            skipped[group] += group.finish(now).skipped
    work_s = sum(requests[: len(intervals)]) * request_s
    for group, interval in zip(groups, intervals, strict=True):
        assert cycles[group] >= (end - 2 * work_s - 2 * interval) / (work_s + interval + request_s) - 1
        assert cycles[group] + skipped[group] <= end / interval + 2, "nothing is queued"
        assert cycles[group] + skipped[group] >= (end - work_s) / interval - 2, "nothing is lost count of"
