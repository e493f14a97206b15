"""Time in states: no holes, exact cuts, sums that add up."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.timeline import Span, cut, durations, entries, rolled_up, spans_between
from statemodel.types import UNKNOWN, Transition
from tests.statemodel.support import START, after, batch, engine_for

_PACKML = BUILTIN["packml"]
_CATEGORIES = {state.name: state.category for state in _PACKML.states}


def _history(*codes: tuple[float, int]) -> list[Transition]:
    engine = engine_for(_PACKML)
    return [made for at, code in codes for made in engine.step(batch(at, state=code)).transitions]


def _told(spans: tuple[Span, ...]) -> list[tuple[str, float, float]]:
    return [
        (span.state, (span.begin - START).total_seconds(), (span.end - START).total_seconds())
        for span in spans
    ]


def test_a_range_is_covered_without_holes() -> None:
    made = _history((10, 4), (20, 6), (50, 11))
    assert _told(spans_between(made, after(5), after(60))) == [
        (UNKNOWN, 5, 10),
        ("Idle", 10, 20),
        ("Execute", 20, 50),
        ("Held", 50, 60),
    ]
    assert _told(spans_between(made, after(25), after(30))) == [("Execute", 25, 30)]
    assert _told(spans_between(made, after(20), after(50))) == [("Execute", 20, 50)]
    assert _told(spans_between([], after(0), after(9))) == [(UNKNOWN, 0, 9)]


def test_the_first_transition_tells_what_it_left() -> None:
    late = _history((10, 4), (20, 6), (50, 11))[1:]
    spans = spans_between(late, after(0), after(30), categories=_CATEGORIES)
    assert _told(spans) == [(UNKNOWN, 0, 10), ("Idle", 10, 20), ("Execute", 20, 30)]
    assert [span.category for span in spans] == [None, "standby", "productive"]
    assert _told(spans_between(late, after(0), after(5))) == [(UNKNOWN, 0, 5)]


def test_stretches_of_no_length_are_left_out() -> None:
    made = _history((10, 4), (20, 3), (20, 6), (30, 4))
    assert [span.state for span in spans_between(made, after(10), after(40))] == ["Idle", "Execute", "Idle"]


@pytest.mark.parametrize(("begin_s", "end_s"), [(5, 5), (6, 5)])
def test_a_range_needs_a_length(begin_s: float, end_s: float) -> None:
    with pytest.raises(ValueError, match="no length"):
        spans_between([], after(begin_s), after(end_s))


def test_transitions_out_of_order_are_refused() -> None:
    made = _history((10, 4), (20, 6))
    with pytest.raises(ValueError, match="transition 1 comes after 2"):
        spans_between(made[::-1], after(0), after(30))


def test_bounds_must_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        cut([], [after(1), after(1)])


_STEPS = st.lists(st.tuples(st.integers(1, 10**10), st.sampled_from(list(_CATEGORIES))), max_size=30)


@given(_STEPS, st.lists(st.integers(0, 10**11), min_size=2, max_size=12, unique=True))
def test_however_time_is_cut_its_parts_add_up_exactly(
    steps: list[tuple[int, str]], bounds_us: list[int]
) -> None:
    engine, made, at_us = engine_for(_PACKML), list[Transition](), 0
    for step_us, state in steps:
        at_us += step_us
        made += engine.step(batch(at_us / 1e6, state=state)).transitions
    bounds = [START + timedelta(microseconds=us) for us in sorted(bounds_us)]
    spans = spans_between(made, bounds[0], bounds[-1])
    assert spans[0].begin == bounds[0]
    assert spans[-1].end == bounds[-1]
    assert all(a.end == b.begin for a, b in pairwise(spans))
    whole = durations(spans)
    assert whole.total == bounds[-1] - bounds[0]
    assert sum(whole.by_state.values(), timedelta()) == whole.total
    assert sum(whole.by_category.values(), timedelta()) == whole.total
    parts = cut(spans, bounds)
    assert len(parts) == len(bounds) - 1
    for part, begin, end in zip(parts, bounds, bounds[1:], strict=False):
        assert durations(part).total == end - begin
    for state, length in whole.by_state.items():
        pieces = (durations(part).by_state.get(state, timedelta()) for part in parts)
        assert sum(pieces, timedelta()) == length


def test_entries_count_stays_not_states() -> None:
    made = _history((10, 6), (20, 10), (30, 11), (40, 12), (50, 6), (60, 8), (70, 9), (80, 1))
    spans = spans_between(made, after(15), after(90))
    assert entries(spans, "unscheduled-down") == 2
    assert entries(spans, "productive") == 1, "the stay that holds at the beginning was not entered"
    assert entries(spans, "unscheduled-down", from_category="standby") == 0
    assert entries(spans, "unscheduled-down", from_category="productive") == 2


def test_substates_roll_up_and_time_stays_whole() -> None:
    model = BUILTIN["semi-e10-substates"]
    names = ["UnscheduledDowntime.MaintenanceDelay", "UnscheduledDowntime.Repair", "Standby.NoProduct"]
    spans = [
        Span(name, model.by_name[name].category, after(place), after(place + 1))
        for place, name in enumerate(names)
    ]
    rolled = rolled_up(spans, model.whole_of)
    assert [(s.state, s.begin, s.end) for s in rolled] == [
        ("UnscheduledDowntime", after(0), after(2)),
        ("Standby", after(2), after(3)),
    ]
    assert durations(rolled).by_category == durations(spans).by_category
