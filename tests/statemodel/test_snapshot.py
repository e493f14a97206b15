"""An engine that goes on from a snapshot is the engine it was taken of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.model import Model
from statemodel.snapshot import SnapshotRefused, decode, encode
from statemodel.types import UNKNOWN, Event, SampleBatch, SourceLost, Tick
from tests.statemodel.support import START, after, batch, bound, model_of, rules_model, states
from tests.statemodel.test_properties import histories, models


def moved(engine: Engine, specs: Sequence[EquipmentSpec]) -> Engine:
    """The engine taken down to bytes and up again."""
    data = encode(engine.snapshot())
    again = Engine(specs, at=after(-999), snapshot=decode(data))
    assert encode(again.snapshot()) == data, "a snapshot of what came out of it is the same"
    return again


def same_with_and_without(specs: Sequence[EquipmentSpec], events: Sequence[Event]) -> None:
    plain, often = Engine(specs, at=START), Engine(specs, at=START)
    for event in events:
        often = moved(often, specs)
        # as text, because what is not a number does not equal itself
        assert repr(often.step(event)) == repr(plain.step(event))


@given(models(rules=True), histories(rules=True))
def test_a_snapshot_at_any_point_changes_nothing_for_rules(model: Model, events: list[Event]) -> None:
    same_with_and_without([bound(model)], events)


@given(models(rules=False), histories(rules=False))
def test_a_snapshot_at_any_point_changes_nothing_for_codes(model: Model, events: list[Event]) -> None:
    same_with_and_without([bound(model, state="plc/state")], events)


_VALUES: dict[str, list[Any]] = {
    "base": ["Cleared", "Aborting", "Aborted"],
    "machine": ["Running", "Stopped", "Clearing", "Stopping"],
    "execute": ["Idle", "Starting", "Execute", "Suspending", "Holding"],
    "state": [2, 3, 4, 6, 13, 99],
    "mode": [1, 2, 3, 0],
    "gate": [True, False],
}


@given(st.data())
def test_a_snapshot_keeps_modes_paths_and_limits_too(data: st.DataObject) -> None:
    model = model_of(
        {
            "name": "m",
            "extends": "packml",
            "on_illegal": data.draw(st.sampled_from(["flag", "reject"])),
            "states": [
                {"name": "Starting", "timeout": "2s", "timeout_to": "Stuck"},
                {"name": "Stuck"},
                {"name": "Open"},
            ],
            "transitions": [{"from": "Starting", "to": "Stuck"}, {"from": "*", "to": "Open"}],
            "unknown_timeout": "3s",
            "unknown_timeout_to": "Stuck",
            "rules": [{"state": "Open", "when": "gate", "for": "1s"}],
        }
    )
    path = ("plc/base", "plc/machine", "plc/execute")
    bind = {"gate": "plc/gate"}
    specs = [
        EquipmentSpec("nested", "a/l/n", model, bind=bind, mode="plc/mode", state_path=path),
        EquipmentSpec("flat", "a/l/f", model, state="plc/state", bind=bind, mode="plc/mode"),
        EquipmentSpec("plain", "a/l/p", BUILTIN["packml"], state="plc/state", mode="plc/mode"),
    ]
    events: list[Event] = []
    for second in range(data.draw(st.integers(1, 12))):
        names = data.draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, unique=True))
        values: dict[str, Any] = {name: data.draw(st.sampled_from(_VALUES[name])) for name in names}
        lost = data.draw(st.integers(0, 7)) == 0
        events.append(SourceLost("plc", after(second), "gone") if lost else batch(second, **values))
    same_with_and_without(specs, events)


def test_whole_numbers_of_any_length_survive() -> None:
    model = rules_model({"state": "A", "when": "changed(x * x * x)"}, {"state": "B", "when": "True"})
    huge: list[Event] = [batch(second, x=2**62 + second // 2) for second in range(4)]
    same_with_and_without([bound(model)], huge)


# -- a changed model -------------------------------------------------------------------------


def changed(old: Model, new: Model, *events: SampleBatch, **more: Any) -> Engine:
    engine = Engine([bound(old, **more)], at=START)
    for event in events:
        engine.step(event)
    return Engine([bound(new, **more)], at=after(99), snapshot=decode(encode(engine.snapshot())))


def test_a_state_the_new_model_has_is_kept_with_its_beginning() -> None:
    new = model_of({"name": "packml", "extends": "packml", "disable": ["Starting"]})
    engine = changed(BUILTIN["packml"], new, batch(5, state=6), state="plc/state")
    assert engine.step(Tick(after(100))).transitions == ()
    assert (engine.current("m1").state, engine.current("m1").since) == ("Execute", after(5))


def test_a_state_the_new_model_lost_becomes_unknown_and_then_what_its_inputs_say() -> None:
    old = rules_model({"state": "Wet", "when": "wet"}, {"state": "Dry", "when": "True"})
    new = rules_model({"state": "Soaked", "when": "wet"}, {"state": "Dry", "when": "True"})
    first, second = changed(old, new, batch(5, wet=True)).step(Tick(after(100))).transitions
    assert (first.to_state, first.cause.rule, first.at) == (UNKNOWN, "model_changed", after(100))
    assert (second.to_state, second.cause.inputs[0].value) == ("Soaked", True)
    assert (first.sequence, second.sequence) == (2, 3)


def test_new_rules_are_asked_about_the_old_values_at_once() -> None:
    old = rules_model({"state": "Low", "when": "x < 10"}, {"state": "High", "when": "True"})
    new = rules_model({"state": "Low", "when": "x < 5"}, {"state": "High", "when": "True"})
    engine = changed(old, new, batch(5, x=7))
    again = Engine([bound(new)], at=after(99), snapshot=engine.snapshot())
    for held in (engine, again):
        assert states(held.step(Tick(after(100)))) == ["High"]
        assert states(held.step(Tick(after(101)))) == []


def test_equipment_that_is_new_begins_as_ever() -> None:
    engine = Engine([bound(BUILTIN["packml"], state="plc/state")], at=START)
    other = EquipmentSpec("m2", "a/l/m2", BUILTIN["packml"], state="plc/state")
    again = Engine([other], at=after(7), snapshot=engine.snapshot())
    assert (again.current("m2").state, again.current("m2").since) == (UNKNOWN, after(7))


@pytest.mark.parametrize("data", [b"", b"\x00", b"not at all", b"\xff" * 40, encode.__name__.encode()])
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotRefused, match="no snapshot"):
        decode(data)


def test_a_snapshot_of_another_version_is_refused() -> None:
    snapshot = Engine([bound(BUILTIN["packml"], state="plc/state")], at=START).snapshot()
    with pytest.raises(SnapshotRefused, match="version 99"):
        decode(encode(msgspec.structs.replace(snapshot, version=99)))
