"""The engine, one behaviour at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.types import (
    UNKNOWN,
    Cause,
    CauseInput,
    Conformance,
    Outcome,
    Quality,
    SourceLost,
    SourceRestored,
    TagValue,
    Tick,
)
from tests.statemodel.support import (
    OVEN,
    START,
    after,
    batch,
    batch_of,
    bound,
    engine_for,
    model_of,
    rules_model,
    sample,
    states,
)

PACKML = BUILTIN["packml"]


def test_the_first_state_comes_from_unknown() -> None:
    engine = engine_for(PACKML)
    assert engine.current("m1") == EquipmentMemory("m1", UNKNOWN, None, START, 0)
    outcome = engine.step(batch_of(3, sample("plc/state", 4, 3, source_s=2.5)))
    (transition,) = outcome.transitions
    assert (transition.sequence, transition.from_state, transition.to_state) == (1, UNKNOWN, "Idle")
    assert (transition.equipment, transition.path, transition.model) == ("m1", "area/line/m1", "packml")
    assert (transition.code, transition.category, transition.conformance) == (4, "standby", Conformance.LEGAL)
    assert (transition.at, transition.duration_s) == (after(3), 3.0)
    evidence = CauseInput("plc/state", 4, Quality.GOOD, after(2.5), after(3))
    assert transition.cause == Cause("code", (evidence,), "plc/state read 4 (Idle)")
    assert engine.current("m1") == EquipmentMemory("m1", "Idle", 4, after(3), 1)


@pytest.mark.parametrize("value", [4, 4.0, "Idle"])
def test_a_code_may_come_as_number_or_name(value: TagValue) -> None:
    assert states(engine_for(PACKML).step(batch(1, state=value))) == ["Idle"]


def test_one_bit_serves_run_stop() -> None:
    engine = engine_for(BUILTIN["run-stop"])
    assert states(*(engine.step(batch(t, state=v)) for t, v in enumerate([True, True, False]))) == [
        "Running",
        "Stopped",
    ]


def test_a_repeated_code_says_nothing() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=4))
    assert engine.step(batch(2, state=4)) == Outcome()
    assert engine.current("m1").since == after(1)


def test_every_value_in_a_batch_counts_in_order() -> None:
    engine = engine_for(PACKML)
    outcome = engine.step(batch_of(5, *(sample("plc/state", code, 5) for code in (4, 3, 3, 6))))
    assert states(outcome) == ["Idle", "Starting", "Execute"]
    assert [t.sequence for t in outcome.transitions] == [1, 2, 3]


def test_skipped_acting_states_are_listed() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=4))
    (transition,) = engine.step(batch(2, state=6)).transitions
    assert (transition.conformance, transition.skipped) == (Conformance.LEGAL_BY_CLOSURE, ("Starting",))


def test_an_illegal_code_is_recorded_and_flagged() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=2))
    (transition,) = engine.step(batch(2, state=6)).transitions
    assert (transition.to_state, transition.conformance) == ("Execute", Conformance.ILLEGAL)


def test_a_model_may_reject_codes_once_per_attempt() -> None:
    engine = engine_for(model_of({"name": "m", "extends": "packml", "on_illegal": "reject"}))
    engine.step(batch(1, state=2))
    outcome = engine.step(batch_of(2, *(sample("plc/state", code, 2) for code in (6, 6, 11, 6))))
    assert outcome.transitions == ()
    assert [(r.state, r.attempted) for r in outcome.rejections] == [
        ("Stopped", "Execute"),
        ("Stopped", "Held"),
    ]
    assert outcome.rejections[0].reason == "Stopped to Execute is not a transition of model m"
    assert outcome.rejections[0].at == after(2)
    assert engine.current("m1").state == "Stopped"
    engine.step(batch(3, state=2))
    assert len(engine.step(batch(4, state=6)).rejections) == 1, "back in the state, a new attempt is news"


@pytest.mark.parametrize(("value", "code"), [(99, 99), (-1, -1), (2.5, None), ("Idel", None), (98.0, 98)])
def test_a_code_nobody_knows_leads_to_unknown_and_is_kept(value: TagValue, code: int | None) -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=4))
    (transition,) = engine.step(batch(2, state=value)).transitions
    assert (transition.to_state, transition.code, transition.conformance) == (
        UNKNOWN,
        code,
        Conformance.ILLEGAL,
    )
    assert transition.category is None
    assert transition.cause.rule == "unknown_code"
    assert transition.cause.text == f"plc/state read {value}, which is no state of model packml"
    assert engine.step(batch(3, state=97)) == Outcome(), "still unknown, for another reason"


def test_packmls_undefined_is_unknown_but_no_offence() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=4))
    (transition,) = engine.step(batch(2, state=0)).transitions
    assert (transition.to_state, transition.code, transition.conformance) == (UNKNOWN, 0, Conformance.LEGAL)


@pytest.mark.parametrize(
    ("quality", "substatus", "value", "rule", "text"),
    [
        (Quality.BAD, "device_failure", 6, "bad_quality", "plc/state is bad (device_failure)"),
        (Quality.BAD, "stale", 6, "stale", "plc/state is bad (stale)"),
        (Quality.UNCERTAIN, "", 6, "bad_quality", "plc/state is uncertain"),
        (Quality.GOOD, "", None, "bad_quality", "plc/state has no value"),
    ],
)
def test_a_value_nobody_can_trust_never_leads_to_a_real_state(
    quality: Quality, substatus: str, value: TagValue, rule: str, text: str
) -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=4))
    bad = sample("plc/state", value, 2, quality=quality, substatus=substatus)
    (transition,) = engine.step(batch_of(2, bad)).transitions
    assert (transition.to_state, transition.cause.rule, transition.cause.text) == (UNKNOWN, rule, text)
    assert transition.cause.inputs[0].quality is quality
    assert engine.step(batch_of(3, bad)) == Outcome()
    assert states(engine.step(batch(4, state=4))) == ["Idle"]


def test_uncertain_is_accepted_where_asked_for() -> None:
    uncertain = batch_of(1, sample("plc/state", 4, 1, quality=Quality.UNCERTAIN))
    assert states(engine_for(PACKML, accept_uncertain=True).step(uncertain)) == ["Idle"]
    model = model_of({"name": "m", "extends": "packml", "accept_uncertain": True})
    assert states(engine_for(model).step(uncertain)) == ["Idle"]
    assert states(engine_for(model, accept_uncertain=False).step(uncertain)) == []


def test_a_lost_source_is_unknown_from_its_last_proof_of_life() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(1, state=6))
    (transition,) = engine.step(SourceLost("plc", after(7), "connection refused")).transitions
    assert (transition.to_state, transition.at, transition.duration_s) == (UNKNOWN, after(7), 6.0)
    assert transition.cause.rule == "source_lost"
    assert transition.cause.text == "plc lost: connection refused"
    (evidence,) = transition.cause.inputs
    assert (evidence.tag, evidence.value, evidence.quality) == ("plc/state", 6, Quality.BAD)
    assert (evidence.substatus, evidence.received_at) == ("no_communication", after(1))
    assert engine.step(SourceRestored("plc", after(20))) == Outcome()
    assert engine.current("m1").state == UNKNOWN
    (back,) = engine.step(batch(21, state=6)).transitions
    assert (back.from_state, back.to_state, back.conformance) == (UNKNOWN, "Execute", Conformance.LEGAL)


def test_a_loss_dated_before_the_state_began_takes_no_time_back() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(10, state=6))
    (transition,) = engine.step(SourceLost("plc", after(4), "timeout")).transitions
    assert (transition.at, transition.duration_s) == (after(10), 0.0)


def test_another_connection_or_one_already_lost_changes_nothing() -> None:
    engine = engine_for(PACKML)
    assert engine.step(SourceLost("plc", after(1), "timeout")) == Outcome(), "it is unknown already"
    engine.step(batch(2, state=6))
    assert engine.step(SourceLost("plc-2", after(3), "timeout")) == Outcome()
    assert engine.step(SourceLost("pl", after(3), "timeout")) == Outcome()


@pytest.mark.parametrize(
    ("received_s", "source_s", "at_s"),
    [
        (4000, 3999.5, 3999.5),
        (4000, 4010, 4010),
        (4000, 4010.001, 4000),
        (4000, 401, 401),
        (4000, 399, 4000),
        (120, 5, 120),
        (4000, None, 4000),
    ],
    ids=["plausible", "10s-ahead", "more-ahead", "1h-behind", "more-behind", "before-since", "none"],
)
def test_source_time_is_taken_where_plausible(received_s: float, source_s: float | None, at_s: float) -> None:
    engine = engine_for(PACKML)
    engine.step(batch(100, state=4))
    news = sample("plc/state", 3, received_s, source_s=source_s)
    (transition,) = engine.step(batch_of(received_s, news, source_time=True)).transitions
    assert transition.at == after(at_s)
    assert transition.duration_s == at_s - 100


def test_source_time_is_data_unless_asked_for() -> None:
    engine = engine_for(PACKML)
    (transition,) = engine.step(batch_of(9, sample("plc/state", 3, 9, source_s=8))).transitions
    assert transition.at == after(9)


def test_a_clock_that_steps_back_gives_no_negative_duration() -> None:
    engine = engine_for(PACKML)
    engine.step(batch(100, state=4))
    (transition,) = engine.step(batch(40, state=3)).transitions
    assert (transition.at, transition.duration_s) == (after(100), 0.0)


def test_the_first_rule_that_is_true_wins() -> None:
    engine = engine_for(model_of(OVEN))
    assert engine.step(batch(1, run=True)) == Outcome(), "two inputs are missing: nothing is known yet"
    assert states(engine.step(batch(2, temp=20.0, door=False))) == ["Heating"]
    (transition,) = engine.step(batch(9, temp=181.2)).transitions
    assert transition.to_state == "Baking"
    assert transition.cause.rule == "temp >= 180"
    assert transition.cause.text == (
        'rule "temp >= 180" is true: temp = 181.2; no earlier one is: run = True, door = False'
    )
    assert [item.tag for item in transition.cause.inputs] == ["plc/temp", "plc/run", "plc/door"]


def test_a_catch_all_shows_what_the_other_rules_saw() -> None:
    engine = engine_for(model_of(OVEN))
    (transition,) = engine.step(batch(2, run=True, temp=20.0, door=False)).transitions
    assert transition.cause.text == "no earlier rule is true: run = True, door = False, temp = 20.0"
    assert [item.tag for item in transition.cause.inputs] == ["plc/run", "plc/door", "plc/temp"]


def test_a_decided_rule_does_not_wait_for_the_others() -> None:
    engine = engine_for(model_of(OVEN))
    assert states(engine.step(batch(1, run=False))) == ["Off"]


def test_an_undecided_rule_is_unknown_and_names_its_bad_inputs() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    broken = sample("plc/temp", 200.0, 5, quality=Quality.BAD, substatus="device_failure")
    (transition,) = engine.step(batch_of(5, broken)).transitions
    assert (transition.to_state, transition.cause.rule) == (UNKNOWN, "undecided")
    assert transition.cause.text == (
        'rule "temp >= 180" cannot be decided: temp: plc/temp is bad (device_failure)'
    )
    assert [item.tag for item in transition.cause.inputs] == ["plc/temp"]
    assert states(engine.step(batch(6, temp=200.0))) == ["Baking"]


def test_a_dwell_that_nobody_saw_begin_says_so() -> None:
    kept = EquipmentMemory("m1", "Baking", None, after(-100), 3)
    engine = Engine([bound(model_of(OVEN))], at=START, memory={"m1": kept})
    (transition,) = engine.step(batch(1, run=True, door=True, temp=200.0)).transitions
    assert (transition.to_state, transition.cause.rule) == (UNKNOWN, "undecided")
    assert transition.cause.text == ('rule "door" cannot be decided: door = True, but nobody saw since when')
    assert states(engine.step(Tick(after(3)))) == ["DoorOpen"]


def test_arithmetic_that_has_no_answer_is_undecided() -> None:
    engine = engine_for(rules_model({"state": "A", "when": "x / y > 1"}, {"state": "B", "when": "True"}))
    assert states(engine.step(batch(1, x=4, y=2))) == ["A"]
    (transition,) = engine.step(batch(2, y=0)).transitions
    assert (transition.to_state, transition.cause.rule) == (UNKNOWN, "undecided")
    assert [item.tag for item in transition.cause.inputs] == ["plc/x", "plc/y"]
    assert transition.cause.text == 'rule "x / y > 1" cannot be decided: x = 4, y = 0, which has no answer'


def test_a_dwell_time_is_waited_for_and_dated_exactly() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    assert engine.step(batch(10, door=True)) == Outcome(wake_at=after(12))
    assert engine.step(Tick(after(11.9))) == Outcome(wake_at=after(12))
    (transition,) = engine.step(Tick(after(30))).transitions
    assert (transition.to_state, transition.at) == ("DoorOpen", after(12)), (
        "a late tick does not date it later"
    )
    assert transition.cause.text == (
        'rule "door" has been true for 2s: door = True; no earlier one is: run = True'
    )


def test_a_door_that_closes_in_time_never_was_open() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    engine.step(batch(10, door=True))
    assert engine.step(batch(11, door=False)) == Outcome()
    assert engine.step(Tick(after(60))) == Outcome()


def test_a_timer_due_before_a_batch_is_played_first() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    engine.step(batch(10, door=True))
    outcome = engine.step(batch(15, door=False))
    assert [(t.to_state, t.at) for t in outcome.transitions] == [
        ("DoorOpen", after(12)),
        ("Baking", after(15)),
    ]


def test_a_loss_dated_before_the_timer_cancels_it() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    engine.step(batch(10, door=True))
    outcome = engine.step(SourceLost("plc", after(11), "timeout"))
    assert states(outcome) == [UNKNOWN]
    assert outcome.wake_at is None
    assert engine.step(Tick(after(60))) == Outcome()


def test_values_that_came_together_are_judged_together() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=False, temp=20.0, door=False))
    assert states(engine.step(batch(2, run=True, temp=200.0))) == [], "Off to Baking is no transition"
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=20.0, door=False))
    outcome = engine.step(batch(2, temp=200.0, run=False))
    assert states(outcome) == ["Off"], "never Baking in between"


def test_a_tag_that_changes_twice_in_a_batch_is_judged_twice() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=20.0, door=False))
    outcome = engine.step(batch_of(3, sample("plc/temp", 200.0, 2), sample("plc/temp", 150.0, 3)))
    assert [(t.from_state, t.to_state) for t in outcome.transitions] == [("Heating", "Baking")]
    assert [r.attempted for r in outcome.rejections] == ["Heating"]
    assert outcome.transitions[0].at == after(2)


def test_the_sample_that_brought_a_value_is_the_evidence() -> None:
    engine = engine_for(model_of(OVEN))
    twice = batch_of(5, sample("plc/run", False, 5, source_s=1), sample("plc/run", False, 5, source_s=2))
    (transition,) = engine.step(twice).transitions
    assert transition.cause.inputs[0].source_at == after(1)


def test_what_another_connection_repeats_brings_nothing_back() -> None:
    """Whether repetitions reach the engine must not matter: filters drop them."""
    model = rules_model({"state": "Off", "when": "not run"}, {"state": "On", "when": "temp > 5"})
    spec = EquipmentSpec("m1", "p", model, bind={"run": "a/run", "temp": "b/temp"})
    engine = Engine([spec], at=START)
    engine.step(batch_of(1, sample("a/run", False, 1), sample("b/temp", 9, 1)))
    engine.step(SourceLost("b", after(2), "timeout"))
    assert engine.step(batch_of(3, sample("a/run", False, 3))) == Outcome()
    assert states(engine.step(batch_of(4, sample("b/temp", 9, 4)))) == ["Off"]


def test_a_derived_illegal_move_is_rejected_once() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    outcome = engine.step(batch(2, temp=100.0))
    assert outcome.transitions == ()
    assert [(r.state, r.attempted) for r in outcome.rejections] == [("Baking", "Heating")]
    assert outcome.rejections[0].cause.inputs
    assert engine.step(batch(3, temp=101.0)) == Outcome()
    assert engine.step(batch(4, temp=190.0)) == Outcome()
    assert len(engine.step(batch(5, temp=100.0)).rejections) == 1


def test_a_model_may_flag_derived_moves() -> None:
    engine = engine_for(model_of({**OVEN, "on_illegal": "flag"}))
    engine.step(batch(1, run=True, temp=200.0, door=False))
    (transition,) = engine.step(batch(2, temp=100.0)).transitions
    assert (transition.to_state, transition.conformance) == ("Heating", Conformance.ILLEGAL)


def test_no_rule_that_is_true_changes_nothing() -> None:
    engine = engine_for(rules_model({"state": "A", "when": "x > 5"}, {"state": "B", "when": "x < 3"}))
    assert states(engine.step(batch(1, x=9)), engine.step(batch(2, x=4)), engine.step(batch(3, x=1))) == [
        "A",
        "B",
    ]


def test_a_pulse_starts_and_a_pulse_stops() -> None:
    model = rules_model({"state": "On", "when": "rising(start)"}, {"state": "Off", "when": "rising(stop)"})
    engine = engine_for(model)
    news = [
        {"start": False, "stop": False},
        {"start": True},
        {"start": False},
        {"stop": True},
        {"stop": False},
    ]
    assert states(*(engine.step(batch(t, **values)) for t, values in enumerate(news))) == ["On", "Off"]


def test_a_heartbeat_that_stops_is_noticed_by_time_alone() -> None:
    model = rules_model({"state": "Unknown", "when": "age(beat) > '5s'"}, {"state": "On", "when": "True"})
    engine = engine_for(model)
    engine.step(batch(0, beat=1))
    assert engine.step(batch(3, beat=2)).wake_at == after(8) + timedelta(microseconds=1)
    (transition,) = engine.step(Tick(after(20))).transitions
    assert transition.to_state == UNKNOWN
    assert transition.at == after(8) + timedelta(microseconds=1)
    assert transition.cause.rule == "age(beat) > '5s'"
    assert states(engine.step(batch(21, beat=3))) == ["On"]


def test_rules_go_before_the_code_of_the_same_equipment() -> None:
    rules = [{"state": "Unknown", "when": "test_mode"}, {"state": "Aborted", "when": "not guard_closed"}]
    model = model_of({"name": "m", "extends": "packml", "rules": rules})
    engine = engine_for(model, state="plc/state")
    assert states(engine.step(batch(1, state=6))) == [], "the rules cannot be decided yet"
    assert states(engine.step(batch(2, test_mode=False, guard_closed=True))) == ["Execute"]
    assert states(engine.step(batch(3, state=11))) == ["Held"]
    outcome = engine.step(batch(4, guard_closed=False))
    assert [(t.to_state, t.cause.rule) for t in outcome.transitions] == [("Aborted", "not guard_closed")]
    assert states(engine.step(batch(5, guard_closed=True))) == ["Held"], "the code decides again"
    assert states(engine.step(batch(6, test_mode=True))) == [UNKNOWN]


def test_inputs_from_two_connections_are_lost_apart() -> None:
    model = rules_model(
        {"state": "Off", "when": "not run"},
        {"state": "Hot", "when": "temp > 5"},
        {"state": "On", "when": "True"},
    )
    spec = EquipmentSpec("m1", "p", model, bind={"run": "a/run", "temp": "b/temp"})
    engine = Engine([spec], at=START)
    engine.step(batch_of(1, sample("a/run", True, 1), sample("b/temp", 9, 1)))
    (transition,) = engine.step(SourceLost("b", after(2), "timeout")).transitions
    assert [item.tag for item in transition.cause.inputs] == ["b/temp"]
    assert engine.step(batch_of(3, sample("a/run", True, 3))) == Outcome(), "temp still decides, and is lost"
    assert states(engine.step(batch_of(4, sample("b/temp", 9, 4)))) == ["Hot"], "the same value, but fresh"


def test_a_bad_sample_after_a_loss_brings_nothing_back() -> None:
    engine = engine_for(model_of(OVEN))
    engine.step(batch(1, run=False))
    engine.step(SourceLost("plc", after(2), "timeout"))
    assert engine.step(batch_of(3, sample("plc/run", False, 3, quality=Quality.BAD))) == Outcome()
    assert states(engine.step(batch(4, run=False))) == ["Off"]


def test_memory_carries_on_where_it_stopped() -> None:
    kept = EquipmentMemory("m1", "Idle", 4, after(-100), 37)
    engine = Engine([bound(PACKML, state="plc/state")], at=START, memory={"m1": kept})
    assert engine.memories() == (kept,)
    (transition,) = engine.step(batch(1, state=3)).transitions
    assert (transition.sequence, transition.from_state, transition.duration_s) == (38, "Idle", 101.0)


def test_a_remembered_state_the_model_lost_is_left_for_unknown() -> None:
    kept = EquipmentMemory("m1", "Cleaning", 50, after(-100), 37)
    engine = Engine([bound(PACKML, state="plc/state")], at=START, memory={"m1": kept})
    outcome = engine.step(batch(1, state=4))
    assert [(t.sequence, t.from_state, t.to_state) for t in outcome.transitions] == [
        (38, "Cleaning", UNKNOWN),
        (39, UNKNOWN, "Idle"),
    ]
    assert outcome.transitions[0].cause == Cause(
        "model_changed", (), "state Cleaning is not in model packml any more"
    )


def test_remembered_rules_do_not_trust_what_is_bad_at_the_start() -> None:
    kept = EquipmentMemory("m1", "Baking", None, after(-100), 3)
    engine = Engine([bound(model_of(OVEN))], at=START, memory={"m1": kept})
    assert states(engine.step(batch_of(1, sample("plc/run", None, 1, quality=Quality.BAD)))) == [UNKNOWN]


def test_the_earliest_timer_of_all_equipment_is_told() -> None:
    model = rules_model({"state": "A", "when": "x", "for": "10s"}, {"state": "B", "when": "True"})
    specs = [EquipmentSpec(f"m{i}", f"p/m{i}", model, bind={"x": f"plc/x{i}"}) for i in range(3)]
    engine = Engine(specs, at=START)
    engine.step(batch(0, x0=False, x1=False, x2=False))
    assert engine.step(batch(1, x1=True)).wake_at == after(11)
    assert engine.step(batch(2, x0=True)).wake_at == after(11)
    assert engine.step(batch(3, x1=False)).wake_at == after(12)
    assert engine.step(batch(4, x2=True)).wake_at == after(12)
    outcome = engine.step(Tick(after(100)))
    assert [(t.equipment, t.at) for t in outcome.transitions] == [("m0", after(12)), ("m2", after(14))]
    assert outcome.wake_at is None


def test_a_forgotten_timer_asks_nothing() -> None:
    """A pulse holds until the rules are asked again, so a needless question would show."""
    model = rules_model(
        {"state": "A", "when": "x", "for": "10s"},
        {"state": "On", "when": "rising(p)"},
        {"state": "Off", "when": "True"},
    )
    specs = [EquipmentSpec(f"m{i}", "p", model, bind={"x": f"plc/x{i}", "p": f"plc/p{i}"}) for i in range(2)]
    engine = Engine(specs, at=START)
    engine.step(batch(0, x0=False, p0=False, x1=False, p1=False))
    engine.step(batch(0.5, x0=True))
    engine.step(batch(1, x1=True))
    engine.step(batch(2, x1=False))
    assert states(engine.step(batch(3, p1=True))) == ["On"]
    outcome = engine.step(Tick(after(20)))
    assert [(t.equipment, t.to_state) for t in outcome.transitions] == [("m0", "A")]


def test_forgotten_timers_do_not_pile_up() -> None:
    model = rules_model({"state": "A", "when": "x", "for": "1h"}, {"state": "B", "when": "True"})
    engine = engine_for(model)
    for turn in range(2000):
        outcome = engine.step(batch(turn, x=turn % 2 == 0))
    assert len(engine._timers) < 200
    assert outcome.wake_at is None
    assert engine.step(batch(2000, x=True)).wake_at == after(5600)


def test_specs_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="two equipment are named m1"):
        Engine([bound(PACKML, state="plc/state")] * 2, at=START)
    with pytest.raises(ValueError, match="needs a state tag"):
        Engine([bound(BUILTIN["run-stop"])], at=START)
    with pytest.raises(ValueError, match="not bound to a tag: door, temp"):
        Engine([EquipmentSpec("m1", "p", model_of(OVEN), bind={"run": "plc/run"})], at=START)
    with pytest.raises(KeyError):
        engine_for(PACKML).current("m2")


def test_a_source_ahead_in_one_batch_does_not_date_the_next() -> None:
    engine = engine_for(rules_model({"state": "High", "when": "x > 5"}, {"state": "Low", "when": "True"}))
    engine.step(batch_of(0, sample("plc/x", 1, 0, source_s=0), source_time=True))
    engine.step(batch_of(1, sample("plc/x", 2, 1, source_s=9), source_time=True))
    (made,) = engine.step(batch_of(2, sample("plc/x", 8, 2, source_s=1.5), source_time=True)).transitions
    assert made.at == after(1.5)


@pytest.mark.parametrize(("name", "state"), [("packml", UNKNOWN), ("run-stop", "Running")])
def test_a_yes_is_a_code_only_where_there_are_no_codes_but_two(name: str, state: str) -> None:
    engine = Engine([EquipmentSpec("m1", "area/line/m1", BUILTIN[name], state="plc/state")], at=START)
    for value in (0, 1, True):
        engine.step(batch_of(0, sample("plc/state", value)))
    assert engine.current("m1").state == state
