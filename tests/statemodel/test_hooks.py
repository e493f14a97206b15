"""Every transition asks for its hooks once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.hooks import MOMENTS, Hook, Moment, due
from statemodel.types import TagValue, Transition
from tests.statemodel.support import batch, engine_for

PACKML = BUILTIN["packml"]
CODES = [*(state.code for state in PACKML.states), 0, 99]


def history(codes: list[int | None]) -> list[Transition]:
    """What an engine records when a tag reads one code after another."""
    engine = engine_for(PACKML)
    outcomes = [engine.step(batch(second, state=code)) for second, code in enumerate(codes)]
    return [made for outcome in outcomes for made in outcome.transitions]


def actions(hooks: list[Hook], made: Transition) -> list[str]:
    return [call.hook.action for call in due(hooks, made)]


@given(st.lists(st.sampled_from(CODES), max_size=30))
def test_each_transition_fires_the_exit_and_the_entry_of_its_two_states_exactly_once(
    codes: list[int | None],
) -> None:
    moments: list[Moment] = ["entry", "exit"]
    hooks = [Hook(on, f"{on} {name}", state=name) for on in moments for name in PACKML.by_name]
    made = history(codes)
    fired = [call for transition in made for call in due(hooks, transition)]

    expected = [(f"exit {one.from_state}", f"entry {one.to_state}") for one in made]
    assert [call.hook.action for call in fired] == [action for pair in expected for action in pair]
    assert [call.transition.sequence for call in fired] == [one.sequence for one in made for _ in range(2)]
    # what is entered is left before anything else is entered
    entered = [call.hook.state for call in fired if call.hook.on == "entry"]
    left = [call.hook.state for call in fired if call.hook.on == "exit"]
    assert left[1:] == entered[: len(left[1:])]


@given(st.lists(st.sampled_from(CODES), min_size=1, max_size=10), st.permutations(MOMENTS))
def test_a_transition_is_left_made_and_entered_in_that_order(
    codes: list[int | None], listed: list[Moment]
) -> None:
    hooks = [Hook(on, f"{on} {place}") for place in (1, 2) for on in listed]
    for made in history(codes):
        assert actions(hooks, made) == [
            "exit 1",
            "exit 2",
            "transition 1",
            "transition 2",
            "entry 1",
            "entry 2",
        ]


def test_a_transition_is_picked_by_either_end_or_both() -> None:
    (_, made) = history([4, 3])
    hooks = [
        Hook("transition", "both", from_state="Idle", to_state="Starting"),
        Hook("transition", "from", from_state="Idle"),
        Hook("transition", "to", to_state="Starting"),
        Hook("transition", "any"),
        Hook("transition", "back", from_state="Starting", to_state="Idle"),
        Hook("transition", "elsewhere", from_state="Idle", to_state="Execute"),
    ]
    assert actions(hooks, made) == ["both", "from", "to", "any"]


def test_states_passed_through_unseen_ask_for_nothing() -> None:
    (_, made) = history([4, 6])
    assert made.skipped == ("Starting",)
    assert due([Hook("entry", "e", state="Starting"), Hook("exit", "x", state="Starting")], made) == ()


def test_parameters_are_handed_on_and_cannot_be_changed() -> None:
    given_: dict[str, TagValue] = {"tag": "plc/lamp", "value": True}
    hook = Hook("entry", "write", state="Idle", parameters=given_)
    given_["value"] = False
    (call,) = due([hook], history([4])[0])

    assert dict(call.hook.parameters) == {"tag": "plc/lamp", "value": True}
    with pytest.raises(TypeError):
        call.hook.parameters["value"] = False  # type: ignore[index]


def test_a_hook_that_names_the_wrong_states_is_refused() -> None:
    with pytest.raises(
        ValueError, match="hook publish: on transition, name from_state and to_state, not state"
    ):
        Hook("transition", "publish", state="Idle")
    with pytest.raises(ValueError, match="hook publish: on entry, name state, not from_state or to_state"):
        Hook("entry", "publish", to_state="Idle")
