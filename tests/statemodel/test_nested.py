"""OPC UA's nested PackML machines as one state."""

from __future__ import annotations

from typing import Any

import pytest

from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.nested import innermost
from statemodel.types import UNKNOWN, Quality, SourceLost, TagSample
from tests.statemodel.support import START, after, batch, batch_of, model_of, sample, states

PATH = ("plc/base", "plc/machine", "plc/execute")


def nested(model: Any = None, **more: Any) -> Engine:
    spec = EquipmentSpec("m1", "a/l/m1", model or BUILTIN["packml"], state_path=PATH, **more)
    return Engine([spec], at=START)


def levels(base: str | None, machine: str | None, execute: str | None) -> list[TagSample | None]:
    words = zip(PATH, (base, machine, execute), strict=True)
    return [None if word is None else sample(tag, word) for tag, word in words]


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (("Aborted", "Running", "Execute"), "Aborted"),
        (("Cleared", "Stopped", "Execute"), "Stopped"),
        (("Cleared", "Running", "Held"), "Held"),
        (("Aborting", None, None), "Aborting"),
        (("Cleared", "Clearing", None), "Clearing"),
        (("Cleared", "Running", None), None),
        (("Cleared", None, "Execute"), None),
        ((None, "Running", "Execute"), None),
        (("Cleared", "Running", "Running"), "Running"),
    ],
)
def test_the_innermost_active_machine_decides(words: tuple[str | None, ...], state: str | None) -> None:
    found = innermost(levels(*words))
    assert (found and found.value) == state


def test_a_level_is_as_late_and_as_good_as_the_way_to_it() -> None:
    found = innermost(
        [
            sample("plc/base", "Cleared", 9, source_s=8),
            sample("plc/machine", "Running", 3, quality=Quality.UNCERTAIN),
            sample("plc/execute", "Idle", 5),
        ]
    )
    assert found == TagSample("plc/execute", "Idle", Quality.UNCERTAIN, after(8), after(9))


def test_a_bad_level_decides_only_where_the_way_leads_through_it() -> None:
    bad = sample("plc/execute", None, 1, quality=Quality.BAD, substatus="state_not_active")
    engine = nested()
    engine.step(batch(0, base="Cleared", machine="Stopped"))
    assert states(engine.step(batch_of(1, bad))) == []
    (lost,) = engine.step(batch(2, machine="Running")).transitions
    assert (lost.to_state, lost.cause.rule) == (UNKNOWN, "bad_quality")
    assert [item.tag for item in lost.cause.inputs] == ["plc/execute"]


def test_a_shift_through_all_three_machines() -> None:
    engine = nested()
    told = [
        engine.step(batch(0, base="Cleared", machine="Stopped", execute="Complete")),
        engine.step(batch(1, execute="Resetting", machine="Running")),
        engine.step(batch(2, execute="Idle")),
        engine.step(batch(3, execute="Starting")),
        engine.step(batch(4, execute="Execute")),
        engine.step(batch(5, base="Aborting")),
        engine.step(batch(6, base="Aborted")),
        engine.step(batch(7, execute="Idle")),
        engine.step(batch(8, machine="Clearing", base="Cleared")),
        engine.step(batch(9, machine="Stopped")),
    ]
    wanted = [
        "Stopped",
        "Resetting",
        "Idle",
        "Starting",
        "Execute",
        "Aborting",
        "Aborted",
        "Clearing",
        "Stopped",
    ]
    assert states(*told) == wanted
    assert {made.conformance for outcome in told for made in outcome.transitions} == {"legal"}
    assert told[8].transitions[0].at == after(8), "dated to the level that made the difference"


def test_a_lost_connection_counts_once_and_only_fresh_levels_lead_back() -> None:
    engine = nested()
    engine.step(batch(0, base="Cleared", machine="Running", execute="Execute"))
    (lost,) = engine.step(SourceLost("plc", after(3), "cable cut")).transitions
    assert (lost.to_state, lost.cause.rule, lost.at) == (UNKNOWN, "source_lost", after(3))
    assert [item.tag for item in lost.cause.inputs] == list(PATH)
    assert states(engine.step(batch(5, execute="Execute"))) == []
    assert states(engine.step(batch(6, base="Cleared", machine="Running"))) == ["Execute"]


def test_rules_over_a_nested_state_see_a_batch_as_one() -> None:
    model = model_of(
        {
            "name": "m",
            "extends": "packml",
            "states": [{"name": "Open", "category": "unscheduled-down"}],
            "transitions": [{"from": "*", "to": "Open"}, {"from": "Open", "to": "*"}],
            "rules": [{"state": "Open", "when": "gate"}],
        }
    )
    engine = nested(model, bind={"gate": "plc/gate"})
    engine.step(batch(0, base="Cleared", machine="Running", execute="Execute", gate=False))
    assert states(engine.step(batch(1, gate=True))) == ["Open"]
    assert states(engine.step(batch(2, gate=False, execute="Holding"))) == ["Holding"]
    assert states(engine.step(SourceLost("plc", after(3), "gone"))) == [UNKNOWN]
    assert states(engine.step(batch(4, gate=False))) == [], "the lost code is not taken for news"
