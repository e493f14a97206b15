"""Late samples: judged again in the order in which things happened, told anew only where that is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.corrected import Stretch
from statemodel.engine import Engine, EquipmentSpec
from statemodel.late import Taken, evidence, judged_again, what_changes
from statemodel.machine import NO_COMMUNICATION
from statemodel.types import (
    UNKNOWN,
    Late,
    Quality,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
)
from tests.statemodel.support import START, after, rules_model

SPEC = EquipmentSpec("m-1", "a/m-1", BUILTIN["packml"], "plc/state")
IDLE, EXECUTE, HELD = 4, 6, 11


def sample(at: float, value: int, received: float | None = None, tag: str = "plc/state") -> TagSample:
    return TagSample(tag, value, Quality.GOOD, after(at), after(at if received is None else received))


def batch(*samples: TagSample) -> SampleBatch:
    return SampleBatch("plc", samples[-1].received_at, samples, source_time=True)


def taken(engine: Engine, at: float, batches: Sequence[SampleBatch], *losses: SourceLost) -> Taken:
    return Taken(SPEC, engine.kept("m-1"), after(at), batches, losses)


def shown(stretches: Sequence[Stretch]) -> list[tuple[str, float, float]]:
    return [
        (one.state, (one.begin - START).total_seconds(), (one.end - START).total_seconds())
        for one in stretches
    ]


def started() -> Engine:
    engine = Engine([SPEC], at=START)
    engine.step(batch(sample(1, EXECUTE)))
    return engine


def test_what_a_queue_held_is_judged_as_it_happened() -> None:
    queue = batch(sample(22, HELD, 40), sample(25, EXECUTE, 40), sample(31, IDLE, 40))

    judged = judged_again(taken(started(), 10, [queue]), after(50))

    assert shown(judged) == [
        ("Execute", 10, 22),
        ("Held", 22, 25),
        ("Execute", 25, 31),
        ("Idle", 31, 50),
    ]
    assert judged[0].category == "productive"


def test_a_loss_that_cost_samples_stays_unknown_until_something_shows_the_state() -> None:
    loss = SourceLost("plc", after(20), "timeout")
    again = batch(sample(15, EXECUTE, 40))

    judged = judged_again(taken(started(), 10, [again], loss), after(50))

    assert shown(judged) == [("Execute", 10, 20), (UNKNOWN, 20, 40), ("Execute", 40, 50)]


def test_the_marks_a_loss_leaves_among_the_samples_are_no_samples() -> None:
    mark = TagSample("plc/state", None, Quality.BAD, None, after(20), NO_COMMUNICATION)

    judged = judged_again(taken(started(), 10, [batch(mark)]), after(50))

    assert shown(judged) == [("Execute", 10, 50)]


def test_what_counts_from_before_the_snapshot_is_in_force_when_it_was_taken() -> None:
    judged = judged_again(taken(started(), 10, [batch(sample(9.9, HELD, 40))]), after(50))

    assert shown(judged) == [("Held", 10, 50)]


def test_two_signals_by_ways_of_different_length_are_put_in_order() -> None:
    model = rules_model(
        {"state": "Stop", "when": "door"}, {"state": "Run", "when": "on"}, {"state": "Off", "when": "True"}
    )
    spec = EquipmentSpec("m-1", "a/m-1", model, bind={"door": "plc/door", "on": "plc/on"})
    engine = Engine([spec], at=START)
    engine.step(batch(sample(1, 0, tag="plc/door"), sample(1, 1, tag="plc/on")))
    kept = engine.kept("m-1")
    first = batch(sample(20, 0, 20, "plc/on"))
    slow = batch(sample(15, 1, 22, "plc/door"), sample(18, 0, 22, "plc/door"))
    told = [*engine.step(first).transitions]
    outcome = engine.step(slow)
    told += outcome.transitions

    judged = judged_again(Taken(spec, kept, after(10), [first, slow], ()), after(30))

    assert [late.at for late in outcome.late] == [after(15), after(18)]
    assert shown(judged) == [("Run", 10, 15), ("Stop", 15, 18), ("Run", 18, 20), ("Off", 20, 30)]
    assert (told[0].to_state, told[0].at) == ("Off", after(20))


def test_a_sample_in_time_is_not_late_and_one_after_an_unknown_is_not_either() -> None:
    engine = started()
    assert not engine.step(batch(sample(5, HELD, 7))).late
    assert engine.step(batch(sample(4, EXECUTE, 8))).late == (Late("m-1", after(4), after(8)),)
    engine.step(SourceLost("plc", after(20), "timeout"))
    engine.step(SourceRestored("plc", after(40)))
    assert not engine.step(batch(sample(15, EXECUTE, 41))).late


def stretches(*told: tuple[str, float, float], corrected: Sequence[int] = ()) -> list[Stretch]:
    return [
        Stretch(state, 1, "standby", after(a), after(b), "s", n, n in corrected)
        for n, (state, a, b) in enumerate(told)
    ]


def changed(
    told: list[Stretch], judged: list[Stretch], late_at: datetime | None
) -> list[tuple[str, float, float]]:
    return [
        (one.state, (one.from_ - START).total_seconds(), (one.to - START).total_seconds())
        for one in what_changes(told, judged, late_at)
    ]


def test_unknown_time_is_told_anew_and_other_time_only_after_what_was_late() -> None:
    told = stretches(("Idle", 0, 10), (UNKNOWN, 10, 20), ("Held", 20, 30))
    judged = stretches(("Execute", 0, 25), ("Held", 25, 30))

    assert changed(told, judged, None) == [("Execute", 10, 20)]
    assert changed(told, judged, after(15)) == [("Execute", 10, 25)]
    assert changed(told, judged, after(5)) == [("Execute", 5, 25)]
    assert changed(told, told, after(0)) == []


def test_what_somebody_corrected_stays_corrected() -> None:
    told = stretches(("Idle", 0, 10), (UNKNOWN, 10, 20), ("Held", 20, 30), corrected=[1])
    assert changed(told, stretches(("Execute", 0, 30)), after(0)) == [("Execute", 0, 10), ("Execute", 20, 30)]


@given(st.data())
def test_changes_lie_where_the_two_differ_and_may(data: st.DataObject) -> None:
    def drawn(name: str) -> list[Stretch]:
        cuts = sorted(data.draw(st.sets(st.integers(1, 29), max_size=6), label=name))
        bounds = [0, *cuts, 30]
        states = data.draw(st.lists(st.sampled_from(["Idle", "Held", UNKNOWN]), min_size=7, max_size=7))
        return stretches(*[(s, a, b) for (a, b), s in zip(pairwise(bounds), states, strict=False)])

    told, judged = drawn("told"), drawn("judged")
    late = data.draw(st.none() | st.integers(0, 30))
    found = what_changes(told, judged, None if late is None else after(late))
    for n in range(30):
        at = after(n + 0.5)
        before, again = (
            next(one.state for one in side if one.begin <= at < one.end) for side in (told, judged)
        )
        over = [one.state for one in found if one.from_ <= at < one.to]
        may = before == UNKNOWN or (late is not None and n >= late)
        assert over == ([again] if may and before != again else []), n
    assert all(one.to <= other.from_ for one, other in pairwise(found))


@given(st.lists(st.tuples(st.integers(11, 40), st.sampled_from([IDLE, EXECUTE, HELD])), max_size=8))
def test_in_time_or_late_the_states_are_the_same(moves: list[tuple[int, int]]) -> None:
    """What is told in time, one by one, is what is judged again when all of it comes at the end."""
    ordered = sorted(dict(moves).items())
    in_time = started()
    anchor = in_time.kept("m-1")
    made = [t for at, value in ordered for t in in_time.step(batch(sample(at, value))).transitions]
    queue = [batch(*(sample(at, value, 45) for at, value in ordered))] if ordered else []

    judged = judged_again(Taken(SPEC, anchor, after(10), queue, ()), after(50))

    moved = [(one.state, one.begin) for one in judged[1:]]
    assert moved == [(t.to_state, t.at) for t in made]


def test_the_evidence_are_the_samples_that_came_late_and_not_all_of_them() -> None:
    queue = batch(*(sample(20 + n / 10, HELD, 40) for n in range(50)))
    found = evidence(taken(started(), 10, [batch(sample(12, IDLE)), queue]), after(30))
    assert len(found) == 20
    assert found[0].source_at == after(20)


def test_a_snapshot_of_one_equipment_is_that_of_the_whole_engine() -> None:
    engine = started()
    assert engine.kept("m-1") == engine.snapshot()
    with pytest.raises(KeyError):
        engine.kept("m-2")
    assert msgspec.structs.replace(engine.kept("m-1")).equipment["m-1"].memory.state == "Execute"
