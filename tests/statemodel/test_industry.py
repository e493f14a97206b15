"""The other standards' models, each against its own list."""

from __future__ import annotations

import pytest

from statemodel.builtin import BUILTIN
from statemodel.check import check
from statemodel.model import CATEGORIES
from statemodel.types import UNKNOWN, Conformance, TagValue
from tests.statemodel.support import batch, engine_for, model_of, states

_JOB_ORDER = """
    1 NATS NATS Update; 2 NATS ATS Start; 3 ATS NATS RevokeStart; 4 ATS ATS Update; 5 ATS Running -;
    6 Running Interrupted Pause; 7 Running Ended Stop; 8 Running Aborted Abort; 9 Interrupted Aborted Abort;
    10 Interrupted Running Resume; 11 Interrupted Ended Stop; 12 NATS Aborted Abort; 13 ATS Aborted Abort
"""
_SHORT = {"NATS": "NotAllowedToStart", "ATS": "AllowedToStart"}


def test_the_job_order_has_its_thirteen_transitions_in_their_order() -> None:
    expected = []
    for row in _JOB_ORDER.split(";"):
        _, start, to, method = row.split()
        expected.append((_SHORT.get(start, start), _SHORT.get(to, to), method.strip("-")))
    model = BUILTIN["isa95"]
    assert [(e.from_state, e.to_state, e.trigger) for e in model.edges] == expected
    legal = {(start, to) for start, to, _ in expected}
    names = [state.name for state in model.states]
    for start in names:
        for to in names:
            if start != to:
                verdict = model.judge(start, to).conformance
                tabled = (start, to) in legal
                assert verdict is (Conformance.LEGAL if tabled else Conformance.ILLEGAL)
    assert [model.by_value[code] for code in range(1, 7)] == [state.name for state in model.states]


def test_an_order_ends_where_it_ends() -> None:
    found = check(BUILTIN["isa95"])
    assert [(p.severity, p.reason) for p in found] == [
        ("warning", "no transition leaves Ended"),
        ("warning", "no transition leaves Aborted"),
    ]


def test_e10_is_its_six_categories() -> None:
    model = BUILTIN["semi-e10"]
    assert tuple(model.by_name[model.by_value[code]].category for code in range(1, 7)) == CATEGORIES
    assert len(model.edges) == 30
    assert check(model) == ()


_ISA88 = {
    "Running": "Idle Paused Restarting",
    "Complete": "Running",
    "Pausing": "Running",
    "Paused": "Pausing",
    "Holding": "Running Pausing Paused Restarting",
    "Held": "Holding",
    "Restarting": "Held",
    "Stopping": "Running Pausing Paused Holding Held Restarting",
    "Stopped": "Stopping",
    "Aborting": "Running Pausing Paused Holding Held Restarting Stopping",
    "Aborted": "Aborting",
    "Idle": "Complete Stopped Aborted",
}


def test_isa88_moves_as_its_commands_allow() -> None:
    model = BUILTIN["isa88"]
    expected = {(start, to) for to, starts in _ISA88.items() for start in starts.split()}
    assert {(edge.from_state, edge.to_state) for edge in model.edges} == expected
    assert len(model.edges) == len(expected) == 30
    for start in _ISA88:
        for to in _ISA88:
            if start != to:
                legal = model.judge(start, to).conformance is Conformance.LEGAL
                assert legal == ((start, to) in expected)
    assert model.judge("Running", "Held").skipped == ("Holding",)
    assert model.judge("Idle", "Complete").conformance is Conformance.ILLEGAL


@pytest.mark.parametrize("word", ["ACTIVE", "Active"])
def test_mtconnect_is_read_as_words(word: str) -> None:
    engine = engine_for(BUILTIN["mtconnect"])
    outcomes = [
        engine.step(batch(t, state=v)) for t, v in enumerate(["READY", word, "FEED_HOLD", "UNAVAILABLE"])
    ]
    assert states(*outcomes) == ["Ready", "Active", "FeedHold", UNKNOWN]
    last = outcomes[-1].transitions[0]
    assert (last.conformance, last.cause.rule, last.code) == (Conformance.LEGAL, "code", None)
    assert last.cause.text == "plc/state read UNAVAILABLE (Unknown)"


def test_words_may_stand_for_states_of_your_own() -> None:
    model = model_of(
        {"name": "m", "extends": "run-stop", "codes": {"Running": ["LAUF", 1], "Stopped": "HALT"}}
    )
    engine = engine_for(model)
    read: list[TagValue] = ["HALT", "LAUF", "HALT", 1]
    assert states(*(engine.step(batch(t, state=value)) for t, value in enumerate(read))) == [
        "Stopped",
        "Running",
        "Stopped",
        "Running",
    ]
    assert engine.current("m1").code == 1


@pytest.mark.parametrize("name", BUILTIN)
def test_every_built_in_model_is_sound(name: str) -> None:
    model = BUILTIN[name]
    assert model.name == name
    assert model.title
    assert not [problem for problem in check(model) if problem.severity == "error"]
    assert all(state.category in CATEGORIES for state in model.states)


def test_job_order_substates_move_among_themselves_and_as_their_states_do() -> None:
    model = BUILTIN["isa95-substates"]
    whole = BUILTIN["isa95"]
    assert len(model.states) == 3 + 3 + 1 + 2 + 2 + 1
    for edge in model.edges:
        start, to = model.whole_of(edge.from_state), model.whole_of(edge.to_state)
        assert start == to or to in whole.successors[start]
    inner = [e for e in model.edges if model.whole_of(e.from_state) == model.whole_of(e.to_state)]
    assert len(inner) == 5 + 5 + 2 + 1
    assert model.by_value[23] == "AllowedToStart.Loaded"
    assert "NotAllowedToStart.Loaded" not in model.successors["NotAllowedToStart.Waiting"]
    assert {state.category for state in model.states} == {state.category for state in whole.states}


def test_e10_substates_roll_up_to_the_six_states() -> None:
    model, six = BUILTIN["semi-e10-substates"], BUILTIN["semi-e10"]
    assert {model.whole_of(state.name) for state in model.states} == {state.name for state in six.states}
    for state in model.states:
        assert state.category == six.by_name[state.within].category
    assert model.whole_of("Unknown") == "Unknown"
    assert model.whole_of("no such state") == "no such state"
