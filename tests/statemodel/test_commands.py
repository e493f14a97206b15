"""Commands move what shows no state of its own, and are judged everywhere."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from statemodel.builtin import BUILTIN
from statemodel.commands import Command
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.model import Edge, Model, State
from statemodel.types import UNKNOWN, Conformance, Outcome, Rejection, SourceLost, Tick
from tests.statemodel.support import OVEN, START, after, batch, engine_for, model_of, states

JOB_ORDER = BUILTIN["isa95"]
PACKML = BUILTIN["packml"]

DOOR = {
    "name": "door",
    "initial": "Shut",
    "states": [
        {"name": "Shut"},
        {"name": "Open", "timeout": "10s", "timeout_to": "Alarm"},
        {"name": "Alarm"},
    ],
    "transitions": [
        {"from": "Shut", "to": "Open", "trigger": "open"},
        {"from": "Open", "to": "Shut", "trigger": "shut"},
        {"from": "Open", "to": "Alarm"},
        {"from": "Alarm", "to": ["Shut", "Open"], "trigger": "reset"},
    ],
}


def command(trigger: str, seconds: float = 1) -> Command:
    return Command("m1", trigger, after(seconds), "operator 3")


def commanded(model: Model, state: str | None = None) -> Engine:
    """An engine whose equipment only commands move, in a state already if one is given."""
    memory = {} if state is None else {"m1": EquipmentMemory("m1", state, None, START, 4)}
    return Engine([EquipmentSpec("m1", "area/line/m1", model)], at=START, memory=memory)


def refusal(outcome: Outcome) -> Rejection:
    """The rejection that is all there is."""
    assert outcome.transitions == ()
    (rejection,) = outcome.rejections
    return rejection


def test_a_job_order_goes_through_every_one_of_its_thirteen_transitions() -> None:
    assert len(JOB_ORDER.edges) == 13
    for edge in JOB_ORDER.edges:
        outcome = commanded(JOB_ORDER, edge.from_state).step(command(edge.trigger or edge.to_state))

        assert outcome.rejections == ()
        assert states(outcome) == ([edge.to_state] if edge.to_state != edge.from_state else [])


def test_every_other_command_to_a_job_order_is_refused() -> None:
    names = {edge.trigger or edge.to_state for edge in JOB_ORDER.edges}
    tabled = {(edge.from_state, edge.trigger or edge.to_state) for edge in JOB_ORDER.edges}
    for state in (item.name for item in JOB_ORDER.states):
        for name in names:
            if (state, name) not in tabled:
                engine = commanded(JOB_ORDER, state)
                assert refusal(engine.step(command(name))).state == state
                assert engine.current("m1").state == state


def test_a_job_order_from_its_beginning_to_its_end() -> None:
    engine = commanded(JOB_ORDER)
    triggers = ["Update", "Start", "RevokeStart", "Start", "Running", "Pause", "Resume", "Stop"]
    outcomes = [engine.step(command(trigger, place)) for place, trigger in enumerate(triggers)]

    assert engine.current("m1") == EquipmentMemory("m1", "Ended", 5, after(7), 7)
    assert [made.sequence for outcome in outcomes for made in outcome.transitions] == list(range(1, 8))


def test_the_record_says_who_commanded_what() -> None:
    (made,) = commanded(JOB_ORDER).step(command("Start", 2)).transitions

    assert (made.from_state, made.to_state, made.code) == ("NotAllowedToStart", "AllowedToStart", 2)
    assert (made.at, made.duration_s, made.conformance) == (after(2), 2.0, Conformance.LEGAL)
    assert (made.cause.rule, made.cause.text) == ("command", "Start commanded by operator 3")


def test_a_refusal_says_what_is_allowed_instead() -> None:
    rejection = refusal(commanded(JOB_ORDER).step(command("Pause")))

    assert rejection.attempted == "Pause"
    assert rejection.cause.rule == "command"
    assert rejection.reason == "Pause is not allowed in NotAllowedToStart; allowed: Abort, Start, Update"


@pytest.mark.parametrize("trigger", ["Explode", ""])
def test_a_trigger_nobody_knows_is_refused(trigger: str) -> None:
    rejection = refusal(commanded(JOB_ORDER, "Ended").step(command(trigger)))
    assert rejection.reason == f"model isa95 has no trigger {trigger}; allowed: none"


def test_every_refused_command_is_recorded() -> None:
    engine = commanded(JOB_ORDER)
    assert [refusal(engine.step(command("Pause", at))).at for at in (1, 2)] == [after(1), after(2)]


def test_flagging_illegal_moves_does_not_let_a_command_through() -> None:
    engine = commanded(model_of({"name": "order", "extends": "isa95", "on_illegal": "flag"}))
    assert refusal(engine.step(command("Pause"))).state == "NotAllowedToStart"


def test_a_disabled_state_is_not_commanded() -> None:
    model = model_of({"name": "short", "extends": "packml", "disable": ["Held"]})
    rejection = refusal(commanded(model, "Execute").step(command("Hold")))
    assert rejection.reason.startswith("Hold is not allowed in Execute; allowed: Abort, ")
    assert states(commanded(PACKML, "Execute").step(command("Hold"))) == ["Holding"]


def test_no_command_leads_out_of_unknown() -> None:
    rejection = refusal(commanded(JOB_ORDER, UNKNOWN).step(command("Start")))
    assert rejection.reason == "Start is not allowed in Unknown; no command is, until the state is known"


def test_not_even_a_transition_out_of_unknown_is_commanded() -> None:
    model = Model("m", "A", (State("A"),), (Edge(UNKNOWN, "A", "go"),))
    assert refusal(commanded(model, UNKNOWN).step(command("go"))).state == UNKNOWN


@pytest.mark.parametrize("state", [None, "plc/state"])
def test_a_command_is_judged_in_the_unit_mode(state: str | None) -> None:
    spec = EquipmentSpec("m1", "area/line/m1", PACKML, state=state, mode="plc/mode")
    memory = {"m1": EquipmentMemory("m1", "Execute", 6, START, 4)}
    engine = Engine([spec], at=START, memory=memory)
    engine.step(batch(0, state=6, mode=3))
    rejection = refusal(engine.step(command("Suspend")))

    assert rejection.reason.startswith("Suspend is not allowed in Execute in this mode; allowed: ")
    assert [(item.tag, item.value) for item in rejection.cause.inputs] == [("plc/mode", 3)]
    engine.step(SourceLost("plc", after(2), "gone"))
    assert engine.current("m1").state == (UNKNOWN if state else "Execute")


def test_a_trigger_with_two_ends_moves_nothing() -> None:
    rejection = refusal(commanded(model_of(DOOR), "Alarm").step(command("reset")))
    assert rejection.reason == "reset does not say which state to go to from Alarm: Shut, Open"


def test_a_state_that_was_commanded_times_out_before_a_later_command() -> None:
    engine = commanded(model_of(DOOR))
    assert engine.step(command("open", 1)).wake_at == after(11)
    outcome = engine.step(command("shut", 20))

    assert [(made.to_state, made.at) for made in outcome.transitions] == [("Alarm", after(11))]
    assert outcome.rejections[0].state == "Alarm"


def test_where_a_code_shows_the_state_a_command_is_only_judged() -> None:
    engine = engine_for(PACKML)
    assert refusal(engine.step(command("Start", 0))).state == UNKNOWN
    engine.step(batch(1, state=4))
    allowed = engine.step(command("Start", 2))

    assert (allowed.transitions, allowed.rejections) == ((), ())
    assert engine.current("m1").state == "Idle"
    assert refusal(engine.step(command("Hold", 3))).attempted == "Hold"
    assert states(engine.step(batch(4, state=3))) == ["Starting"]


def test_where_rules_show_the_state_a_command_is_only_judged() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, door=False, temp=20))
    allowed = engine.step(command("Baking", 2))

    assert (allowed.transitions, allowed.rejections) == ((), ())
    assert engine.current("m1").state == "Heating"
    assert refusal(engine.step(command("Heating", 3))).state == "Heating"


def test_a_command_to_nobody_changes_nothing() -> None:
    engine = commanded(model_of(DOOR), "Open")
    with pytest.raises(KeyError):
        engine.step(replace(command("shut", 20), equipment="m2"))
    assert states(engine.step(Tick(after(20)))) == ["Alarm"]


def test_a_snapshot_goes_on_where_commands_had_led() -> None:
    engine = commanded(JOB_ORDER)
    engine.step(command("Start"))
    spec = EquipmentSpec("m1", "area/line/m1", JOB_ORDER)
    again = Engine([spec], at=after(5), snapshot=engine.snapshot())
    assert again.step(command("Running", 6)) == engine.step(command("Running", 6))
