"""What would have been: recorded samples through a changed model, and how that differs from what was.

Replay is the engine itself, fed with what was recorded, so the same recording and the same model give the
same outcomes to the byte. It knows nothing of files or databases: a recording is handed in. What the engine
was fed is what was recorded after the change filter, which is exactly what it saw when it happened; tags
that are not recorded are not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from statemodel.engine import Engine, EquipmentSpec
from statemodel.machine import NO_COMMUNICATION, EquipmentMemory
from statemodel.model import Model
from statemodel.records import Recorded
from statemodel.timeline import Span, spans_between, within
from statemodel.types import (
    UNKNOWN,
    Event,
    Rejection,
    SampleBatch,
    SourceLost,
    SourceRestored,
    Tick,
    Transition,
)

#: What a recording is made of: sample batches as the engine took them, and events as they were told.
Entry = SampleBatch | Recorded


class Recording(msgspec.Struct, frozen=True):
    """What was recorded between two instants, in the order the engine took it in.

    `whole` says that it begins where recording began; else tags that did not change for long are not in it
    until they do. Transitions in force when it begins come first, numbered below `first_seq`. `lacking` are
    stretches, begin and end, of which not all is in it.
    """

    gateway: str
    begin_at: datetime
    end_at: datetime
    first_seq: int
    whole: bool
    entries: Sequence[Entry]
    lacking: Sequence[tuple[datetime, datetime]] = ()


class Replayed(msgspec.Struct, frozen=True):
    """What the engine asked to be recorded."""

    transitions: tuple[Transition, ...]
    rejections: tuple[Rejection, ...]


class Interval(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A stretch of time in which two timelines differ: the state each had, with its category."""

    from_: datetime
    to: datetime
    duration_s: float
    before: str
    before_category: str | None
    after: str
    after_category: str | None


class Spent(msgspec.Struct, frozen=True):
    """Seconds spent in one state or category, before and after."""

    before_s: float
    after_s: float


class Difference(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """How two timelines of an equipment differ between two instants.

    `intervals` are those that differ in state or category, oldest first; their durations sum to
    `different_s`. Category null is told as `none`.
    """

    from_: datetime
    to: datetime
    same_s: float
    different_s: float
    intervals: tuple[Interval, ...]
    states: Mapping[str, Spent]
    categories: Mapping[str, Spent]


def in_order(batches: Iterable[SampleBatch], events: Iterable[Recorded]) -> Iterator[Entry]:
    """Batches and events, each in order of its own numbering, as the one order in which they were taken in.

    Events and batches are numbered apart. A lost connection leaves a batch that calls its tags bad from that
    very instant, in the place where the loss was taken in: there the event goes, and the batch, which the
    engine never saw, is left out. Events without such a mark go before the first batch received after they
    were recorded.
    """
    taken, waiting = list(batches), deque(events)
    marks = _marks(taken, waiting)
    for place, batch in enumerate(taken):
        if marks and marks[0][0] == place:
            loss = marks.popleft()[1]
            while waiting and waiting[0].seq <= loss:
                yield waiting.popleft()
            continue
        while (
            waiting
            and waiting[0].recorded_at < batch.received_at
            and (not marks or waiting[0].seq < marks[0][1])
        ):
            yield waiting.popleft()
        yield batch
    yield from waiting


def _marks(batches: Sequence[SampleBatch], events: Iterable[Recorded]) -> deque[tuple[int, int]]:
    """The places of the batches that are marks, in order, each with the number of the loss that left it."""
    losses: dict[tuple[str, datetime], deque[int]] = {}
    for recorded in events:
        if isinstance(recorded.event, SourceLost):
            losses.setdefault((recorded.event.connection, recorded.event.at), deque()).append(recorded.seq)
    marks: deque[tuple[int, int]] = deque()
    for place, batch in enumerate(batches):
        seqs = losses.get((batch.connection, batch.received_at))
        if seqs and all(s.substatus == NO_COMMUNICATION and s.value is None for s in batch.samples):
            marks.append((place, seqs.popleft()))
    return marks


def inputs_of(spec: EquipmentSpec) -> tuple[str, ...]:
    """The tags (full ids) that decide the state of an equipment by its model."""
    unused = spec.bind.keys() - set(spec.model.inputs)
    return tuple(dict.fromkeys(tag for name, tag in spec.inputs.items() if name not in unused))


def unbound(spec: EquipmentSpec, model: Model) -> tuple[str, ...]:
    """The inputs of a model that an equipment has no tag for; `state` stands for the tag of the code."""
    missing = tuple(name for name in model.inputs if name not in spec.bind)
    return missing if model.rules or spec.state or spec.state_path else ("state",)


def transitions_of(recording: Recording, equipment: str) -> tuple[Transition, ...]:
    """The transitions of one equipment as they were recorded, in order."""
    return tuple(made for _, made in _told_of(recording, equipment))


def _told_of(recording: Recording, equipment: str) -> Iterator[tuple[int, Transition]]:
    for entry in recording.entries:
        if (
            isinstance(entry, Recorded)
            and entry.equipment == equipment
            and isinstance(entry.event, Transition)
        ):
            yield entry.seq, entry.event


def memory_of(recording: Recording, equipment: str) -> EquipmentMemory | None:
    """What an equipment was in when the recording began; None when nothing says it."""
    seq, first = next(_told_of(recording, equipment), (0, None))
    if first is None:
        return None
    if seq < recording.first_seq:
        return EquipmentMemory(equipment, first.to_state, first.code, first.at, first.sequence)
    since = first.at - timedelta(seconds=first.duration_s)
    return EquipmentMemory(equipment, first.from_state, None, since, first.sequence - 1)


def known_from(recording: Recording, spec: EquipmentSpec) -> datetime | None:
    """When every input of an equipment had been seen; None when some never were.

    Before it a replay knows less than the engine did, unless the recording is `whole`.
    """
    if recording.whole:
        return recording.begin_at
    unseen = set(inputs_of(spec))
    for entry in recording.entries:
        if isinstance(entry, SampleBatch):
            unseen.difference_update(sample.tag for sample in entry.samples)
            if not unseen:
                return max(entry.received_at, recording.begin_at)
    return None


def play(specs: Sequence[EquipmentSpec], recording: Recording) -> Replayed:
    """Run a recording through the engine, up to its end."""
    memories = {spec.name: memory_of(recording, spec.name) for spec in specs}
    engine = Engine(
        specs, at=recording.begin_at, memory={name: kept for name, kept in memories.items() if kept}
    )
    transitions: list[Transition] = []
    rejections: list[Rejection] = []
    for event in _events(recording):
        outcome = engine.step(event)
        transitions += outcome.transitions
        rejections += outcome.rejections
    return Replayed(tuple(transitions), tuple(rejections))


def _events(recording: Recording) -> Iterator[Event]:
    """What the engine was fed. Time passed before a loss that is dated back was known: it goes before it."""
    for entry in recording.entries:
        if isinstance(entry, SampleBatch):
            yield entry
        elif isinstance(entry.event, SourceLost | SourceRestored):
            if entry.recorded_at > entry.event.at:
                yield Tick(entry.recorded_at)
            yield entry.event
    yield Tick(recording.end_at)


def spans_of(
    transitions: Sequence[Transition], model: Model, begin: datetime, end: datetime
) -> tuple[Span, ...]:
    """The timeline that transitions make; categories of the state before the first are those of the model.

    Raises:
        ValueError: the range has no length.
    """
    return spans_between(
        transitions, begin, end, categories={state.name: state.category for state in model.states}
    )


def compare(before: Sequence[Span], after: Sequence[Span], begin: datetime, end: datetime) -> Difference:
    """Two timelines that cover a range, compared exactly."""
    bounds = sorted({begin, end, *(s.begin for s in (*before, *after) if begin < s.begin < end)})
    intervals: list[Interval] = []
    different = timedelta(0)
    for start, stop in pairwise(bounds):
        old, new = _at(before, start, stop), _at(after, start, stop)
        if (old.state, old.category) != (new.state, new.category):
            different += stop - start
            _add(intervals, start, stop, old, new)
    states: dict[str, list[timedelta]] = {}
    categories: dict[str, list[timedelta]] = {}
    for side, spans in enumerate((before, after)):
        for span in within(spans, begin, end)[1]:
            for totals, key in ((states, span.state), (categories, span.category or "none")):
                totals.setdefault(key, [timedelta(0), timedelta(0)])[side] += span.duration
    return Difference(
        from_=begin,
        to=end,
        same_s=(end - begin - different).total_seconds(),
        different_s=different.total_seconds(),
        intervals=tuple(intervals),
        states=_spent(states),
        categories=_spent(categories),
    )


def _at(spans: Sequence[Span], start: datetime, stop: datetime) -> Span:
    found = within(spans, start, stop)[1]
    return found[0] if found else Span(UNKNOWN, None, start, stop)


def _add(intervals: list[Interval], start: datetime, stop: datetime, old: Span, new: Span) -> None:
    last = intervals[-1] if intervals else None
    told = (old.state, old.category, new.state, new.category)
    if (
        last is not None
        and last.to == start
        and (last.before, last.before_category, last.after, last.after_category) == told
    ):
        start = last.from_
        intervals.pop()
    intervals.append(
        Interval(
            from_=start,
            to=stop,
            duration_s=(stop - start).total_seconds(),
            before=old.state,
            before_category=old.category,
            after=new.state,
            after_category=new.category,
        )
    )


def _spent(totals: Mapping[str, Sequence[timedelta]]) -> Mapping[str, Spent]:
    return {
        name: Spent(before.total_seconds(), after.total_seconds())
        for name, (before, after) in sorted(totals.items())
    }
