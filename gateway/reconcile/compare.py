"""The comparison itself: two accounts of one truth in, findings out. Pure.

Each function is given what both sides say and returns where they do not agree. What is merely on its way
looks like a difference here; whoever calls looks twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import msgspec

from gateway.publish import payloads
from gateway.reconcile.kinds import Finding
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import Transition

_read_state = msgspec.json.Decoder(EquipmentState).decode
_read_tag = msgspec.json.Decoder(payloads.ToldTag).decode


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
        elif _essence(expected) != _essence(state):
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
    beyond: Mapping[str, Recorded] | None,
    stored: Mapping[str, StoredState],
    *,
    stream: str,
    cursor_seq: int,
    set_aside: Callable[[int], bool],
) -> tuple[list[Finding], int]:
    """`andon.current_state` against the journal, as far as the cursor says; how many could be compared.

    `beyond` has the first transition after the cursor of each equipment; None: nobody knows, there are too
    many. Rows beyond the cursor are on their way and no difference.
    """
    found: list[Finding] = []
    compared = 0
    for name, recorded in last.items():
        event = recorded.event
        if recorded.stream != stream or not isinstance(event, Transition) or set_aside(recorded.seq):
            continue
        row = stored.get(name)
        expected = _triple(event.to_state, event.sequence, event.at, recorded.seq)
        if recorded.seq > cursor_seq:
            if row is not None and row.stream == stream and cursor_seq < row.seq < recorded.seq:
                compared += 1
                continue
            if row is None or row.stream != stream or row.seq != recorded.seq:
                first = None if beyond is None else beyond.get(name)
                if first is None or not isinstance(first.event, Transition):
                    continue
                compared += 1
                # What the row must be is what the first one beyond the cursor left.
                if first.event.sequence > 1 and row is None:
                    found.append(_about(name, "state_missing", f"{first.event.from_state}", "no row"))
                elif row is not None and row.stream == stream and row.sequence != first.event.sequence - 1:
                    wanted = f"{first.event.from_state}, sequence {first.event.sequence - 1}"
                    found.append(_about(name, "state_missing", wanted, _row(row)))
                continue
        compared += 1
        if row is None:
            found.append(_about(name, "state_missing", expected, "no row", seq=recorded.seq))
        elif row.stream != stream:
            if row.since > event.at:
                found.append(_about(name, "state_differs", expected, f"{_row(row)} of stream {row.stream}"))
            else:
                found.append(_about(name, "state_missing", expected, _row(row), seq=recorded.seq))
        elif (row.state, row.sequence, row.since, row.seq) != (
            event.to_state,
            event.sequence,
            event.at,
            recorded.seq,
        ):
            kind = "state_missing" if row.seq < recorded.seq else "state_differs"
            seq = recorded.seq if kind == "state_missing" else 0
            found.append(_about(name, kind, expected, _row(row), seq=seq))
    return found, compared


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
    """Retained topics against what the publisher says they should be. `names` says what each is about."""
    differences = []
    for topic, payload in expected.items():
        held, name = found.get(topic), names.get(topic, "")
        kind = _judge(payload, held)
        if kind:
            equipment = name if topic.endswith("/_state") else ""
            differences.append(
                Finding(kind, topic, _payload(payload), _payload(held), equipment, topic=topic)
            )
    return differences


def is_ours(topic: str, payload: bytes, state: EquipmentState) -> bool:
    """Whether a retained state is what this gateway recorded, but for the reason, which may be newer."""
    told = read_state(payload)
    return topic.endswith(f"/{state.path}/_state") and told is not None and _essence(told) == _essence(state)


def read_state(payload: bytes) -> EquipmentState | None:
    """The state in a payload, if it is one."""
    try:
        return _read_state(payload)
    except msgspec.MsgspecError:
        return None


def read_tag(payload: bytes) -> payloads.ToldTag | None:
    """The tag value in a payload, if it is one."""
    try:
        return _read_tag(payload)
    except msgspec.MsgspecError:
        return None


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
        if told.seq > state.seq:
            return "retained_newer"
        return "" if _essence(told) == _essence(state) else "retained_differs"
    if (tag := read_tag(expected)) is not None:
        value = read_tag(held)
        if value is not None and value.tag == tag.tag and value.received_at > tag.received_at:
            return "retained_newer"
    return "retained_differs"


# -- words


def _essence(state: EquipmentState) -> tuple[Any, ...]:
    """Everything but the reason, which may change while the state lasts."""
    return msgspec.structs.astuple(msgspec.structs.replace(state, reason=None))


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


def first_of_each(events: Sequence[Recorded]) -> dict[str, Recorded]:
    """The first transition of each equipment."""
    found: dict[str, Recorded] = {}
    for event in events:
        if isinstance(event.event, Transition):
            found.setdefault(event.equipment, event)
    return found
