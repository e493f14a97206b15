"""What comes after the births: numbers, times, what is said and what is not, deaths of devices. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.conformance.sparkplug.checks_births import sent_at
from tests.conformance.sparkplug.decoder import GOOD, QUALITY, properties_of, quality_of
from tests.conformance.sparkplug.judging import Verdict, proves
from tests.conformance.sparkplug.story import (
    AWAY,
    BIRTHS,
    CHANGED,
    DATA,
    KILLED,
    LOST,
    RESTORED,
    STOPPED,
    Message,
    Session,
    Story,
)

#: All that counts: every message of an edge node but NDEATH.
COUNTED = ("NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH")

#: How far the clock of whoever stamps and of whoever listens may be apart, in milliseconds.
AHEAD_MS_MAX = 15_000.0

#: How long the value before may still be on its way when the next one is there, in milliseconds.
READ_MS_MAX = 3000.0


def _follows(story: Story, *kinds: str) -> Iterator[Verdict]:
    """One more than the message before, whichever it was; 0 follows 255. Begins anew with an NBIRTH."""
    for session in story.sessions:
        before: int | None = None
        for message in session.of(*COUNTED):
            if message.kind in kinds:
                problem = None
                if message.seq is None:
                    problem = f"{message.kind} has no seq"
                elif message.kind != "NBIRTH" and (before is None or message.seq != (before + 1) % 256):
                    problem = f"{message.kind} has seq {message.seq} after {before}"
                yield Verdict(message.number, problem)
            before = message.seq


@proves(
    "topics-dbirth-seq",
    "payloads-dbirth-seq",
    "payloads-dbirth-seq-inc",
    "message-flow-device-birth-publish-dbirth-payload-seq",
)
def dbirth_seq_follows(story: Story) -> Iterator[Verdict]:
    return _follows(story, "DBIRTH")


@proves("topics-ndata-seq-num", "payloads-ndata-seq", "payloads-ndata-seq-inc")
def ndata_seq_follows(story: Story) -> Iterator[Verdict]:
    return _follows(story, "NDATA")


@proves("topics-ddata-seq-num", "payloads-ddata-seq", "payloads-ddata-seq-inc")
def ddata_seq_follows(story: Story) -> Iterator[Verdict]:
    return _follows(story, "DDATA")


@proves(
    "topics-ddeath-seq-num", "payloads-ddeath-seq", "payloads-ddeath-seq-inc", "payloads-ddeath-seq-number"
)
def ddeath_seq_follows(story: Story) -> Iterator[Verdict]:
    return _follows(story, "DDEATH")


@proves("payloads-sequence-num-always-included")
def all_but_ndeath_have_a_seq(story: Story) -> Iterator[Verdict]:
    for message in story.of(*COUNTED):
        right = message.seq is not None and 0 <= message.seq <= 255
        yield Verdict(message.number, None if right else f"{message.kind} has seq {message.seq}")


@proves("payloads-sequence-num-incrementing")
def seq_rises_by_one_and_wraps(story: Story) -> Iterator[Verdict]:
    return _follows(story, *COUNTED)


def _stamped(story: Story, kind: str) -> Iterator[Verdict]:
    for message in story.of(kind):
        yield Verdict(message.number, sent_at(message))


@proves("topics-ndata-timestamp", "payloads-ndata-timestamp")
def ndata_is_stamped(story: Story) -> Iterator[Verdict]:
    return _stamped(story, "NDATA")


@proves("topics-ddata-timestamp", "payloads-ddata-timestamp")
def ddata_is_stamped(story: Story) -> Iterator[Verdict]:
    return _stamped(story, "DDATA")


@proves("payloads-ddeath-timestamp")
def ddeath_is_stamped(story: Story) -> Iterator[Verdict]:
    return _stamped(story, "DDEATH")


@proves("payloads-timestamp-in-UTC")
def payloads_are_stamped_in_utc(story: Story) -> Iterator[Verdict]:
    """Compared with the clock of whoever listens, which is UTC."""
    for message in story.of(*COUNTED):
        yield Verdict(message.number, sent_at(message))


def _changes(story: Story, kind: str, births: str) -> Iterator[Verdict]:
    """What changed is said, in DATA or in a birth."""
    said = story.of(kind, births)
    for packet, note in story.noted(CHANGED):
        device, _, name = note.about.partition(":")
        if (kind == "DDATA") != bool(device):
            continue
        told = any(
            message.number > packet.number
            and message.device == device
            and any(metric.name == name and _same(metric.value, note.value) for metric in message.metrics)
            for message in said
        )
        yield Verdict(packet.number, None if told else f"nobody was told that {name} became {note.value!r}")


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(value, float | int):
        return abs(value - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return bool(value == wanted)


@proves("topics-ndata-payload")
def ndata_carries_what_changed(story: Story) -> Iterator[Verdict]:
    return _changes(story, "NDATA", "NBIRTH")


@proves("topics-ddata-payload")
def ddata_carries_what_changed(story: Story) -> Iterator[Verdict]:
    return _changes(story, "DDATA", "DBIRTH")


def _on_change(story: Story, data: str, birth: str) -> Iterator[Verdict]:
    """Nothing is said twice in a session: same value, same properties. What is historical is not judged."""
    for session in story.sessions:
        last: dict[tuple[str, str], tuple[Any, Any]] = {}
        for message in session.of(data, birth):
            idle = []
            for metric in message.metrics:
                if metric.raw.is_historical:
                    continue
                key = message.device, metric.name
                now = (metric.value, _shades(metric.raw))
                if message.kind == data and last.get(key) == now:
                    idle.append(metric.name)
                last[key] = now
            if message.kind == data:
                yield Verdict(message.number, f"not changed: {idle[:3]}" if idle else None)


def _shades(raw: Any) -> frozenset[tuple[str, bytes]]:
    """The properties that say how good a value is. A quality that is not said is good, and a unit stays."""
    said = properties_of(raw)
    good = quality_of(raw) in (None, GOOD)
    left_out = ("engUnit", QUALITY) if good else ("engUnit",)
    return frozenset(
        (key, value.SerializeToString(deterministic=True))
        for key, value in said.items()
        if key not in left_out
    )


@proves("principles-rbe-recommended")
def data_is_said_on_change(story: Story) -> Iterator[Verdict]:
    yield from _on_change(story, "NDATA", "NBIRTH")
    yield from _on_change(story, "DDATA", "DBIRTH")


@proves("operational-behavior-data-publish-nbirth-change")
def ndata_is_said_on_change(story: Story) -> Iterator[Verdict]:
    return _on_change(story, "NDATA", "NBIRTH")


@proves("operational-behavior-data-publish-dbirth-change")
def ddata_is_said_on_change(story: Story) -> Iterator[Verdict]:
    return _on_change(story, "DDATA", "DBIRTH")


@proves("operational-behavior-device-ddeath")
def a_lost_device_is_said_to_be_dead(story: Story) -> Iterator[Verdict]:
    """Before its link is restored, or the edge node is asked to leave, which ends every device.

    How long that takes is not judged: whoever plays the plant waits for it, on a busy machine too.
    """
    for packet, note in story.noted(LOST):
        session = _session_at(story, packet.number, note.about)
        if session is None:
            continue
        over = (
            p.number
            for p, later in story.noted(RESTORED, STOPPED, KILLED, AWAY)
            if p.number > packet.number and (later.what != RESTORED or later.about == note.about)
        )
        until = next(over, story.packets[-1].number + 1)
        told = any(m.device == note.about and packet.number < m.number < until for m in session.of("DDEATH"))
        yield Verdict(packet.number, None if told else f"no DDEATH of {note.about}")


def _session_at(story: Story, number: int, device: str) -> Session | None:
    """The session in which this device was born and alive at this packet."""
    for session in story.sessions:
        closed = session.closed
        if session.packets[0].number < number and (closed is None or closed.number > number):
            last: Message | None = None
            for message in session.of("DBIRTH", "DDEATH"):
                if message.device == device and message.number < number:
                    last = message
            if last is not None and last.kind == "DBIRTH":
                return session
    return None


@proves("payloads-metric-timestamp-in-UTC")
def metrics_are_stamped_in_utc(story: Story) -> Iterator[Verdict]:
    """Not after the message that holds them was sent, and in this century.

    What is historical has the time at which it was so: before its next value came, where that is noted.
    """
    notes: dict[str, list[tuple[float, Any]]] = {}
    for packet, note in story.noted(CHANGED):
        notes.setdefault(note.about, []).append((packet.at_ms, note.value))
    for message in story.of(*BIRTHS, *DATA):
        for metric in message.metrics:
            at = metric.raw.timestamp
            ahead_ms = at - message.packet.at_ms
            right = at > 946_684_800_000 and ahead_ms < AHEAD_MS_MAX
            if right and metric.raw.is_historical:
                known = notes.get(f"{message.device}:{metric.name}", [])
                ends = [
                    known[place + 1][0] if place + 1 < len(known) else message.packet.at_ms
                    for place, (_, value) in enumerate(known)
                    if _same(metric.value, value)
                ]
                right = not ends or at <= max(end for end in ends) + READ_MS_MAX
            yield Verdict(message.number, None if right else f"{metric.name} is stamped {at}")


@proves("payloads-name-birth-data-requirement")
def every_metric_is_stamped(story: Story) -> Iterator[Verdict]:
    for message in story.of(*BIRTHS, *DATA):
        bare = [metric.name for metric in message.metrics if not metric.raw.HasField("timestamp")]
        yield Verdict(message.number, f"no timestamp: {bare[:3]}" if bare else None)
