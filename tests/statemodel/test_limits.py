"""States that last too long, and `Unknown` that does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentMemory
from statemodel.types import UNKNOWN, Conformance, SourceLost, Tick, Transition
from tests.statemodel.support import START, after, batch, bound, engine_for, model_of, rules_model, states

STUCK: dict[str, Any] = {
    "name": "m",
    "extends": "packml",
    "states": [
        {"name": "Starting", "timeout": "30s", "timeout_to": "Stuck"},
        {"name": "Stuck", "category": "unscheduled-down"},
    ],
    "transitions": [{"from": "Starting", "to": "Stuck"}],
    "unknown_timeout": "10m",
    "unknown_timeout_to": "Stuck",
}


def told(transition: Transition) -> tuple[str, str, datetime, str]:
    return transition.from_state, transition.to_state, transition.at, transition.cause.rule


def test_a_state_is_left_at_the_instant_its_time_is_up() -> None:
    engine = engine_for(model_of(STUCK))
    assert engine.step(Tick(START)).wake_at == after(600), "Unknown has its limit from the start"
    engine.step(batch(0, state=4))
    assert engine.step(batch(1, state=3)).wake_at == after(31)
    (late,) = engine.step(Tick(after(99))).transitions
    assert told(late) == ("Starting", "Stuck", after(31), "timeout")
    assert late.cause.text == "Starting has lasted 30s"
    assert late.conformance is Conformance.LEGAL


def test_the_same_code_again_does_not_undo_it_and_the_next_is_judged_as_if_nothing_had_been() -> None:
    engine = engine_for(model_of(STUCK))
    engine.step(batch(0, state=4))
    engine.step(batch(1, state=3))
    engine.step(Tick(after(31)))
    assert states(engine.step(batch(32, state=3))) == []
    (onward,) = engine.step(batch(40, state=6)).transitions
    assert (onward.from_state, onward.to_state, onward.conformance) == ("Stuck", "Execute", Conformance.LEGAL)
    assert states(engine.step(batch(41, state=7)), engine.step(batch(42, state=3))) == [
        "Stopping",
        "Starting",
    ]


def test_a_state_that_ends_in_time_is_left_alone() -> None:
    engine = engine_for(model_of(STUCK))
    engine.step(batch(0, state=3))
    assert engine.step(batch(29.9, state=6)).wake_at is None
    assert states(engine.step(Tick(after(999)))) == []


def test_a_second_state_in_one_batch_comes_after_the_limit_of_the_first() -> None:
    whole, parts = engine_for(model_of(STUCK)), engine_for(model_of(STUCK))
    first, second = batch(1, state=3), batch(60, state=6)
    joined = batch(60).samples + first.samples + second.samples
    together = whole.step(type(first)("plc", after(60), joined)).transitions
    assert together == parts.step(first).transitions + parts.step(second).transitions


def test_unqualified_downtime_begins_when_unknown_has_lasted_too_long() -> None:
    engine = engine_for(model_of(STUCK))
    engine.step(batch(0, state=6))
    engine.step(SourceLost("plc", after(5), "cable cut"))
    (found,) = engine.step(Tick(after(2000))).transitions
    assert told(found) == (UNKNOWN, "Stuck", after(605), "timeout")
    assert found.category == "unscheduled-down"
    assert states(engine.step(SourceLost("plc", after(2001), "still"))) == [], "it is as unknown as before"
    (back,) = engine.step(batch(2002, state=6)).transitions
    assert (back.to_state, back.conformance) == ("Execute", Conformance.LEGAL)


def test_a_derived_state_has_its_limit_too_and_rules_do_not_lead_back() -> None:
    rules = [{"state": "Filling", "when": "run"}, {"state": "Empty", "when": "True"}]
    model = rules_model(
        *rules,
        states=[
            {"name": "Filling", "timeout": "5s", "timeout_to": "Late"},
            {"name": "Empty"},
            {"name": "Late"},
        ],
    )
    engine = engine_for(model)
    assert engine.step(batch(0, run=True)).wake_at == after(5)
    assert states(engine.step(Tick(after(7)))) == ["Late"]
    assert states(engine.step(batch(8, run=2))) == [], "another value, the same answer"
    assert states(engine.step(batch(9, run=False)), engine.step(batch(10, run=True))) == ["Empty", "Filling"]


def test_a_remembered_state_has_its_limit_from_when_it_began() -> None:
    model = model_of(STUCK)
    memory = EquipmentMemory("m1", "Starting", 3, after(-20), 7)
    engine = Engine([bound(model, state="plc/state")], at=START, memory={"m1": memory})
    assert engine.step(Tick(START)).wake_at == after(10)


@pytest.mark.parametrize(
    ("state", "path", "reason"),
    [
        ({"timeout": "5s"}, "states[0].timeout_to", "missing"),
        ({"timeout_to": "B"}, "states[0].timeout_to", "not when"),
        ({"timeout": "5", "timeout_to": "B"}, "states[0].timeout", "not a duration"),
        ({"timeout": "20ms", "timeout_to": "B"}, "states[0].timeout", "shorter than a second"),
        ({"timeout": "9999d", "timeout_to": "B"}, "states[0].timeout", "longer than 3660 days"),
        ({"timeout": "5s", "timeout_to": "A"}, "states[0].timeout_to", "lead to itself"),
        ({"timeout": "5s", "timeout_to": "C"}, "states[0].timeout_to", 'no state "C"'),
    ],
)
def test_a_limit_that_cannot_be_is_refused(state: dict[str, str], path: str, reason: str) -> None:
    data = {"name": "m", "initial": "A", "states": [{"name": "A", **state}, {"name": "B"}]}
    model, problems = read_model(data)
    assert model is None
    assert [(p.path, reason in p.reason) for p in problems] == [(path, True)], problems


def test_limits_that_lead_outside_the_table_or_in_a_circle_are_refused() -> None:
    ring = [
        {"name": "A", "timeout": "5s", "timeout_to": "B"},
        {"name": "B", "timeout": "5s", "timeout_to": "A"},
    ]
    _, problems = read_model({"name": "m", "initial": "A", "states": ring})
    assert [problem.path for problem in problems] == ["states[0].timeout_to", "states[1].timeout_to"]
    assert "round and round: A, B, A" in problems[0].reason
    _, problems = read_model(STUCK | {"transitions": [{"from": "Idle", "to": "Stuck"}]})
    assert "Starting to Stuck is not a transition" in problems[0].reason


def test_a_dwell_beyond_the_calendar_is_refused_before_it_can_overflow() -> None:
    base = {"name": "m", "initial": "A", "states": [{"name": "A"}]}
    for rule in ({"when": "x", "for": "90000d"}, {"when": 'held(x, "90000d")'}):
        model, problems = read_model({**base, "rules": [{"state": "A", **rule}]})
        assert model is None
        assert "longer than" in problems[0].reason
