"""The table: judgement by closure, and what a model refuses to be."""

from __future__ import annotations

from typing import Any

import pytest

from statemodel.model import Edge, Model, State
from statemodel.types import Conformance


def _model(*moves: str, **more: Any) -> Model:
    """States and moves from `A>b` pairs; lower case states act, upper case ones wait."""
    edges = [Edge(*move.split(">")) for move in moves]
    names = dict.fromkeys(name for edge in edges for name in (edge.from_state, edge.to_state))
    states = tuple(State(name, acting=name.islower()) for name in names)
    return Model("m", states[0].name, states, tuple(edges), **more)


def test_the_shortest_way_through_acting_states_is_told() -> None:
    model = _model("A>b", "A>c", "b>D", "c>e", "e>D")
    assert model.judge("A", "D").skipped == ("b",)
    assert model.judge("A", "e").skipped == ("c",)


def test_of_several_shortest_ways_the_one_tabled_first_is_told() -> None:
    assert _model("A>b", "A>c", "b>D", "c>D").judge("A", "D").skipped == ("b",)
    assert _model("A>c", "A>b", "b>D", "c>D").judge("A", "D").skipped == ("c",)


def test_a_wait_state_ends_every_way() -> None:
    model = _model("A>b", "b>C", "C>d", "d>E")
    assert model.judge("A", "C").skipped == ("b",)
    assert model.judge("A", "E").conformance is Conformance.ILLEGAL


def test_circles_come_to_an_end() -> None:
    assert _model("A>b", "b>c", "c>b", "D>A").judge("A", "D").conformance is Conformance.ILLEGAL


def test_an_acting_state_may_be_too_long_to_pass_unseen() -> None:
    states = (State("A"), State("b", acting=True, transient=False), State("C"))
    model = Model("m", "A", states, (Edge("A", "b"), Edge("b", "C")))
    assert model.judge("A", "C").conformance is Conformance.ILLEGAL


def test_passing_over_disabled_states_may_go_on() -> None:
    model = _model("A>b", "b>c", "c>D", disabled=frozenset({"b", "c"}))
    assert [(edge.from_state, edge.to_state) for edge in model.edges] == [("A", "D")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"initial": "X"}, "no such state: X"),
        ({"states": (State("A"), State("A"))}, "share a name"),
        ({"states": (State("A", 1), State("B", 1))}, "A and B share code 1"),
        ({"transitions": (Edge("A", "X"),)}, "no such state: X"),
        ({"codes": {1: "X"}}, "no such state: X"),
        ({"disabled": frozenset({"X"})}, "no such state: X"),
    ],
)
def test_a_table_that_contradicts_itself_cannot_be_built(change: dict[str, Any], words: str) -> None:
    sound: dict[str, Any] = {
        "name": "m",
        "initial": "A",
        "states": (State("A"), State("B")),
        "transitions": (),
    }
    with pytest.raises(ValueError, match=words):
        Model(**(sound | change))


def test_a_state_shows_the_lamp_of_its_category() -> None:
    assert State("A", category="unscheduled-down").colour == "red"
    assert State("A", category="unscheduled-down", colour="blue").colour == "blue"
    assert State("A").colour == "grey"
