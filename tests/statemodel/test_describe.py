"""A model told: as data, as a diagram, as a table."""

from __future__ import annotations

import msgspec

from statemodel.builtin import BUILTIN
from statemodel.describe import COLUMNS, describe, mermaid, table
from tests.statemodel.support import OVEN, model_of


def test_the_data_is_plain_and_complete() -> None:
    told = msgspec.json.decode(msgspec.json.encode(describe(model_of(OVEN))))
    assert told["states"][2] == {
        "name": "Baking",
        "code": None,
        "codes": [],
        "category": "productive",
        "colour": "green",
        "acting": False,
        "transient": False,
        "disabled": False,
        "signal": "ok",
        "timeout": None,
        "timeout_to": None,
        "within": None,
    }
    assert {"from": "Off", "to": "Heating", "trigger": None} in told["transitions"]
    assert told["rules"][1] == {"state": "DoorOpen", "when": "door", "for": "2s"}
    assert told["on_illegal"] == "reject"
    assert told["inputs"] == ["door", "run", "temp"]
    assert describe(BUILTIN["packml"])["on_illegal"] == "flag"


def test_the_transitions_told_are_those_in_force() -> None:
    told = describe(model_of({"name": "m", "extends": "packml", "disable": ["Starting"]}))
    assert {"from": "Idle", "to": "Execute", "trigger": "Start"} in told["transitions"]
    assert not [move for move in told["transitions"] if "Starting" in (move["from"], move["to"])]
    assert [state["name"] for state in told["states"] if state["disabled"]] == ["Starting"]


def test_the_diagram_draws_every_transition_in_force() -> None:
    packml = mermaid(BUILTIN["packml"]).splitlines()
    assert packml[0] == "stateDiagram-v2"
    assert "    [*] --> Stopped" in packml
    assert "    Idle --> Starting : Start" in packml
    assert sum(" --> " in line for line in packml) == 49 + 1


def test_names_that_mermaid_cannot_take_get_an_id() -> None:
    states = [{"name": 'Zu warm: "rot"'}, {"name": "end"}]
    model = model_of({"name": "m", "initial": "end", "states": states})
    lines = mermaid(model).splitlines()
    assert '    state "Zu warm: #quot;rot#quot;" as s0' in lines
    assert "    [*] --> s1" in lines
    assert "    s0 --> s1" in lines


def test_the_table_has_a_row_per_state() -> None:
    rows = table(model_of({"name": "m", "extends": "packml", "disable": ["Starting"]}))
    assert all(len(row) == len(COLUMNS) for row in rows)
    by_name = {row[0]: row for row in rows}
    assert by_name["Starting"][4] == "disabled"
    assert by_name["Idle"][1:] == ("4", "standby", "green", "wait", "Execute, Stopping, Aborting")
