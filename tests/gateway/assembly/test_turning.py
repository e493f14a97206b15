"""The engine of another configuration goes on where the present one is; what differs is asked anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.assembly.planning import Steps
from gateway.assembly.turning import TAKEN_OUT, turned
from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.model import Model
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample, Tick, Transition

AT = datetime(2026, 11, 22, 8, tzinfo=UTC)
TAGS = ("plc/a", "plc/b", "other/c")


def sound(data: dict[str, Any]) -> Model:
    model, problems = read_model(data)
    assert model is not None, problems
    return model


@cache
def codes() -> Model:
    return sound(
        {
            "name": "codes",
            "initial": "Off",
            "states": [
                {"name": name, "code": code, "category": "standby"}
                for code, name in enumerate(("Off", "Idle", "Busy"))
            ],
            "transitions": [{"from": "*", "to": "*"}],
        }
    )


@cache
def ruled() -> Model:
    return sound(
        {
            "name": "ruled",
            "initial": "Off",
            "states": [{"name": name, "category": "standby"} for name in ("Off", "Long", "Busy")],
            "transitions": [{"from": "*", "to": "*"}],
            "rules": [
                {"state": "Long", "when": "held(x == 2, '3s')"},
                {"state": "Busy", "when": "x >= 1 and changed(x)", "for": "1s"},
                {"state": "Off", "when": "True"},
            ],
        }
    )


def spec(name: str, tag: str, *, rules: bool = False, path: str = "") -> EquipmentSpec:
    if rules:
        return EquipmentSpec(name, path or name, ruled(), bind={"x": tag})
    return EquipmentSpec(name, path or name, codes(), state=tag)


def sample(tag: str, value: int, at: datetime) -> TagSample:
    return TagSample(tag, value, Quality.GOOD, None, at, "")


def batch(tag: str, value: int, at: datetime) -> SampleBatch:
    return SampleBatch(tag.partition("/")[0], at, (sample(tag, value, at),))


def go(engine: Engine, events: Sequence[object]) -> list[Transition]:
    return [move for event in events for move in engine.step(event).transitions]  # type: ignore[arg-type]


#: Seconds after the one before, and what happens then.
happenings = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(
            st.tuples(st.sampled_from(TAGS), st.integers(0, 2)),
            st.just(None),
            st.sampled_from(("plc", "other")),
        ),
    ),
    max_size=25,
)


def as_events(found: list[tuple[int, object]], begin: datetime) -> list[object]:
    events: list[object] = []
    for seconds, what in found:
        begin += timedelta(seconds=seconds)
        if isinstance(what, tuple):
            events.append(batch(what[0], what[1], begin))
        elif isinstance(what, str):
            events.append(SourceLost(what, begin, "gone"))
        else:
            events.append(Tick(begin))
    return events


SPECS = [spec("m0", TAGS[0]), spec("m1", TAGS[1], rules=True), spec("m2", TAGS[2], rules=True)]


@settings(max_examples=150)
@given(happenings, happenings)
def test_equipment_that_stays_goes_on_as_if_nothing_had_been(
    before: list[tuple[int, object]], after: list[tuple[int, object]]
) -> None:
    """Whatever it remembers of rules, timers and values: beside others that come and go."""
    first = as_events(before, AT)
    then = AT + timedelta(seconds=sum(seconds for seconds, _ in before))
    second = as_events(after, then)
    undisturbed, changed = Engine(SPECS, at=AT), Engine([*SPECS, spec("gone", TAGS[0])], at=AT)
    go(undisturbed, first)
    go(changed, first)

    new = [spec("new", TAGS[1]), *SPECS]
    steps = Steps(equipment_gone=("gone",), equipment_new=("new",), equipment_differs=True)
    result = turned(
        changed,
        [*SPECS, spec("gone", TAGS[0])],
        new,
        steps,
        at=then,
        newest={},
        remembered={},
        unseen_since=AT,
    )

    expected = go(undisturbed, [Tick(then), *second])
    found = [move for move in go(result.engine, [Tick(then), *second]) if move.equipment != "new"]
    assert found == expected
    assert [m for m in result.engine.memories() if m.equipment != "new"] == list(undisturbed.memories())


def test_what_is_taken_out_ends_in_unknown_with_the_next_number() -> None:
    engine = Engine(SPECS, at=AT)
    go(engine, [batch(TAGS[0], 2, AT)])
    at = AT + timedelta(seconds=5)

    result = turned(
        engine,
        SPECS,
        SPECS[1:],
        Steps(equipment_gone=("m0",), equipment_differs=True),
        at=at,
        newest={},
        remembered={},
        unseen_since=AT,
    )

    [end] = result.farewells
    assert (end.equipment, end.from_state, end.to_state, end.sequence) == ("m0", "Busy", "Unknown", 2)
    assert (end.cause.rule, end.duration_s, end.at) == (TAKEN_OUT, 5.0, at)


def test_what_was_not_known_has_nothing_to_end() -> None:
    steps = Steps(equipment_gone=("m0",), equipment_differs=True)
    found = turned(
        Engine(SPECS, at=AT), SPECS, SPECS[1:], steps, at=AT, newest={}, remembered={}, unseen_since=AT
    )
    assert found.farewells == ()


@pytest.mark.parametrize("state", ["Idle", "Unknown"])
def test_what_comes_back_goes_on_with_its_numbers(state: str) -> None:
    """Nobody has looked since the process began, so a state that is remembered ends there."""
    began, at = AT + timedelta(hours=1), AT + timedelta(hours=2)
    memory = EquipmentMemory("m0", state, None, AT, 7)
    result = turned(
        Engine(SPECS[1:], at=began),
        SPECS[1:],
        SPECS,
        Steps(equipment_new=("m0",), equipment_differs=True),
        at=at,
        newest={TAGS[0]: sample(TAGS[0], 2, at)},
        remembered={"m0": memory},
        unseen_since=began,
    )

    assert [(move.to_state, move.at, move.sequence) for move in result.farewells] == (
        [("Unknown", began, 8)] if state == "Idle" else []
    )
    [move] = go(result.engine, [Tick(at)])
    assert (move.to_state, move.from_state) == ("Busy", "Unknown")
    assert move.sequence == (9 if state == "Idle" else 8)


def test_an_equipment_that_only_moves_to_another_path_keeps_its_state_and_tells_the_new_one() -> None:
    engine = Engine(SPECS, at=AT)
    go(engine, [batch(TAGS[0], 1, AT)])
    moved = [spec("m0", TAGS[0], path="hall/m0"), *SPECS[1:]]
    result = turned(
        engine,
        SPECS,
        moved,
        Steps(anew=frozenset({"m0"}), equipment_differs=True),
        at=AT,
        newest={},
        remembered={},
        unseen_since=AT,
    )

    assert result.engine.current("m0").state == "Idle"
    [move] = go(result.engine, [batch(TAGS[0], 2, AT + timedelta(seconds=1))])
    assert (move.path, move.sequence) == ("hall/m0", 2)


def test_an_engine_that_cannot_be_built_leaves_the_present_one_as_it_is() -> None:
    engine = Engine(SPECS, at=AT)
    twice = [*SPECS, spec("new", TAGS[0]), spec("new", TAGS[1])]
    with pytest.raises(ValueError, match="two equipment"):
        turned(
            engine,
            SPECS,
            twice,
            Steps(equipment_new=("new",), equipment_differs=True),
            at=AT,
            newest={},
            remembered={},
            unseen_since=AT,
        )

    assert [move.to_state for move in go(engine, [batch(TAGS[0], 1, AT)])] == ["Idle"]


def test_what_has_yet_to_be_asked_is_asked_after_another_turn_too() -> None:
    """Two changes with nothing in between: the first one's question must not be lost."""
    engine = Engine(SPECS, at=AT)
    moved = [spec("m0", TAGS[1]), *SPECS[1:]]
    newest = {TAGS[1]: sample(TAGS[1], 2, AT)}
    steps = Steps(judged=frozenset({"m0"}), anew=frozenset({"m0"}), equipment_differs=True)
    first = turned(engine, SPECS, moved, steps, at=AT, newest=newest, remembered={}, unseen_since=AT)
    second = turned(
        first.engine,
        moved,
        moved[:2],
        Steps(equipment_gone=("m2",), equipment_differs=True),
        at=AT,
        newest={},
        remembered={},
        unseen_since=AT,
    )

    assert [move.to_state for move in go(second.engine, [Tick(AT)]) if move.equipment == "m0"] == ["Busy"]
