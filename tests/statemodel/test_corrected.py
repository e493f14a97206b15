"""What was true when, and what we knew when: corrections over what was told, against a table of instants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.corrected import (
    INTERVALS_MAX,
    CorrectionRefused,
    Stretch,
    Wanted,
    corrected_states,
    in_force,
    overlay,
    painted,
)
from statemodel.records import Recorded, tell
from statemodel.types import CorrectedState, Correction

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
END = 40
STATES = ("Idle", "Execute", "Held")
PACKML = BUILTIN["packml"]


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


def told_from(bounds: Sequence[int], states: Sequence[str]) -> list[Stretch]:
    """Stretches as transitions tell them: without holes; those that lasted no time are told too."""
    return [
        Stretch(state, 1, "standby", second(begin), second(end), "s", 1000 + place)
        for place, ((begin, end), state) in enumerate(zip(pairwise(bounds), states, strict=True))
    ]


def correction(
    seq: int, *pieces: tuple[int, int, str], withdraws: str | None = None, recorded: int | None = None
) -> Recorded:
    intervals = tuple(CorrectedState(state, 7, None, second(a), second(b)) for a, b, state in pieces)
    at = intervals[0].from_ if intervals else START
    until = intervals[-1].to if intervals else second(1)
    event = Correction("m-1", "a/m-1", "packml", at, until, intervals, "why", "anna", withdraws=withdraws)
    recorded_at = second(1000 + (seq if recorded is None else recorded))
    return tell(event, gateway="g", stream="s", seq=seq, recorded_at=recorded_at)


@st.composite
def histories(draw: st.DrawFn) -> list[Stretch]:
    cuts = sorted(draw(st.lists(st.integers(0, END), max_size=8)))
    bounds = [0, *cuts, END]
    states = draw(st.lists(st.sampled_from(STATES), min_size=len(bounds) - 1, max_size=len(bounds) - 1))
    return told_from(bounds, states)


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    bounds = sorted(draw(st.lists(st.integers(-5, END + 5), min_size=2, max_size=6, unique=True)))
    states = draw(st.lists(st.sampled_from(STATES), min_size=len(bounds), max_size=len(bounds)))
    found = [(a, b, state) for (a, b), state in zip(pairwise(bounds), states, strict=False)]
    kept = draw(st.sets(st.integers(0, len(found) - 1), min_size=1))
    return [found[place] for place in sorted(kept)]


@st.composite
def all_corrections(draw: st.DrawFn) -> list[Recorded]:
    found: list[Recorded] = []
    for seq in range(1, draw(st.integers(0, 7)) + 1):
        takes_back: bool = draw(st.booleans())
        if found and takes_back:
            found.append(correction(seq, withdraws=draw(st.sampled_from(found)).id))
        else:
            found.append(correction(seq, *draw(pieces())))
    return found


def by_hand(told: Sequence[Stretch], corrections: Sequence[Recorded], at: datetime) -> tuple[str, int, bool]:
    """Who tells the state at an instant, found the slow way: newest first, whoever covers it."""
    withdrawn = {r.event.withdraws for r in corrections if isinstance(r.event, Correction)}
    for recorded in sorted(corrections, key=lambda r: -r.seq):
        assert isinstance(recorded.event, Correction)
        if recorded.id not in withdrawn and recorded.event.withdraws is None:
            for one in recorded.event.intervals:
                if one.from_ <= at < one.to:
                    return one.state, recorded.seq, True
    stretch = next(one for one in told if one.begin <= at < one.end)
    return stretch.state, stretch.seq, False


@given(histories(), all_corrections())
def test_every_instant_is_told_once_by_the_newest_who_covers_it(
    told: list[Stretch], corrections: list[Recorded]
) -> None:
    laid = overlay(told, in_force(corrections))

    lasting = [one for one in laid if one.end > one.begin]
    assert (lasting[0].begin, lasting[-1].end) == (second(0), second(END))
    assert all(before.end == after.begin for before, after in pairwise(lasting))
    for n in range(END):
        at = second(n + 0.5)
        found = [one for one in laid if one.begin <= at < one.end]
        assert [(one.state, one.seq, one.corrected) for one in found] == [by_hand(told, corrections, at)]


@given(histories(), all_corrections())
def test_it_is_cut_at_the_bounds_of_what_tells_it_and_nowhere_else(
    told: list[Stretch], corrections: list[Recorded]
) -> None:
    laid = overlay(told, in_force(corrections))

    for before, after in pairwise([one for one in laid if one.end > one.begin]):
        assert (before.seq, before.corrected, before.state) != (after.seq, after.corrected, after.state)
    bounds = {one.begin for one in told} | {
        bound
        for recorded in corrections
        if isinstance(recorded.event, Correction)
        for one in recorded.event.intervals
        for bound in (one.from_, one.to)
    }
    assert {one.begin for one in laid} <= bounds


@given(histories(), all_corrections())
def test_laying_it_over_twice_changes_nothing(told: list[Stretch], corrections: list[Recorded]) -> None:
    found = in_force(corrections)
    once = overlay(told, found)

    assert overlay(once, found) == once
    assert overlay(told, in_force([*corrections, *reversed(corrections)])) == once


@given(histories(), all_corrections(), st.randoms(use_true_random=False))
def test_it_does_not_matter_in_which_order_corrections_are_read(
    told: list[Stretch], corrections: list[Recorded], random: object
) -> None:
    shuffled = sorted(corrections, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert overlay(told, in_force(shuffled)) == overlay(told, in_force(corrections))


@given(histories(), all_corrections(), pieces())
def test_what_is_withdrawn_might_never_have_been(
    told: list[Stretch], corrections: list[Recorded], more: list[tuple[int, int, str]]
) -> None:
    before = overlay(told, in_force(corrections))
    made = correction(50, *more)
    taken_back = correction(51, withdraws=made.id)

    assert overlay(told, in_force([*corrections, made])) != before or before == overlay(
        before, in_force([*corrections, made])
    )
    assert overlay(told, in_force([*corrections, made, taken_back])) == before


@given(histories(), all_corrections(), st.integers(0, 8))
def test_what_was_known_earlier_is_answered_as_it_was_then(
    told: list[Stretch], corrections: list[Recorded], known: int
) -> None:
    known_at = second(1000 + known)
    then = [recorded for recorded in corrections if recorded.recorded_at <= known_at]

    assert overlay(told, in_force(corrections, known_at)) == overlay(told, in_force(then))
    assert overlay(told, in_force(corrections, second(999))) == told


@given(all_corrections())
def test_what_is_painted_is_in_order_and_disjoint(corrections: list[Recorded]) -> None:
    over = painted(in_force(corrections))

    assert all(before.end <= after.begin for before, after in pairwise(over))
    assert all(one.end > one.begin for one in over)


def test_a_state_that_lasted_no_time_is_told_unless_a_correction_lies_over_it() -> None:
    told = told_from([0, 10, 10, 20], ["Idle", "Execute", "Held"])

    assert [one.state for one in overlay(told, [])] == ["Idle", "Execute", "Held"]
    outside = overlay(told, in_force([correction(1, (12, 15, "Idle"))]))
    assert [one.state for one in outside] == ["Idle", "Execute", "Held", "Idle", "Held"]
    ending_there = overlay(told, in_force([correction(1, (5, 10, "Held"))]))
    assert [one.state for one in ending_there] == ["Idle", "Held", "Execute", "Held"]
    over_it = overlay(told, in_force([correction(1, (8, 12, "Idle"))]))
    assert [(one.state, one.corrected) for one in over_it] == [
        ("Idle", False),
        ("Idle", True),
        ("Held", False),
    ]


def test_the_model_gives_codes_and_categories() -> None:
    wanted = [Wanted("Execute", second(1), second(5)), Wanted("Unknown", second(7), second(9))]

    states = corrected_states(PACKML, second(0), second(10), wanted)

    assert [(one.state, one.code, one.category) for one in states] == [
        ("Execute", 6, "productive"),
        ("Unknown", None, None),
    ]


def wanted(*found: tuple[str, float, float]) -> list[Wanted]:
    return [Wanted(state, second(begin), second(end)) for state, begin, end in found]


@pytest.mark.parametrize(
    ("asked", "place", "words"),
    [
        ([], "state", "there is none"),
        (wanted(("Excute", 1, 2)), "state", "no state of model packml"),
        (wanted(("Idle", 1, 2), ("Nope", 3, 4)), "intervals[1].state", "no state of model"),
        (wanted(("Idle", -1, 2)), "intervals[0].from", "before from"),
        (wanted(("Idle", 1, 5), ("Held", 4, 6)), "intervals[1].from", "before the end"),
        (wanted(("Idle", 3, 3)), "intervals[0].to", "not after from"),
        (wanted(("Idle", 3, 11)), "intervals[0].to", "after to"),
        (wanted(("Idle", 1, 2)) * (INTERVALS_MAX + 1), "intervals", "more than"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: list[Wanted], place: str, words: str) -> None:
    with pytest.raises(CorrectionRefused) as refused:
        corrected_states(PACKML, second(0), second(10), asked)

    assert (refused.value.place, words in refused.value.reason) == (place, True)
    assert refused.value.hint


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(CorrectionRefused, match="not after from"):
        corrected_states(PACKML, second(5), second(5), wanted(("Idle", 5, 6)))


def test_the_nearest_state_is_named() -> None:
    with pytest.raises(CorrectionRefused) as refused:
        corrected_states(PACKML, second(0), second(10), wanted(("Excute", 1, 2)))
    assert "Execute" in refused.value.hint


def test_a_withdrawal_of_what_is_not_known_yet_changes_nothing() -> None:
    told = told_from([0, END], ["Idle"])
    made = correction(1, (5, 10, "Held"), recorded=5)
    late = msgspec.structs.replace(correction(2, withdraws=made.id), recorded_at=second(2000))

    assert len(overlay(told, in_force([made, late], second(1500)))) == 3
    assert overlay(told, in_force([made, late])) == told
