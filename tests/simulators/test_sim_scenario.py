"""Scenario files: the built-in ones load, and a wrong one is refused with every problem and its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.machine import NEVER
from simulators.orders import Command, Fault
from simulators.scenario import ScenarioError, built_in, load, parse


def test_the_built_in_scenarios_are_there_and_sound() -> None:
    assert set(built_in()) >= {"demo", "faults", "story", "trouble"}
    for name in built_in():
        assert load(name).title
    assert load("demo").ends_s == NEVER
    assert load("story").ends_s < 40.0
    assert 50.0 <= load("trouble").ends_s <= 65.0


def test_the_faults_scenario_plays_every_kind() -> None:
    kinds = {step.order.kind for step in load("faults").steps if isinstance(step.order, Fault)}
    assert kinds == {"drop", "freeze", "late", "exceptions", "wrong", "bad_quality"}


def test_steps_are_read_and_put_in_order() -> None:
    scenario = parse(
        """
        [[steps]]
        at = "1m5s"
        command = "stop"
        equipment = "filler-1"
        [[steps]]
        at = "250ms"
        fault = "late"
        server = "modbus-b"
        delay = "300ms"
        for = "2s"
        """,
        "here",
    )
    assert [step.at_s for step in scenario.steps] == [0.25, 65.0]
    assert scenario.steps[0].order == Fault("late", "modbus-b", 2.0, delay_s=0.3)
    assert scenario.steps[1].order == Command("filler-1", "stop")


def test_every_problem_is_told_with_its_place() -> None:
    wrong = """
    titel = "x"
    duration = 40
    [behaviour]
    acting = ["2s", "1s"]
    min_dwell = "1ms"
    random = "yes"
    [start]
    "filler-1" = "Dancing"
    "mixer-1" = "Idle"
    [[steps]]
    command = "stop"
    [[steps]]
    at = "1s"
    fault = "exceptions"
    server = "opcua-a"
    code = 9
    colour = "red"
    [[steps]]
    at = "2s"
    fault = "drop"
    server = "modbus-b"
    seconds = 3
    """
    with pytest.raises(ScenarioError) as caught:
        parse(wrong, "plays/x.toml")
    problems = "\n".join(caught.value.problems)
    for expected in (
        'titel: unknown key; did you mean "title"?',
        "duration: 40 is not a duration",
        "behaviour.acting: has the longest first",
        "behaviour.min_dwell: must be at least",
        "behaviour.random: must be true or false",
        'start.filler-1: cannot start in "Dancing"',
        "start.mixer-1: unknown key",
        "steps[1]: needs the time it is due",
        'steps[2]: the fault "exceptions" exists for modbus servers only',
        "steps[2]: code must be one of",
        'steps[2]: the fault "exceptions" has no setting "colour"',
        'steps[3].seconds: write for = "2s" instead',
    ):
        assert expected in problems
    assert str(caught.value).startswith("plays/x.toml: ")


@pytest.mark.parametrize("text", ["title = ", "[[behaviour]]", "steps = 3", "start = 1"])
def test_what_is_not_a_scenario_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse(text, "here")


def test_a_missing_scenario_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there are demo"):
        load("dmeo")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(str(tmp_path / "none.toml"))
