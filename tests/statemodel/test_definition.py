"""Models as people write them: read right, or refused with every problem at once."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.check import check
from statemodel.definition import read_model
from statemodel.describe import describe, mermaid, table
from statemodel.types import UNKNOWN, Conformance
from tests.statemodel.support import OVEN, batch, engine_for, model_of

_MINIMAL = {"name": "m", "initial": "A", "states": [{"name": "A", "code": 1}, {"name": "B", "code": 2}]}


def _with(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (_MINIMAL | changes).items() if value is not ...}


def test_the_oven_reads_as_written() -> None:
    model = model_of(OVEN)
    assert [state.colour for state in model.states] == ["grey", "amber", "green", "red"]
    assert model.inputs == ("door", "run", "temp")
    assert len(model.edges) == 9
    assert model.judge("Off", "Baking").conformance is Conformance.ILLEGAL
    assert [rule.text for rule in model.rules] == ["not run", "door", "temp >= 180", "True"]
    assert check(model) == ()


def test_without_a_table_every_move_is_legal() -> None:
    model = model_of(_MINIMAL)
    assert {(e.from_state, e.to_state) for e in model.edges} == {("A", "B"), ("B", "A")}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_with(name=...), [("name", "missing")]),
        (_with(name=7), [("name", "a text is needed here, not a number")]),
        (_with(inital="A", initial=...), [("inital", 'did you mean "initial"?'), ("initial", "missing")]),
        (_with(initial="a"), [("initial", 'did you mean "A"?')]),
        (_with(initial="Unknown"), [("initial", "always legal")]),
        (_with(states=...), [("states", "missing"), ("initial", "no state")]),
        (_with(states=[]), [("states", "at least one"), ("initial", "no state")]),
        (_with(states="A"), [("states", "a list is needed"), ("initial", "no state")]),
        (_with(states=["A"]), [("states[0]", "a table is needed here, not a text"), ("initial", "no state")]),
        (_with(states=[{"name": "A"}, {"name": "A"}]), [("states[1].name", "two states")]),
        (_with(states=[{"name": "A"}, {"name": "Unknown"}]), [("states[1].name", "already")]),
        (_with(states=[{"name": "A"}, {"name": "*"}]), [("states[1].name", "cannot be the name")]),
        (_with(states=[{"name": "A"}, {"name": "x" * 65}]), [("states[1].name", "more than 64")]),
        (_with(states=[{"name": "A", "colour": "pink"}]), [("states[0].colour", "not one of the choices")]),
        (_with(states=[{"name": "A", "color": "red"}]), [("states[0].color", 'did you mean "colour"?')]),
        (
            _with(states=[{"name": "A", "category": "productiv"}]),
            [("states[0].category", 'did you mean "productive"?')],
        ),
        (_with(states=[{"name": "A", "code": True}]), [("states[0].code", "not true or false")]),
        (_with(states=[{"name": "A", "acting": 1}]), [("states[0].acting", "true or false is needed")]),
        (
            _with(states=[{"name": "A", "code": 1}, {"name": "B", "code": 1}]),
            [("states", "A and B share code 1")],
        ),
        (_with(transitions=[{"from": "A", "to": "C"}]), [("transitions[0].to", 'no state "C"')]),
        (_with(transitions=[{"from": "A"}]), [("transitions[0].to", "missing")]),
        (_with(transitions=[{"from": "A", "to": 3}]), [("transitions[0].to", "a text or a list of texts")]),
        (
            _with(transitions=[{"from": "A", "to": "B"}, {"from": "B", "to": "B"}]),
            [("transitions[1].to", "where the transition starts")],
        ),
        (_with(transitions=[{"from": "A", "to": "Unknown"}]), [("transitions[0].to", "always legal")]),
        (_with(transitions=[{"from": "B", "to": "A"}]), [("states[1]", "B cannot be reached from A")]),
        (_with(rules=[{"state": "A", "when": "x >"}]), [("rules[0].when", "column 4")]),
        (_with(rules=[{"state": "A", "when": "a.b"}]), [("rules[0].when", "bind the tag to a plain name")]),
        (_with(rules=[{"state": "C", "when": "x"}]), [("rules[0].state", 'no state "C"')]),
        (_with(rules=[{"state": "A", "when": "x", "for": "2"}]), [("rules[0].for", "not a duration")]),
        (_with(rules=[{"state": "A"}]), [("rules[0].when", "missing")]),
        (_with(rules=[{"when": "x"}]), [("rules[0].state", "missing")]),
        (_with(rules=[{"state": "A", "when": "1 / 0 > 1"}]), [("rules[0].when", "never be decided")]),
        (_with(on_illegal="ignore"), [("on_illegal", "not one of the choices")]),
        (_with(extends="packlm"), [("extends", 'did you mean "packml"?')]),
        (_with(disable=["C"]), [("disable", 'no state "C"')]),
        (_with(disable="A"), [("initial", "A is disabled")]),
        (_with(codes=[1]), [("codes", "a table is needed")]),
        (_with(codes={"A": 1.5, "B": [True]}), [("codes.A", "a whole number"), ("codes.B", "a word")]),
        (_with(codes={"A": 1, "B": [2, 1]}), [("codes.B", "A and B share code 1")]),
        (_with(codes={"C": 1}), [("codes.C", "not known")]),
        (
            _with(name=..., initial="X", rules=[{"state": "Y", "when": "1 +"}, 5]),
            [
                ("name", "missing"),
                ("initial", "no state"),
                ("rules[0].state", "no state"),
                ("rules[0].when", "column 4"),
                ("rules[1]", "a table is needed"),
            ],
        ),
    ],
)
def test_every_problem_is_told_with_its_place_and_hint(
    data: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    model, problems = read_model(data)
    assert model is None
    told = [(problem.path, str(problem)) for problem in problems]
    for path, words in expected:
        assert any(path == place and words in text for place, text in told), (path, words, told)
    assert {path for path, _ in told} <= {path for path, _ in expected}


def test_extending_packml_for_a_plc_that_numbers_its_own_way() -> None:
    text = """
        name = "filler"
        extends = "packml"
        disable = ["Starting", "Clearing"]
        codes = { Stopped = 0, Idle = 2, Execute = [4, 40], Aborted = 8, Held = 14, Unknown = 99 }
        states = [{ name = "Cleaning", category = "scheduled-down" }, { name = "Held", colour = "red" }]
        transitions = [{ from = "Stopped", to = "Cleaning" }, { from = "Cleaning", to = "Stopped" }]
    """
    model = model_of(tomllib.loads(text))
    assert model.initial == "Stopped"
    assert model.by_value[40] == "Execute"
    assert model.by_name["Execute"].code == 4
    assert model.by_name["Suspended"].code is None, "the codes table is the whole numbering"
    assert model.by_value[99] == UNKNOWN
    assert 1 not in model.by_value
    assert model.by_name["Held"].colour == "red"
    assert model.by_name["Held"].category == "unscheduled-down"
    assert model.judge("Stopped", "Cleaning").conformance is Conformance.LEGAL
    assert model.judge("Idle", "Execute").conformance is Conformance.LEGAL, "Starting is passed over"
    assert model.judge("Aborted", "Stopped").conformance is Conformance.LEGAL, "Clearing is passed over"
    assert model.judge("Idle", "Starting").conformance is Conformance.ILLEGAL
    assert BUILTIN["packml"].judge("Idle", "Execute").conformance is Conformance.LEGAL_BY_CLOSURE


def test_a_disabled_wait_state_cannot_be_rested_in() -> None:
    model = model_of({"name": "m", "extends": "packml", "disable": ["Held"]})
    for source in ("Execute", "Suspended"):
        assert model.judge(source, "Holding").conformance is Conformance.ILLEGAL, "Hold is refused everywhere"
        assert model.judge(source, "Held").conformance is Conformance.ILLEGAL
    assert not any({"Held", "Holding"} & {edge.from_state, edge.to_state} for edge in model.edges)
    assert check(model) == ()


def test_passing_over_follows_completion_only() -> None:
    """Abort leaves Holding too, but a machine that skips Holding rests in Held."""
    model = model_of({"name": "m", "extends": "packml", "disable": ["Holding"]})
    passed = {
        edge.to_state for edge in model.edges if edge.from_state == "Execute" and edge.trigger == "Hold"
    }
    assert passed == {"Held"}


def test_packmls_four_permanent_states_stay() -> None:
    for state in ("Stopped", "Idle", "Execute", "Aborted"):
        _, problems = read_model({"name": "m", "extends": "packml", "disable": [state]})
        assert "can never be disabled" in str(problems[0])


def test_own_code_of_an_extension_takes_its_place() -> None:
    data = {"name": "m", "extends": "packml", "states": [{"name": "Idle", "code": 44}]}
    model = model_of(data)
    assert model.by_value[44] == "Idle"
    assert 4 not in model.by_value
    assert model.by_value[0] == UNKNOWN
    _, problems = read_model(data | {"states": [{"name": "Idle", "code": 2}]})
    assert "Stopped and Idle share code 2" in str(problems[0])


@pytest.mark.parametrize(
    ("rules", "path", "words"),
    [
        (["x", "True", "y"], "rules[2]", "rules[1] is always true"),
        (["x", "x"], "rules[1].when", "asks the same first"),
        (["x", "1 > 2", "True"], "rules[1].when", "never true"),
    ],
)
def test_check_warns_of_rules_that_never_come_to_bear(rules: list[str], path: str, words: str) -> None:
    data = _with(rules=[{"state": "AB"[place % 2], "when": when} for place, when in enumerate(rules)])
    found = check(model_of(data))
    assert [(p.path, p.severity) for p in found] == [(path, "warning")]
    assert words in found[0].reason


def test_check_compares_dwell_times_of_the_same_question() -> None:
    rules = [{"state": "A", "when": "x", "for": "2s"}, {"state": "B", "when": "x", "for": "5s"}]
    (found,) = check(model_of(_with(rules=rules)))
    assert found.path == "rules[1].for"
    assert check(model_of(_with(rules=rules[::-1]))) == ()


def test_check_finds_traps_and_states_nothing_leads_to() -> None:
    states = [{"name": "A", "code": 1}, {"name": "B"}]
    found = check(model_of(_with(states=states, transitions=[{"from": "A", "to": "B"}])))
    assert [(p.path, p.severity) for p in found] == [("states[1]", "warning")] * 2
    assert "no transition leaves B" in found[0].reason
    assert "no code and no rule" in found[1].reason


_SCALARS = st.one_of(
    st.sampled_from(
        ["A", "B", "*", "Unknown", "packml", "isa88", "x > 1", "rising(x)", "2s", "Idle", "Held", ""]
    ),
    st.integers(-2, 5),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
)
_WORDS = """
    name initial title states transitions rules on_illegal extends disable codes accept_uncertain
    code category colour acting transient from to trigger state when for A Idle
"""
_KEYS = st.sampled_from(_WORDS.split())
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=20,
)
_STATES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("ABC")}, optional={"code": _SCALARS, "acting": st.booleans()}
    ),
    max_size=4,
)
_NAMES = st.sampled_from(["A", "B", "C", "*", "Idle", "Held", "Holding", "Running"])
_MOVES = st.fixed_dictionaries({"from": _NAMES | st.lists(_NAMES), "to": _NAMES | st.lists(_NAMES)})


@given(
    st.dictionaries(_KEYS, _ANYTHING, max_size=8)
    | st.fixed_dictionaries(
        {"name": st.just("m")},
        optional={
            "initial": _NAMES,
            "extends": st.sampled_from(sorted(BUILTIN)),
            "states": _STATES,
            "transitions": st.lists(_MOVES, max_size=4),
            "disable": st.lists(_NAMES, max_size=3),
            "codes": st.dictionaries(_NAMES, st.integers(0, 3) | st.lists(_SCALARS, max_size=2), max_size=4),
            "rules": st.lists(st.fixed_dictionaries({"state": _NAMES, "when": _SCALARS}), max_size=3),
        },
    )
)
def test_whatever_a_file_holds_is_read_or_refused(data: dict[str, Any]) -> None:
    model, problems = read_model(data)
    assert (model is None) == bool(problems)
    for problem in problems:
        assert problem.reason
        assert problem.severity == "error"
    if model is not None:
        check(model)
        describe(model)
        assert mermaid(model).startswith("stateDiagram-v2\n")
        table(model)
        engine_for(model, state="plc/state").step(batch(1, state=1))
