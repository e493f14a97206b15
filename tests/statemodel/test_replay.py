"""Replay: what was recorded, run again, is what happened; through another model, the difference is exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.machine import NO_COMMUNICATION
from statemodel.model import Model
from statemodel.records import Recorded, tell
from statemodel.replay import (
    Entry,
    Recording,
    compare,
    in_order,
    known_from,
    memory_of,
    play,
    spans_of,
    transitions_of,
    unbound,
)
from statemodel.timeline import Span
from statemodel.types import (
    Event,
    Quality,
    Recordable,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    Tick,
    Transition,
)
from tests.statemodel.support import OVEN, START, after, batch, bound, model_of, rules_model
from tests.statemodel.test_properties import histories, models


class Plant:
    """The way of the data without files: steps the engine as the process does, and keeps what it would."""

    def __init__(self, specs: Sequence[EquipmentSpec], tags: Sequence[str]) -> None:
        self.engine = Engine(specs, at=START)
        self.tags = tags
        self.batches: list[SampleBatch] = []
        self.told: list[Recorded] = []
        self.now = START
        self._wake_at: datetime | None = None

    def live(self, events: Iterable[Event]) -> Plant:
        for event in events:
            # a loss is dated back to the last proof of life, but it is taken in now
            now = event.received_at if isinstance(event, SampleBatch) else event.at
            self.now = max(self.now, now)
            while self._wake_at is not None and self._wake_at <= self.now:
                self._step(Tick(self._wake_at))
            records: list[Recordable] = []
            if isinstance(event, SourceLost | SourceRestored):
                records.append(event)
            records += self._step(event)
            if isinstance(event, SourceLost):
                lost = tuple(
                    TagSample(tag, None, Quality.BAD, None, event.at, NO_COMMUNICATION) for tag in self.tags
                )
                self.batches.append(SampleBatch(event.connection, event.at, lost))
            elif isinstance(event, SampleBatch):
                self.batches.append(event)
            self._tell(records)
        return self

    def _step(self, event: Event) -> list[Recordable]:
        outcome = self.engine.step(event)
        self._wake_at = outcome.wake_at
        made: list[Recordable] = [*outcome.transitions, *outcome.rejections]
        if isinstance(event, Tick):
            self._tell(made)
            return []
        return made

    def _tell(self, events: Iterable[Recordable]) -> None:
        for event in events:
            seq = len(self.told) + 1
            self.told.append(tell(event, gateway="g", stream="s", seq=seq, recorded_at=self.now))

    def recording(self) -> Recording:
        entries = tuple(in_order(self.batches, self.told))
        return Recording("g", START, self.now, 1, True, entries)


def _spec(model: Model) -> EquipmentSpec:
    return bound(model, state=None if model.rules else "plc/state")


def _tags(model: Model) -> list[str]:
    return [f"plc/{name}" for name in model.inputs] or ["plc/state"]


def _moves(plant: Plant) -> tuple[Transition, ...]:
    return tuple(r.event for r in plant.told if isinstance(r.event, Transition))


def _same(model: Model, events: list[Event]) -> None:
    plant = Plant([_spec(model)], _tags(model)).live(events)
    told = play([_spec(model)], plant.recording())
    assert told.transitions == _moves(plant)
    assert list(told.rejections) == [r.event for r in plant.told if r.type == "rejection"]
    again = play([_spec(model)], plant.recording())
    assert msgspec.json.encode(again) == msgspec.json.encode(told)


@given(models(rules=False), histories(rules=False))
def test_replay_of_codes_is_what_happened(model: Model, events: list[Event]) -> None:
    _same(model, events)


@given(models(rules=True), histories(rules=True))
def test_replay_of_rules_is_what_happened(model: Model, events: list[Event]) -> None:
    _same(model, events)


@given(models(rules=True), models(rules=True), histories(rules=True))
def test_the_difference_of_two_models_is_exact(old: Model, new: Model, events: list[Event]) -> None:
    plant = Plant([_spec(old)], ["plc/x", "plc/y", "plc/b"]).live(events)
    recording = plant.recording()
    begin, end = START, plant.now + timedelta(seconds=1)
    spec = EquipmentSpec("m1", "area/line/m1", new, bind={n: f"plc/{n}" for n in ("x", "y", "b")})
    before = spans_of(_moves(plant), old, begin, end)
    then = spans_of(play([spec], recording).transitions, new, begin, end)
    told = compare(before, then, begin, end)
    total_us = (end - begin) // timedelta(microseconds=1)
    assert round((told.same_s + told.different_s) * 1e6) == total_us
    assert round(sum(i.duration_s for i in told.intervals) * 1e6) == round(told.different_s * 1e6)
    for spent in (told.states, told.categories):
        assert round(sum(s.before_s for s in spent.values()) * 1e6) == total_us
        assert round(sum(s.after_s for s in spent.values()) * 1e6) == total_us
    for interval in told.intervals:
        assert (interval.before, interval.before_category) != (interval.after, interval.after_category)
    assert compare(before, before, begin, end).intervals == ()


def test_a_changed_rule_shows_where_it_would_have_mattered() -> None:
    events = [batch(0, run=True, door=False, temp=150.0), batch(10, temp=185.0), batch(20, temp=150.0)]
    hot = {**OVEN, "rules": [{**r, "when": r["when"].replace("180", "190")} for r in OVEN["rules"]]}
    old, new = model_of({**OVEN, "on_illegal": "flag"}), model_of({**hot, "on_illegal": "flag"})
    plant = Plant([_spec(old)], _tags(old)).live([*events, Tick(after(30))])
    told = play([_spec(new)], plant.recording())
    assert [made.to_state for made in told.transitions] == ["Heating"]
    before = spans_of(_moves(plant), old, START, after(30))
    then = spans_of(told.transitions, new, START, after(30))
    difference = compare(before, then, START, after(30))
    assert [(i.from_, i.to, i.before, i.after) for i in difference.intervals] == [
        (after(10), after(20), "Baking", "Heating")
    ]
    assert (difference.same_s, difference.different_s) == (20.0, 10.0)
    assert (difference.states["Baking"].before_s, difference.states["Baking"].after_s) == (10.0, 0.0)
    assert difference.categories["standby"].after_s == 30.0


def test_a_category_that_changed_is_a_difference_too() -> None:
    old = [Span("Idle", "standby", after(0), after(4)), Span("Run", "productive", after(4), after(9))]
    new = [Span("Idle", "non-scheduled", after(0), after(4)), Span("Run", "productive", after(4), after(9))]
    told = compare(old, new, after(1), after(9))
    assert [(i.duration_s, i.before, i.after, i.after_category) for i in told.intervals] == [
        (3.0, "Idle", "Idle", "non-scheduled")
    ]


def test_a_loss_is_put_where_it_was_taken_in() -> None:
    """Between the last sample before it and the first after it, however it is dated."""
    lost, back = SourceLost("plc", after(3), "gone"), SourceRestored("plc", after(6))
    plant = Plant([_spec(BUILTIN["packml"])], ["plc/state"])
    plant.live([batch(1, state=6), batch(3, state=6), batch(5, state=4), lost, back, batch(7, state=6)])
    kinds = [
        f"{entry.samples[0].value}" if isinstance(entry, SampleBatch) else entry.type
        for entry in in_order(plant.batches, plant.told)
        if isinstance(entry, SampleBatch) or entry.type != "transition"
    ]
    assert kinds == ["6", "6", "4", "source_lost", "source_restored", "6"]


def test_a_loss_without_a_mark_goes_by_the_time_it_was_recorded() -> None:
    lost = tell(SourceLost("plc", after(2), "gone"), gateway="g", stream="s", seq=1, recorded_at=after(4))
    batches = [batch(1, state=6), batch(3, state=4), batch(5, state=6)]
    order: list[Entry] = list(in_order(batches, [lost]))
    assert order == [batches[0], batches[1], lost, batches[2]]
    other = SampleBatch(
        "plc", after(3), (TagSample("plc/x", None, Quality.BAD, None, after(3), NO_COMMUNICATION),)
    )
    assert list(in_order([other], [lost])) == [other, lost]


def test_a_loss_waits_for_its_mark_even_when_clocks_were_set_back() -> None:
    lost = tell(SourceLost("plc", after(2), "gone"), gateway="g", stream="s", seq=1, recorded_at=after(4))
    sample = TagSample("plc/x", None, Quality.BAD, None, after(2), NO_COMMUNICATION)
    mark = SampleBatch("plc", after(2), (sample,))
    first, last = batch(5, state=6), batch(9, state=4)
    assert list(in_order([first, mark, last], [lost])) == [first, lost, last]


_SLOW_DOOR = rules_model({"state": "Open", "when": "door", "for": "2s"}, {"state": "Shut", "when": "True"})


def test_time_that_passed_before_a_loss_was_noticed_has_its_effect() -> None:
    """The door opened at 3; that the link had been dead since 2 was known at 6."""
    spec = _spec(_SLOW_DOOR)
    events: list[Event] = [batch(1, door=True), Tick(after(6)), SourceLost("plc", after(2), "gone")]
    plant = Plant([spec], ["plc/door"]).live(events)
    moves = _moves(plant)
    assert [made.to_state for made in moves][-2:] == ["Open", "Unknown"]
    assert play([spec], plant.recording()).transitions == moves


def test_time_that_passed_after_the_last_sample_has_its_effect() -> None:
    spec = _spec(_SLOW_DOOR)
    plant = Plant([spec], ["plc/door"]).live([batch(1, door=False), batch(2, door=True), Tick(after(9))])
    told = play([spec], plant.recording()).transitions
    assert told == _moves(plant)
    assert (told[-1].to_state, told[-1].at) == ("Open", after(4))


def _later(plant: Plant, seconds: float) -> Recording:
    """The recording from some instant on, as a journal that has freed the rest gives it."""
    whole = plant.recording()
    moves = [r for r in plant.told if isinstance(r.event, Transition)]
    carried = [r for r in moves if r.at < after(seconds)][-1:]
    rest = [
        entry
        for entry in whole.entries
        if (entry.received_at if isinstance(entry, SampleBatch) else entry.at) >= after(seconds)
    ]
    first_seq = carried[-1].seq + 1 if carried else 1
    return Recording("g", after(seconds), whole.end_at, first_seq, False, (*carried, *rest))


def test_a_recording_that_begins_late_begins_with_the_state_in_force() -> None:
    spec = _spec(BUILTIN["packml"])
    plant = Plant([spec], ["plc/state"]).live([batch(1, state=4), batch(5, state=3), batch(9, state=6)])
    late = _later(plant, 4)
    kept = memory_of(late, "m1")
    assert kept is not None
    assert (kept.state, kept.since, kept.sequence) == ("Idle", after(1), 1)
    assert play([spec], late).transitions == transitions_of(late, "m1")[1:]
    assert known_from(late, spec) == after(5)
    assert memory_of(late, "other") is None
    early = memory_of(plant.recording(), "m1")
    assert early is not None
    assert (early.state, early.since, early.sequence) == ("Unknown", START, 0)


def test_inputs_that_were_never_seen_are_not_known() -> None:
    model = rules_model({"state": "On", "when": "x > 1"}, {"state": "Off", "when": "y or True"})
    spec = _spec(model)
    plant = Plant([spec], _tags(model)).live([batch(1, x=1, y=True), batch(5, x=2), batch(8, y=False)])
    assert known_from(plant.recording(), spec) == START
    assert known_from(_later(plant, 2), spec) == after(8)
    assert known_from(_later(plant, 6), spec) is None


def test_a_state_the_new_model_lacks_is_left_for_unknown() -> None:
    plant = Plant([_spec(BUILTIN["packml"])], ["plc/state"]).live([batch(1, state=6), batch(9, state=1)])
    spec = replace(_spec(BUILTIN["packml"]), model=BUILTIN["run-stop"])
    told = play([spec], _later(plant, 4)).transitions
    assert [(made.from_state, made.to_state) for made in told] == [
        ("Execute", "Unknown"),
        ("Unknown", "Running"),
    ]


@pytest.mark.parametrize(
    ("model", "spec", "missing"),
    [
        (model_of(OVEN), EquipmentSpec("e", "a", BUILTIN["packml"], "plc/state"), ("run", "door", "temp")),
        (BUILTIN["packml"], EquipmentSpec("e", "a", BUILTIN["packml"], bind={"x": "plc/x"}), ("state",)),
        (BUILTIN["packml"], EquipmentSpec("e", "a", BUILTIN["packml"], "plc/state"), ()),
    ],
)
def test_what_a_model_needs_and_an_equipment_lacks(
    model: Model, spec: EquipmentSpec, missing: tuple[str, ...]
) -> None:
    assert set(unbound(spec, model)) == set(missing)


@given(st.lists(st.sampled_from(["A", "B"]), min_size=1, max_size=9))
def test_neighbours_that_differ_alike_are_one_interval(states: list[str]) -> None:
    spans = [Span(state, None, after(n), after(n + 1)) for n, state in enumerate(states)]
    other = [Span("C", None, after(0), after(len(states)))]
    told = compare(spans, other, after(0), after(len(states)))
    assert len(told.intervals) == 1 + sum(a != b for a, b in pairwise(states))
