"""Why is it in this state? Answered from what was recorded, and from nothing else.

An explanation is made from the event the journal holds, so it says the same years later, whatever the
configuration has become meanwhile. It reads no model and no live value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from statemodel.corrected import in_force, painted
from statemodel.durations import format_duration
from statemodel.records import Recorded
from statemodel.types import CauseInput, Conformance, Correction, Rejection, Transition


class Refusal(msgspec.Struct, frozen=True):
    """A move that was tried and refused."""

    seq: int
    state: str
    attempted: str
    at: datetime
    reason: str
    text: str


class Neighbour(msgspec.Struct, frozen=True):
    """The transition before or after the one explained, in short."""

    seq: int
    sequence: int
    from_state: str
    to_state: str
    at: datetime
    because: str


class Corrected(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a correction says of a part of the time that is explained: `state` is what is known now."""

    state: str
    from_: datetime
    to: datetime
    reason: str
    author: str
    recorded_at: datetime
    stream: str
    seq: int


class Explanation(msgspec.Struct, frozen=True):
    """Everything the record says about one transition.

    `because` is one sentence; `rule` and `inputs` are what it was made of. `refused_before` are moves refused
    in the state that was left, `refused_since` in the state entered. `recorded_after_s` is how long after
    the event it was durable. `previous` and `next` are the transitions around it, null where there is none
    (yet); `lasted_s` is how long the state entered lasted, null while it lasts. `corrected` are the
    corrections that lie over the time asked for: all the rest is as it was recorded. `incomplete` is null, or
    says which part of the surroundings could not be read. `text` says all of it to people.
    """

    stream: str
    equipment: str
    path: str
    model: str
    seq: int
    sequence: int
    state: str
    at: datetime
    recorded_at: datetime
    recorded_after_s: float
    from_state: str
    from_duration_s: float
    conformance: Conformance
    skipped: tuple[str, ...]
    rule: str
    because: str
    inputs: tuple[CauseInput, ...]
    refused_before: tuple[Refusal, ...]
    refused_since: tuple[Refusal, ...]
    previous: Neighbour | None
    next: Neighbour | None
    lasted_s: float | None
    corrected: tuple[Corrected, ...]
    incomplete: str | None
    text: str


def explain(
    recorded: Recorded,
    *,
    rejections: Iterable[Recorded] = (),
    previous: Recorded | None = None,
    following: Recorded | None = None,
    corrected: Sequence[Corrected] = (),
    incomplete: str | None = None,
) -> Explanation:
    """Explain a recorded transition.

    `rejections` may hold any recorded events around it: those that belong to it are picked out. `previous`
    and `following` are the equipment's transitions around it, where known; `corrected` is what lies over the
    time asked for (see `corrected_between`); `incomplete` says in a sentence what of all this could not be
    read.

    Raises:
        ValueError: an event that should be a transition is not one.
    """
    made = _made(recorded)
    began_at = made.at - timedelta(seconds=made.duration_s)
    refused = sorted(_refusals(rejections, made.equipment), key=lambda refusal: refusal.seq)
    before = tuple(
        refusal
        for refusal in refused
        if refusal.seq < recorded.seq and refusal.state == made.from_state and refusal.at >= began_at
    )
    since = tuple(_since(refused, recorded.seq, made.to_state))
    explanation = Explanation(
        stream=recorded.stream,
        equipment=made.equipment,
        path=made.path,
        model=made.model,
        seq=recorded.seq,
        sequence=made.sequence,
        state=made.to_state,
        at=made.at,
        recorded_at=recorded.recorded_at,
        recorded_after_s=(recorded.recorded_at - made.at).total_seconds(),
        from_state=made.from_state,
        from_duration_s=made.duration_s,
        conformance=made.conformance,
        skipped=made.skipped,
        rule=made.cause.rule,
        because=made.cause.text or made.cause.rule,
        inputs=made.cause.inputs,
        refused_before=before,
        refused_since=since,
        previous=None if previous is None else _neighbour(previous),
        next=None if following is None else _neighbour(following),
        lasted_s=None if following is None else (following.at - made.at).total_seconds(),
        corrected=tuple(corrected),
        incomplete=incomplete,
        text="",
    )
    return msgspec.structs.replace(explanation, text=_text(explanation))


def corrected_between(corrections: Iterable[Recorded], from_: datetime, to: datetime) -> list[Corrected]:
    """What corrections say of a range, oldest time first; later ones win, withdrawn ones do not count."""
    counting = in_force(corrections)
    events = {(recorded.stream, recorded.seq): recorded for recorded in counting}
    found = []
    for stretch in painted(counting):
        if stretch.begin < to and stretch.end > from_:
            recorded = events[stretch.stream, stretch.seq]
            event = recorded.event
            assert isinstance(event, Correction), "only corrections are asked for"
            found.append(
                Corrected(
                    stretch.state,
                    stretch.begin,
                    stretch.end,
                    event.reason,
                    event.author,
                    recorded.recorded_at,
                    recorded.stream,
                    recorded.seq,
                )
            )
    return found


def _made(recorded: Recorded) -> Transition:
    if not isinstance(recorded.event, Transition):
        raise ValueError(f"event {recorded.seq} is a {recorded.type}, not a transition")  # noqa: TRY004 - see Raises
    return recorded.event


def _neighbour(recorded: Recorded) -> Neighbour:
    made = _made(recorded)
    because = made.cause.text or made.cause.rule
    return Neighbour(recorded.seq, made.sequence, made.from_state, made.to_state, made.at, because)


def _refusals(events: Iterable[Recorded], equipment: str) -> Iterable[Refusal]:
    for recorded in events:
        event = recorded.event
        if isinstance(event, Rejection) and event.equipment == equipment:
            yield Refusal(
                recorded.seq,
                event.state,
                event.attempted,
                event.at,
                event.reason,
                event.cause.text or event.cause.rule,
            )


def _since(refused: Iterable[Refusal], seq: int, state: str) -> Iterable[Refusal]:
    """Refusals after the transition, as long as the equipment stayed in the state it led to."""
    for refusal in refused:
        if refusal.seq > seq:
            if refusal.state != state:
                return
            yield refusal


def _text(told: Explanation) -> str:
    duration = format_duration(timedelta(seconds=told.from_duration_s))
    lines = [
        f"{told.equipment} went from {told.from_state} to {told.state} at {_instant(told.at)}.",
        f"Why: {told.because}.",
        *(f"  {_reading(item)}" for item in told.inputs),
        f"Before: {told.from_state} for {duration}.{_entered_by(told)}",
        f"By the model: {_judgement(told)}",
    ]
    lines += [f"Refused before: {_refusal(refusal)}" for refusal in told.refused_before]
    lines += [f"Refused since: {_refusal(refusal)}" for refusal in told.refused_since]
    if told.next is not None and told.lasted_s is not None:
        lasted = format_duration(timedelta(seconds=told.lasted_s))
        lines.append(
            f"After: {told.state} for {lasted}, then {told.next.to_state} at {_instant(told.next.at)} "
            f"(event {told.next.seq}): {told.next.because}."
        )
    lines += [
        f"Corrected: {one.state} from {_instant(one.from_)} to {_instant(one.to)}, by {one.author} "
        f"(event {one.seq}): {one.reason.rstrip('.')}."
        for one in told.corrected
    ]
    if told.incomplete:
        lines.append(f"Not all could be read: {told.incomplete}.")
    lines.append(
        f"Recorded: event {told.seq}, transition {told.sequence} of {told.equipment}, "
        f"{told.recorded_after_s:.3f} s after it happened."
    )
    return "\n".join(lines) + "\n"


def _entered_by(told: Explanation) -> str:
    if told.previous is None:
        return ""
    entered = f"{_instant(told.previous.at)} (event {told.previous.seq})"
    return f" It was entered at {entered}: {told.previous.because}."


def _judgement(told: Explanation) -> str:
    move = f"{told.from_state} to {told.state}"
    if told.rule == "unknown_code":
        return f"{told.model} has no state for what was read; recorded and flagged."
    if told.conformance is Conformance.LEGAL:
        return f"{move} is legal in {told.model}."
    if told.conformance is Conformance.LEGAL_BY_CLOSURE:
        return f"{move} is legal in {told.model} by way of {', '.join(told.skipped)}, which passed unseen."
    return f"{move} is not a transition of {told.model}; recorded as it was shown, and flagged."


def _reading(item: CauseInput) -> str:
    quality = str(item.quality) + (f" ({item.substatus})" if item.substatus else "")
    source = f", source time {_instant(item.source_at)}" if item.source_at else ""
    received = f", received {_instant(item.received_at)}" if item.received_at else ""
    return f"{item.tag} = {item.value!r}, {quality}{source}{received}"


def _refusal(refusal: Refusal) -> str:
    return f"{refusal.attempted} at {_instant(refusal.at)}: {refusal.reason}. {refusal.text}."


def _instant(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
