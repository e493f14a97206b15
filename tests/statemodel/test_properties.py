"""What holds for every model and every history, looked for with made-up ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from statemodel.engine import Engine
from statemodel.guard import parse_guard
from statemodel.model import Edge, Model, OnIllegal, Rule, State
from statemodel.types import (
    UNKNOWN,
    Conformance,
    Event,
    Outcome,
    Quality,
    Rejection,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    Tick,
    Transition,
)
from tests.statemodel.support import START, after, bound

_NAMES = ["A", "B", "C", "D", "E"]
_GUARDS = [
    "x > 2",
    "not b",
    "b and x < 4",
    "b or x / y > 1",
    "y == 1",
    "rising(b)",
    "falling(x > 1)",
    "changed(y)",
    'held(b, "3s")',
    'age(x) > "4s"',
    "age(y) < 3",
    "2 <= x < 4 and not held(x > 0, '2s')",
    "True",
]


@st.composite
def models(draw: st.DrawFn, *, rules: bool) -> Model:
    """Any model: some states, some of them acting or disabled, some transitions, perhaps rules."""
    names = _NAMES[: draw(st.integers(1, 5))]
    states = tuple(
        State(name, place, acting=draw(st.booleans()), category="standby") for place, name in enumerate(names)
    )
    pairs = [(a, b) for a in names for b in names if a != b]
    edges = tuple(Edge(a, b) for a, b in pairs if draw(st.booleans()))
    policies: list[OnIllegal | None] = [None, "flag", "reject"]
    holds = st.sampled_from([None, *(after(s) - START for s in (0.5, 2, 5))])
    made = [
        Rule(draw(st.sampled_from([*names, UNKNOWN])), parse_guard(text), draw(holds), text)
        for text in draw(st.lists(st.sampled_from(_GUARDS), min_size=1, max_size=5))
    ]
    return Model(
        "m",
        names[0],
        states,
        edges,
        rules=tuple(made) if rules else (),
        on_illegal=draw(st.sampled_from(policies)),
        disabled=frozenset(draw(st.sets(st.sampled_from(names[1:]), max_size=1)))
        if names[1:]
        else frozenset(),
    )


_QUALITIES = st.sampled_from([Quality.GOOD] * 6 + [Quality.UNCERTAIN, Quality.BAD])
_CODES = st.one_of(st.integers(-1, 6), st.sampled_from([0, 1, 2, 0.5, 1.0, True, "A", "B", "nonsense", None]))
_NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5.5, float("nan"), "text", None])


@st.composite
def histories(draw: st.DrawFn, *, rules: bool) -> list[Event]:
    """Any history in order of time, source times and dates of loss running free of it."""
    seconds, events = 0.0, list[Event]()
    for _ in range(draw(st.integers(1, 14))):
        seconds += draw(st.sampled_from([0, 0.25, 1, 2, 3.5]))
        kind = draw(st.sampled_from(["batch"] * 7 + ["tick", "lost", "restored"]))
        if kind == "batch":
            events.append(_batch(draw, seconds, rules=rules))
        elif kind == "tick":
            events.append(Tick(after(seconds)))
        elif kind == "lost":
            events.append(SourceLost("plc", after(seconds - draw(st.sampled_from([0, 0.5, 5]))), "gone"))
        else:
            events.append(SourceRestored("plc", after(seconds)))
    return events


def _batch(draw: st.DrawFn, seconds: float, *, rules: bool) -> SampleBatch:
    samples = []
    for _ in range(draw(st.integers(1, 4))):
        tag = draw(st.sampled_from(["x", "y", "b"])) if rules else "state"
        value = draw(st.booleans() if tag == "b" else _NUMBERS if rules else _CODES)
        source_at = after(seconds + draw(st.sampled_from([-4000, -3, -0.5, 0, 2, 60])))
        samples.append(TagSample(f"plc/{tag}", value, draw(_QUALITIES), source_at, after(seconds)))
    return SampleBatch("plc", after(seconds), tuple(samples), draw(st.booleans()))


def _engine(model: Model) -> Engine:
    return Engine([bound(model, state=None if model.rules else "plc/state")], at=START)


def _transitions(outcomes: Iterable[Outcome]) -> list[Transition]:
    return [transition for outcome in outcomes for transition in outcome.transitions]


def _rejections(outcomes: Iterable[Outcome]) -> list[Rejection]:
    return [rejection for outcome in outcomes for rejection in outcome.rejections]


def _play(model: Model, events: Sequence[Event]) -> list[Outcome]:
    engine = _engine(model)
    return [engine.step(event) for event in events]


def _sound(model: Model, outcomes: list[Outcome]) -> None:
    """The chain holds: numbers, states, times and judgements."""
    state, since, total_s = UNKNOWN, START, 0.0
    for sequence, transition in enumerate(_transitions(outcomes), 1):
        assert transition.sequence == sequence
        assert transition.from_state == state != transition.to_state
        assert transition.at >= since
        assert transition.duration_s == (transition.at - since).total_seconds()
        verdict = model.judge(state, transition.to_state)
        if transition.cause.rule == "unknown_code":
            assert transition.to_state == UNKNOWN
            assert transition.conformance is Conformance.ILLEGAL
        else:
            assert (transition.conformance, transition.skipped) == (verdict.conformance, verdict.skipped)
        if transition.conformance is Conformance.ILLEGAL and transition.to_state != UNKNOWN:
            assert model.on_illegal == "flag" or (model.on_illegal is None and not model.rules)
        total_s += transition.duration_s
        state, since = transition.to_state, transition.at
    assert abs(total_s - (since - START).total_seconds()) < 1e-6
    for rejection in _rejections(outcomes):
        assert model.on_illegal != "flag"
        assert model.judge(rejection.state, rejection.attempted).conformance is Conformance.ILLEGAL


@given(models(rules=False), histories(rules=False))
def test_a_code_model_moves_only_as_tabled_or_says_so(model: Model, events: list[Event]) -> None:
    _sound(model, _play(model, events))


@given(models(rules=True), histories(rules=True))
def test_a_rules_model_moves_only_as_tabled_or_says_so(model: Model, events: list[Event]) -> None:
    _sound(model, _play(model, events))


@given(models(rules=False), histories(rules=False))
def test_codes_lead_where_a_plain_reading_says(model: Model, events: list[Event]) -> None:
    """A second engine for codes, as short as it can be written."""
    state, expected = UNKNOWN, list[str]()
    for event in events:
        if isinstance(event, SourceLost):
            state = _go(state, UNKNOWN, expected)
        if not isinstance(event, SampleBatch):
            continue
        for sample in event.samples:
            to = UNKNOWN
            if sample.quality is Quality.GOOD and sample.value is not None:
                is_wrong = isinstance(sample.value, bool) and any(s.code not in (0, 1) for s in model.states)
                names = [s.name for s in model.states if not is_wrong and sample.value in (s.code, s.name)]
                to = names[0] if names else UNKNOWN
            illegal = model.judge(state, to).conformance is Conformance.ILLEGAL
            if not (illegal and model.on_illegal == "reject"):
                state = _go(state, to, expected)
    assert [t.to_state for t in _transitions(_play(model, events))] == expected


def _go(state: str, to: str, heard: list[str]) -> str:
    if to != state:
        heard.append(to)
    return to


@given(models(rules=False), histories(rules=False))
def test_how_codes_are_packed_into_batches_changes_nothing(model: Model, events: list[Event]) -> None:
    apart: list[Event] = []
    together: list[Event] = []
    for event in events:
        if not isinstance(event, SampleBatch):
            apart.append(event)
            together.append(event)
            continue
        apart += [SampleBatch("plc", event.received_at, (s,), event.source_time) for s in event.samples]
        last = together[-1] if together else None
        if isinstance(last, SampleBatch) and last.source_time == event.source_time:
            samples = last.samples + event.samples
            together[-1] = SampleBatch("plc", event.received_at, samples, event.source_time)
        else:
            together.append(event)
    whole = _play(model, events)
    for packed in (_play(model, apart), _play(model, together)):
        assert _transitions(packed) == _transitions(whole)
        assert _rejections(packed) == _rejections(whole)


@given(st.booleans().flatmap(lambda r: st.tuples(models(rules=r), histories(rules=r))), st.data())
def test_unrelated_tags_change_nothing(made: tuple[Model, list[Event]], data: st.DataObject) -> None:
    model, events = made
    noisy: list[Event] = []
    for event in events:
        if isinstance(event, SampleBatch):
            samples = list(event.samples)
            for _ in range(data.draw(st.integers(0, 3))):
                tag = data.draw(st.sampled_from(["plc/other", "plc2/state", "plc/x2", "state"]))
                noise = TagSample(tag, 1, Quality.GOOD, None, event.received_at)
                samples.insert(data.draw(st.integers(0, len(samples))), noise)
            event = SampleBatch("plc", event.received_at, tuple(samples), event.source_time)
        noisy.append(event)
    assert _play(model, noisy) == _play(model, events)


@given(models(rules=True), histories(rules=True), st.data())
def test_ticks_may_come_whenever_they_like(model: Model, events: list[Event], data: st.DataObject) -> None:
    """Extra ticks, at any time between two events, change neither what happens nor when it is dated."""
    ticked: list[Event] = []
    now = START
    for event in events:
        at = _time_of(event)
        for _ in range(data.draw(st.integers(0, 2))):
            now = max(now, min(at, now + (at - now) * data.draw(st.floats(0, 1))))
            ticked.append(Tick(now))
        ticked.append(event)
        now = max(now, at)
    assert _told(_play(model, ticked)) == _told(_play(model, events))


@given(models(rules=True), histories(rules=True))
def test_waking_when_asked_misses_nothing(model: Model, events: list[Event]) -> None:
    """A caller that comes back exactly at `wake_at` hears the same as one that only brings events."""
    engine, heard, wake = _engine(model), list[Outcome](), None
    for event in events:
        while wake is not None and wake < _time_of(event):
            heard.append(engine.step(Tick(wake)))
            assert heard[-1].wake_at is None or heard[-1].wake_at > wake, "it must not spin"
            wake = heard[-1].wake_at
        heard.append(engine.step(event))
        wake = heard[-1].wake_at
    assert _told(heard) == _told(_play(model, events))


@given(models(rules=True), histories(rules=True))
def test_a_repeated_sample_says_nothing_new(model: Model, events: list[Event]) -> None:
    """What a filter for repetitions drops on the way changes no state."""
    repeated: list[Event] = []
    for event in events:
        if isinstance(event, SampleBatch):
            doubled = tuple(sample for sample in event.samples for _ in range(2))
            event = SampleBatch("plc", event.received_at, doubled, event.source_time)
        repeated.append(event)
    assert _told(_play(model, repeated)) == _told(_play(model, events))


@given(st.booleans().flatmap(lambda r: st.tuples(models(rules=r), histories(rules=r))))
def test_the_same_events_give_the_same_outcomes(made: tuple[Model, list[Event]]) -> None:
    assert _play(*made) == _play(*made)


@given(models(rules=False), histories(rules=False), st.integers(0, 14))
def test_a_restart_continues_the_sequence(model: Model, events: list[Event], cut: int) -> None:
    spec = bound(model, state="plc/state")
    before = Engine([spec], at=START)
    heard = [before.step(event) for event in events[:cut]]
    memory = {kept.equipment: kept for kept in before.memories()}
    again = Engine([spec], at=after(1e6), memory=memory)
    heard += [again.step(event) for event in events[cut:]]
    assert _but_evidence(_transitions(heard)) == _but_evidence(_transitions(_play(model, events)))


def _but_evidence(transitions: list[Transition]) -> list[Transition]:
    """The last values before a loss are not remembered across a restart; everything else is."""
    return [
        replace(t, cause=replace(t.cause, inputs=())) if t.cause.rule == "source_lost" else t
        for t in transitions
    ]


def _time_of(event: Event) -> datetime:
    return event.received_at if isinstance(event, SampleBatch) else event.at


def _told(outcomes: list[Outcome]) -> tuple[list[Transition], list[Rejection]]:
    return _transitions(outcomes), _rejections(outcomes)
