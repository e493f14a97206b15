"""The comparison itself: two accounts of one truth in, findings out. Pure.

Each function is given what both sides say and returns where they do not agree. What is merely on its way
looks like a difference here; whoever calls looks twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import msgspec

from gateway.publish.ownership import essence, is_told_of, read_state, read_tag
from gateway.reconcile.kinds import Finding
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import Transition


class StoredState(msgspec.Struct, frozen=True):
    """A row of `andon.current_state`."""

    equipment: str
    state: str
    since: datetime
    stream: str
    seq: int
    sequence: int


class Digest(msgspec.Struct, frozen=True):
    """Count and hash of the events of one slice."""

    count: int
    md5: str


# -- memory


def compare_live(last: Mapping[str, Recorded], live: Iterable[EquipmentState]) -> list[Finding]:
    """What REST shows against the newest transition of the journal."""
    found = []
    for state in live:
        expected = _state_of(last.get(state.equipment))
        if expected is None:
            if state.seq:
                found.append(_about(state.equipment, "live_differs", "no transition", _shown(state)))
        elif not is_told_of(expected, state):
            found.append(_about(state.equipment, "live_differs", _shown(expected), _shown(state)))
    return found


def compare_engine(last: Mapping[str, Recorded], memories: Iterable[EquipmentMemory]) -> list[Finding]:
    """The engine's memory against the newest transition of the journal."""
    found = []
    for memory in memories:
        expected = _state_of(last.get(memory.equipment))
        ours = (memory.state, memory.sequence, memory.since)
        if expected is None:
            if memory.sequence:
                found.append(_about(memory.equipment, "engine_differs", "no transition", _triple(*ours)))
        elif ours != (theirs := (expected.state, expected.sequence, expected.since)):
            found.append(_about(memory.equipment, "engine_differs", _triple(*theirs), _triple(*ours)))
    return found


# -- states in the database


def compare_states(
    last: Mapping[str, Recorded],
    held: Mapping[str, Recorded | None],
    stored: Mapping[str, StoredState],
    *,
    stream: str,
    set_aside: Callable[[int], bool],
) -> tuple[list[Finding], int]:
    """`andon.current_state` against the journal; how many could be compared.

    `held` has the newest transition of each equipment that the database says it has; None: it says so of
    none. What comes after it in the journal is on its way, and no difference whether it is there or not.
    """
    found: list[Finding] = []
    compared = 0
    for name, newest in last.items():
        expected, row = held.get(name), stored.get(name)
        if newest.stream != stream or set_aside(newest.seq):
            continue
        if row is not None and row.stream == stream and (expected is None or row.seq > expected.seq):
            expected = newest if row.seq >= newest.seq else None  # what lies between is being written
            compared += expected is None
        if expected is None or set_aside(expected.seq):
            continue
        compared += 1
        if (finding := _judge_state(name, expected, row)) is not None:
            found.append(finding)
    return found, compared


def _judge_state(name: str, recorded: Recorded, row: StoredState | None) -> Finding | None:
    """A row against the transition it should show."""
    event = recorded.event
    assert isinstance(event, Transition), "only transitions are asked for"
    expected = _triple(event.to_state, event.sequence, event.at, recorded.seq)
    if row is None:
        return _about(name, "state_missing", expected, "no row", seq=recorded.seq)
    if row.stream != recorded.stream:
        if row.since > event.at:
            return _about(name, "state_differs", expected, f"{_row(row)} of stream {row.stream}")
        return _about(name, "state_missing", expected, _row(row), seq=recorded.seq)
    if (row.state, row.sequence, row.since, row.seq) == (
        event.to_state,
        event.sequence,
        event.at,
        recorded.seq,
    ):
        return None
    if row.seq < recorded.seq:
        return _about(name, "state_missing", expected, _row(row), seq=recorded.seq)
    return _about(name, "state_differs", expected, _row(row))


# -- events in the database


class Tally:
    """Counts and hashes slices page by page, as the database does: bodies in order, a line feed between."""

    def __init__(self, slice_events: int) -> None:
        self._slice_events = slice_events
        self._counts: dict[int, int] = {}
        self._hashes: dict[int, Any] = {}

    def add(self, events: Iterable[Recorded]) -> None:
        """Take the next events, in order."""
        bodies: dict[int, list[bytes]] = {}
        for event in events:
            bodies.setdefault((event.seq - 1) // self._slice_events, []).append(event.json)
        for number, group in bodies.items():
            begun = number in self._hashes
            if not begun:
                self._hashes[number] = md5(usedforsecurity=False)
                self._counts[number] = 0
            self._hashes[number].update((b"\n" if begun else b"") + b"\n".join(group))
            self._counts[number] += len(group)

    def digests(self) -> dict[int, Digest]:
        """Count and hash of each slice there was an event of."""
        return {
            number: Digest(self._counts[number], found.hexdigest()) for number, found in self._hashes.items()
        }


def digests(events: Iterable[Recorded], slice_events: int) -> dict[int, Digest]:
    """Count and hash of each slice of some events."""
    tally = Tally(slice_events)
    tally.add(events)
    return tally.digests()


def unequal(ours: Mapping[int, Digest], theirs: Mapping[int, Digest]) -> list[int]:
    """The slices that are not the same on both sides, in order."""
    return sorted(number for number in ours.keys() | theirs.keys() if ours.get(number) != theirs.get(number))


def compare_events(
    ours: Mapping[int, Recorded], theirs: Mapping[int, str], *, missing: Callable[[int], bool]
) -> list[Finding]:
    """Events by number: the journal's, and the hash of each body in the database.

    `missing` knows the numbers the journal could not give any more and the database was told so.
    """
    found = []
    for seq in sorted(ours.keys() | theirs.keys()):
        recorded, held = ours.get(seq), theirs.get(seq)
        if recorded is None:
            if held is not None and not missing(seq):
                found.append(Finding("event_unknown", f"event {seq}", "nothing readable", f"body {held}"))
            continue
        body = md5(recorded.json, usedforsecurity=False).hexdigest()
        if held is None:
            if not missing(seq):
                words = f"{recorded.type} {_at(recorded.at)}"
                found.append(
                    Finding("event_missing", f"event {seq}", words, "no row", recorded.equipment, seq)
                )
        elif held != body:
            found.append(
                Finding(
                    "event_differs", f"event {seq}", f"body {body}", f"body {held}", recorded.equipment, seq
                )
            )
    return found


# -- retained topics


def compare_retained(
    expected: Mapping[str, bytes], found: Mapping[str, bytes], names: Mapping[str, str]
) -> list[Finding]:
    """Retained topics against what the publisher says they should be. `names` are the equipment of states."""
    differences = []
    for topic, payload in expected.items():
        held, name = found.get(topic), names.get(topic, "")
        kind = _judge(payload, held)
        if kind:
            differences.append(Finding(kind, topic, _payload(payload), _payload(held), name, topic=topic))
    return differences


def _judge(expected: bytes, held: bytes | None) -> str:
    """The kind of a difference, or empty."""
    if held is None:
        return "retained_missing"
    if held == expected:
        return ""
    if (state := read_state(expected)) is not None:
        told = read_state(held)
        if told is None or told.equipment != state.equipment:
            return "retained_differs"
        # By the count of transitions: a journal that began anew has smaller numbers than what it took over.
        if (told.sequence, told.seq) > (state.sequence, state.seq):
            return "retained_newer"
        return "" if essence(told) == essence(state) else "retained_differs"
    if (tag := read_tag(expected)) is not None:
        value = read_tag(held)
        if value is not None and value.tag == tag.tag and value.received_at > tag.received_at:
            return "retained_newer"
    return "retained_differs"


# -- words


def _state_of(recorded: Recorded | None) -> EquipmentState | None:
    if recorded is None or not isinstance(recorded.event, Transition):
        return None
    return state_after(recorded.event, recorded.seq)


def _about(name: str, kind: str, expected: str, found: str, *, seq: int = 0) -> Finding:
    return Finding(kind, f"equipment {name}", expected, found, name, seq)


def _shown(state: EquipmentState) -> str:
    return _triple(state.state, state.sequence, state.since, state.seq)


def _row(row: StoredState) -> str:
    return _triple(row.state, row.sequence, row.since, row.seq)


def _triple(state: str, sequence: int, since: datetime, seq: int = 0) -> str:
    return f"{state} since {_at(since)}, sequence {sequence}" + (f", event {seq}" if seq else "")


def _at(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _payload(payload: bytes | None) -> str:
    return "nothing" if payload is None else payload[:200].decode("utf-8", "replace")
