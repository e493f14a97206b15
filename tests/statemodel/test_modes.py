"""Unit modes: what they take out of play, and where they may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from statemodel.builtin import BUILTIN
from statemodel.definition import read_model
from statemodel.engine import Engine
from statemodel.types import Conformance, Outcome, Quality, SourceLost
from tests.statemodel.support import START, batch, batch_of, bound, model_of, sample, states

PACKML = BUILTIN["packml"]
PRODUCTION, MAINTENANCE, MANUAL = 1, 2, 3


def moded(**more: Any) -> Engine:
    return Engine([bound(PACKML, state="plc/state", mode="plc/mode", **more)], at=START)


def conformances(*outcomes: Outcome) -> list[Conformance]:
    return [made.conformance for outcome in outcomes for made in outcome.transitions]


def test_packml_has_the_modes_of_its_standard() -> None:
    assert [(mode.code, mode.name) for mode in PACKML.modes] == [
        (1, "Production"),
        (2, "Maintenance"),
        (3, "Manual"),
    ]
    assert PACKML.mode_changes == {"Stopped", "Idle", "Aborted"}


def test_a_state_the_mode_does_not_have_is_an_illegal_move_that_names_the_mode() -> None:
    engine = moded()
    engine.step(batch(0, state=4, mode=MANUAL))
    assert conformances(engine.step(batch(1, state=6))) == [Conformance.LEGAL_BY_CLOSURE]
    (made,) = engine.step(batch(2, state=13)).transitions
    assert made.conformance is Conformance.ILLEGAL
    assert [(item.tag, item.value) for item in made.cause.inputs] == [("plc/state", 13), ("plc/mode", 3)]


def test_in_production_and_without_a_known_mode_the_whole_table_holds() -> None:
    for value in (PRODUCTION, "Production", 0, 31, None):
        engine = moded()
        engine.step(batch(0, state=6, mode=value))
        assert conformances(engine.step(batch(1, state=13))) == [Conformance.LEGAL], value


def test_a_mode_that_changes_where_it_may_not_waits_and_is_told_once() -> None:
    engine = moded()
    engine.step(batch(0, state=6, mode=PRODUCTION))
    (refused,) = engine.step(batch(1, mode=MANUAL)).rejections
    assert (refused.state, refused.attempted, refused.cause.rule) == ("Execute", "mode Manual", "mode")
    assert "it may in Stopped, Idle, Aborted; until then moves are judged in Production" in refused.reason
    assert engine.step(batch(2, mode=MANUAL)).rejections == ()
    assert conformances(engine.step(batch(3, state=13))) == [Conformance.LEGAL], "still in production"
    engine.step(batch(4, state=7))
    engine.step(batch(5, state=2))  # Stopped: now it counts
    engine.step(batch(6, state=15))
    engine.step(batch(7, state=4))
    engine.step(batch(8, state=6))
    assert conformances(engine.step(batch(9, state=13))) == [Conformance.ILLEGAL]


@pytest.mark.parametrize("order", [("state", "mode"), ("mode", "state")])
@pytest.mark.parametrize(("before", "later"), [(2, 15), (7, 2)])
def test_a_mode_that_comes_along_with_a_state_may_have_changed_before_or_after_it(
    order: tuple[str, str], before: int, later: int
) -> None:
    engine = moded()
    engine.step(batch(0, state=before, mode=PRODUCTION))
    values: Mapping[str, int] = {"state": later, "mode": MANUAL}
    outcome = engine.step(batch_of(1, *(sample(f"plc/{name}", values[name], 1) for name in order)))
    assert outcome.rejections == ()
    assert len(states(outcome)) == 1


def test_a_mode_that_is_lost_or_bad_restricts_nothing() -> None:
    for spoil in (
        SourceLost("plc", START, "cable cut"),
        batch_of(1, sample("plc/mode", 3, 1, quality=Quality.BAD)),
    ):
        engine = moded()
        engine.step(batch(0, state=6, mode=MANUAL))
        engine.step(spoil)
        engine.step(batch(2, state=6))
        assert conformances(engine.step(batch(3, state=13))) == [Conformance.LEGAL]


def test_a_derived_state_the_mode_does_not_have_is_refused() -> None:
    model = model_of(
        {
            "name": "m",
            "initial": "Idle",
            "states": [{"name": "Idle"}, {"name": "Run"}, {"name": "Clean"}],
            "rules": [
                {"state": "Clean", "when": "wash"},
                {"state": "Run", "when": "run"},
                {"state": "Idle", "when": "True"},
            ],
            "modes": [{"name": "Auto", "code": 1, "disable": ["Clean"]}, {"name": "Service", "code": 9}],
            "mode_changes": ["Idle"],
        }
    )
    engine = Engine([bound(model, mode="plc/mode")], at=START)
    assert states(engine.step(batch(0, wash=False, run=False, mode=1))) == ["Idle"]
    (refused,) = engine.step(batch(1, wash=True)).rejections
    assert refused.reason == "Idle to Clean is not a transition of model m in this mode"
    assert [item.tag for item in refused.cause.inputs] == ["plc/wash", "plc/mode"]
    engine.step(batch(2, wash=False, mode=9))
    assert states(engine.step(batch(3, wash=True))) == ["Clean"]


def test_modes_that_cannot_be_are_refused() -> None:
    modes = [{"name": "A", "code": 1}, {"name": "A", "code": 1}, {"name": "B"}, {"code": 2, "disable": "X"}]
    _, problems = read_model({"name": "m", "extends": "packml", "modes": modes, "mode_changes": ["Idel"]})
    assert {problem.path for problem in problems} == {
        "modes[1].name",
        "modes[1].code",
        "modes[2].code",
        "modes[3].name",
        "modes[3].disable",
        "mode_changes",
    }


def test_without_complete_a_machine_of_2015_still_produces_and_leaves_what_it_should_not_be_in() -> None:
    manual = BUILTIN["packml-2015"].in_mode(BUILTIN["packml-2015"].mode_of["Manual"])
    assert manual.judge("Idle", "Execute").skipped == ("Starting",)
    assert manual.judge("Execute", "Suspending").conformance is Conformance.ILLEGAL
    assert manual.judge("Suspended", "Stopping").conformance is Conformance.LEGAL
    assert manual.judge("Suspended", "Idle").conformance is Conformance.ILLEGAL
