"""The comparison by itself: every difference is found, and only differences are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.publish import payloads
from gateway.reconcile.compare import (
    Digest,
    StoredState,
    compare_engine,
    compare_events,
    compare_live,
    compare_retained,
    compare_states,
    digests,
    unequal,
)
from gateway.reconcile.database import Known
from gateway.reconcile.kinds import KINDS
from gateway.reconcile.signs import SILENT_S_MAX, Sign, Signs
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded, state_after, tell
from statemodel.types import Quality, TagSample, Transition
from tests.gateway.journal.builders import START
from tests.gateway.reconcile.plants import NAMES, moves

STREAM = "0d6c3b3e-6a54-4a0e-9f37-9b1d5c1c0001"
OTHER = "0d6c3b3e-6a54-4a0e-9f37-9b1d5c1c0002"


def numbered(count: int, *, first: int = 1) -> list[Recorded]:
    return [
        tell(event, gateway="line-1", stream=STREAM, seq=seq, recorded_at=START)
        for seq, event in enumerate(moves(count), first)
    ]


def last_of(events: Sequence[Recorded]) -> dict[str, Recorded]:
    return {event.equipment: event for event in events}


def state(recorded: Recorded) -> EquipmentState:
    assert isinstance(recorded.event, Transition)
    return state_after(recorded.event, recorded.seq)


def row(recorded: Recorded, **changed: object) -> StoredState:
    event = recorded.event
    assert isinstance(event, Transition)
    made = StoredState(event.equipment, event.to_state, event.at, STREAM, recorded.seq, event.sequence)
    return msgspec.structs.replace(made, **changed)


def never(_: int) -> bool:
    return False


# -- events


@given(
    count=st.integers(1, 60),
    slice_events=st.integers(1, 17),
    gone=st.sets(st.integers(1, 60)),
    changed=st.sets(st.integers(1, 60)),
    known=st.sets(st.integers(1, 60)),
    unreadable=st.sets(st.integers(1, 60)),
)
def test_every_event_that_is_gone_or_changed_is_found_and_no_other(
    count: int, slice_events: int, gone: set[int], changed: set[int], known: set[int], unreadable: set[int]
) -> None:
    events = numbered(count)
    ours = [event for event in events if event.seq not in unreadable]
    theirs = [
        msgspec.structs.replace(event, json=event.json.replace(b"packml", b"packm1"))
        if event.seq in changed
        else event
        for event in events
        if event.seq not in gone
    ]
    wrong = set(unequal(digests(ours, slice_events), digests(theirs, slice_events)))
    held = {seq: one.md5 for seq, one in ((e.seq, digests([e], 1)[e.seq - 1]) for e in theirs)}
    mine = {event.seq: event for event in ours}
    found = compare_events(mine, held, missing=known.__contains__)
    everything = set(range(1, count + 1))
    expected = {("event_missing", seq) for seq in (gone & everything) - unreadable - known}
    expected |= {("event_differs", seq) for seq in (changed & everything) - gone - unreadable}
    expected |= {("event_unknown", seq) for seq in (unreadable & everything) - gone - known}
    assert {(item.kind, int(item.place.split()[1])) for item in found} == expected
    # Whatever is found one by one is seen in the hashes of the slices.
    assert {(int(item.place.split()[1]) - 1) // slice_events for item in found} <= wrong
    assert all(item.seq == int(item.place.split()[1]) for item in found if item.kind == "event_missing")


def test_the_same_count_is_not_the_same_content() -> None:
    events = numbered(20)
    swapped = [*events[:3], events[4], events[3], *events[5:]]
    assert unequal(digests(events, 10), digests(events, 10)) == []
    assert unequal(digests(events, 10), digests(swapped, 10)) == [0]
    assert unequal({0: Digest(1, "a")}, {0: Digest(2, "a")}) == [0]
    assert unequal({}, {7: Digest(1, "a")}) == [7]


@given(
    ranges=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), max_size=6),
    number=st.integers(0, 70),
    length=st.integers(0, 10),
)
def test_known_ranges_are_found_again(ranges: list[tuple[int, int]], number: int, length: int) -> None:
    spans = sorted((first, first + more) for first, more in ranges)
    known = Known([first for first, _ in spans], [last for _, last in spans])
    inside = {n for first, last in spans for n in range(first, last + 1)}
    assert known.holds(number) == (number in inside)
    assert known.touches(number, number + length) == bool(inside & set(range(number, number + length + 1)))


# -- states


def found_states(
    events: Sequence[Recorded], stored: dict[str, StoredState], cursor: int
) -> list[tuple[str, str]]:
    held = last_of([event for event in events if event.seq <= cursor])
    found, _ = compare_states(last_of(events), held, stored, stream=STREAM, set_aside=never)
    return [(item.kind, item.equipment) for item in found]


@given(count=st.integers(1, 30), cursor=st.integers(0, 30), ahead=st.integers(0, 30))
def test_a_database_that_is_as_far_as_it_says_agrees(count: int, cursor: int, ahead: int) -> None:
    """Also where rows beyond the cursor are there already."""
    events = numbered(count)
    stored = {event.equipment: row(event) for event in events if event.seq <= max(cursor, ahead)}
    assert found_states(events, stored, cursor) == []


@given(count=st.integers(4, 30), behind=st.integers(0, 3), lost=st.sampled_from(NAMES))
def test_a_state_older_than_the_cursor_says_is_found(count: int, behind: int, lost: str) -> None:
    events = numbered(count)
    cursor = count - behind
    there = [event for event in events if event.seq <= cursor]
    mine = [event for event in there if event.equipment == lost]
    if not mine:
        return
    stored = {event.equipment: row(event) for event in there if event is not mine[-1]}
    assert found_states(events, stored, cursor) == [("state_missing", lost)]


def test_what_is_newer_or_other_than_the_journal_is_told_and_not_written_over() -> None:
    events = numbered(9)
    good = {event.equipment: row(event) for event in events}
    name = events[-1].equipment
    for changed in (
        {"state": "Aborted"},
        {"sequence": 77},
        {"since": START - timedelta(days=1)},
        {"stream": OTHER, "since": START + timedelta(days=1)},
        {"seq": 4711},
    ):
        stored = good | {name: row(events[-1], **changed)}
        assert found_states(events, stored, 9) == [("state_differs", name)], changed
    assert not KINDS["state_differs"].harmless
    stored = good | {name: row(events[-1], stream=OTHER, since=START - timedelta(days=1))}
    assert found_states(events, stored, 9) == [("state_missing", name)]


def test_where_nothing_has_been_handed_over_nothing_is_missed() -> None:
    events = numbered(9)
    found, compared = compare_states(last_of(events), {}, {}, stream=STREAM, set_aside=never)
    assert (found, compared) == ([], 0)


# -- memory


def test_memory_is_held_to_the_journal_but_for_the_words_of_the_reason() -> None:
    events = numbered(9)
    last = last_of(events)
    live = [state(event) for event in last.values()]
    assert compare_live(last, live) == []
    assert compare_live(last, [msgspec.structs.replace(live[0], reason="plc lost: no route")]) == []
    for changed in ({"seq": 1}, {"state": "Held"}, {"sequence": 9}, {"since": START}, {"code": 9}):
        assert [f.kind for f in compare_live(last, [msgspec.structs.replace(live[1], **changed)])] == [
            "live_differs"
        ], changed
    placed = msgspec.structs.replace(live[1], path="hall-2/else", model="other")
    assert compare_live(last, [placed]) == [], "another configuration shows it there since its last move"
    blank = EquipmentState("new-1", "a/new-1", "packml", "Unknown", None, None, START, 0, 0, "no value yet")
    assert compare_live(last, [blank]) == []
    assert compare_live(last, [msgspec.structs.replace(blank, seq=3)])[0].kind == "live_differs"
    memory = EquipmentMemory("new-1", "Unknown", None, START, 0)
    assert compare_engine(last, [memory]) == []
    assert compare_engine(last, [msgspec.structs.replace(memory, sequence=1)])[0].kind == "engine_differs"


# -- retained topics


def test_retained_topics_are_judged() -> None:
    recorded = numbered(3)[-1]
    now = state(recorded)
    topic = f"acme/berlin/{now.path}/_state"
    names = {topic: now.equipment}

    def judged(held: bytes | None) -> list[str]:
        found = {} if held is None else {topic: held}
        return [item.kind for item in compare_retained({topic: payloads.state(now)}, found, names)]

    def other(**changed: object) -> bytes:
        return payloads.state(msgspec.structs.replace(now, **changed))

    assert judged(payloads.state(now)) == []
    assert judged(other(reason="plc lost")) == []
    assert judged(None) == ["retained_missing"]
    assert judged(other(seq=now.seq - 1)) == ["retained_differs"]
    assert judged(other(state="Held")) == ["retained_differs"]
    assert judged(other(equipment="else")) == ["retained_differs"]
    assert judged(b"\xff\x00") == ["retained_differs"]
    assert judged(other(seq=now.seq + 1)) == ["retained_newer"]


def test_a_tag_may_not_be_older_than_what_was_said() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    topic = "acme/berlin/_tag/plc/temp"

    def said(value: float, seconds: float) -> bytes:
        sample = TagSample("plc/temp", value, Quality.GOOD, None, at + timedelta(seconds=seconds))
        return payloads.tag(sample, "°C")

    def judged(held: bytes) -> list[str]:
        return [item.kind for item in compare_retained({topic: said(20, 0)}, {topic: held}, {topic: "x"})]

    assert judged(said(20, 0)) == []
    assert judged(said(19, -1)) == ["retained_differs"]
    assert judged(said(19, 0)) == ["retained_differs"]
    assert judged(said(21, 1)) == ["retained_newer"]
    assert judged(b"online") == ["retained_differs"]


# -- signs of life


def test_only_what_moves_is_alive() -> None:
    signs = Signs()
    left = Sign("run a", "process 1", 5)
    assert signs.note([left], 0.0) == []
    assert signs.note([left], 100.0) == [], "a row a killed process left"
    assert signs.note([Sign("run a", "process 1", 6)], 102.0) == ["process 1"]
    assert signs.note([Sign("run a", "process 1", 6)], 102.0 + SILENT_S_MAX - 1) == ["process 1"]
    assert signs.note([Sign("run a", "process 1", 6)], 102.0 + SILENT_S_MAX) == []
    assert signs.note([], 200.0) == []
    assert signs.note([Sign("run a", "process 1", 9)], 201.0) == [], "seen for the first time again"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_who_moves_is_told_within_one_look_and_who_does_not_never(looks: list[tuple[bool, bool]]) -> None:
    signs, marks = Signs(), [0, 0]
    for number, (first, second) in enumerate(looks):
        moved = [first and number > 0, second and number > 0]
        marks = [mark + step for mark, step in zip(marks, moved, strict=True)]
        alive = signs.note([Sign("a", "a", marks[0]), Sign("b", "b", marks[1])], number * 2.0)
        for name, step, mark in zip("ab", moved, marks, strict=True):
            assert not step or name in alive
            assert name not in alive or mark > 0


def test_the_kinds_that_touch_history_are_only_those_that_add() -> None:
    mended = {word for word, kind in KINDS.items() if kind.harmless or kind.asked}
    assert mended == {
        "event_missing",
        "state_missing",
        "retained_missing",
        "retained_differs",
        "left_over",
    }
