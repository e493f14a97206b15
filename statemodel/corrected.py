"""What was true when, and what was known of it when: corrections laid over what was told.

Nothing recorded is ever changed. A correction says what an equipment really was in between two instants. It
is recorded like any event, and whoever asks for the past gets it laid over the recorded states. A later
one wins over an earlier one, one that is withdrawn does not count, and whoever asks what was known at an
earlier instant is told without those recorded after it. Pure; knows no store.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from statemodel.model import Model
from statemodel.problems import did_you_mean
from statemodel.records import Recorded
from statemodel.types import CorrectedState, Correction, Transition

#: Author of the corrections that the gateway makes itself.
LATE_SAMPLES = "late samples"
#: Most intervals of one correction, and most characters of its reason and of the names in it.
INTERVALS_MAX, REASON_CHARS_MAX, NAME_CHARS_MAX = 1_000, 1_000, 128


class CorrectionRefused(ValueError):
    """A correction that cannot be made. `place` is the field at fault, `hint` what helps."""

    def __init__(self, place: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason, self.hint = place, reason, hint


class Stretch(msgspec.Struct, frozen=True):
    """A stretch of time in one state, `begin <= t < end`, and the event that tells it.

    That is a transition, by its `stream` and `seq`, or a correction when it is `corrected`.
    """

    state: str
    code: int | None
    category: str | None
    begin: datetime
    end: datetime
    stream: str
    seq: int
    corrected: bool = False


class Wanted(msgspec.Struct, frozen=True):
    """A state somebody says an equipment was in, from `begin` to before `end`."""

    state: str
    begin: datetime
    end: datetime


def told(
    transitions: Sequence[Recorded], from_: datetime, to: datetime, *, whole: bool = True
) -> list[Stretch]:
    """What transitions tell of a range: they are in order, and only the first may lie before `from_`.

    The last one lasts until `to` when `whole`; else more follow, and how long it lasts is not known here.
    A state that lasted no time at all is told, so that as many stretches come back as were found.
    """
    ends = [recorded.at for recorded in transitions[1:]] + ([to] if whole else [])
    found: list[Stretch] = []
    for recorded, end in zip(transitions, ends, strict=False):
        event = recorded.event
        assert isinstance(event, Transition), "only transitions are asked for"
        begin = max(event.at, from_)
        if end > begin or end == event.at > from_:
            found.append(
                Stretch(event.to_state, event.code, event.category, begin, end, recorded.stream, recorded.seq)
            )
    return found


def in_force(corrections: Iterable[Recorded], known_at: datetime | None = None) -> list[Recorded]:
    """The corrections that count, oldest first, each once: those recorded up to an instant (None: all) and
    not withdrawn up to then. Withdrawals themselves are left out: they tell no state."""
    known = {
        recorded.id: recorded
        for recorded in corrections
        if isinstance(recorded.event, Correction) and (known_at is None or recorded.recorded_at <= known_at)
    }
    withdrawn = {_event(recorded).withdraws for recorded in known.values()}
    found = [r for r in known.values() if r.id not in withdrawn and _event(r).withdraws is None]
    return sorted(found, key=lambda r: (r.recorded_at, r.seq, r.stream))


def overlay(recorded: Sequence[Stretch], corrections: Sequence[Recorded]) -> list[Stretch]:
    """The stretches that were told, oldest first, with corrections laid over them; later ones win.

    `corrections` are those in force, oldest first. The answer covers exactly what `recorded` covers, cut at
    the bounds of the corrections and nowhere else.
    """
    over = painted(corrections)
    if not over:
        return list(recorded)
    ends = [stretch.end for stretch in over]
    laid: list[Stretch] = []
    for stretch in recorded:
        at, place = stretch.begin, bisect_right(ends, stretch.begin)
        if stretch.end == at:  # a state that lasted no time is told where nothing lies over it
            if place == len(over) or over[place].begin > at:
                laid.append(stretch)
            continue
        while at < stretch.end:
            above = over[place] if place < len(over) else None
            if above is None or above.begin >= stretch.end:
                lengthen(laid, _part(stretch, at, stretch.end))
                break
            if above.begin > at:
                lengthen(laid, _part(stretch, at, above.begin))
                at = above.begin
            end = min(above.end, stretch.end)
            lengthen(laid, _part(above, at, end))
            at = end
            place += 1
    return laid


def painted(corrections: Sequence[Recorded]) -> list[Stretch]:
    """What corrections in force say, oldest time first: disjoint, the later recorded on top."""
    over: list[Stretch] = []
    for recorded in corrections:
        for stretch in _stretches(recorded):
            # Those before `first` end at or before it begins, those from `last` on begin at or after its end.
            first = bisect_right(over, stretch.begin, key=lambda one: one.end)
            last = bisect_left(over, stretch.end, key=lambda one: one.begin)
            cut = over[first:last]
            kept = [stretch]
            if cut and cut[0].begin < stretch.begin:
                kept.insert(0, _part(cut[0], cut[0].begin, stretch.begin))
            if cut and cut[-1].end > stretch.end:
                kept.append(_part(cut[-1], stretch.end, cut[-1].end))
            over[first:last] = kept
    return over


def corrected_states(
    model: Model, at: datetime, until: datetime, wanted: Sequence[Wanted]
) -> tuple[CorrectedState, ...]:
    """What a correction says, with the codes and categories of the model.

    Raises:
        CorrectionRefused: a state is none of the model, or the intervals are not in order within the bounds.
    """
    if until <= at:
        raise CorrectionRefused("to", "it is not after from", "Exchange from and to, or move one of them.")
    if not wanted:
        raise CorrectionRefused("state", "there is none", "Give a state, or intervals.")
    if len(wanted) > INTERVALS_MAX:
        raise CorrectionRefused("intervals", f"there are more than {INTERVALS_MAX}", "Correct less at once.")
    states: list[CorrectedState] = []
    reached = at
    for place, one in enumerate(wanted):
        where = f"intervals[{place}]"
        known = model.by_name.get(one.state)
        if known is None:
            hint = did_you_mean(one.state, model.by_name) or f"GET /api/v1/models/{model.name} lists them."
            raise CorrectionRefused(
                f"{where}.state" if len(wanted) > 1 else "state",
                f'"{one.state[:NAME_CHARS_MAX]}" is no state of model {model.name}',
                hint,
            )
        if one.begin < reached:
            raise CorrectionRefused(
                f"{where}.from",
                "it lies before from" if not states else "it lies before the end of the one before",
                "Give intervals in order, without overlap, between from and to.",
            )
        if one.end <= one.begin:
            raise CorrectionRefused(f"{where}.to", "it is not after from", "Give each interval some length.")
        if one.end > until:
            raise CorrectionRefused(f"{where}.to", "it lies after to", "Give intervals between from and to.")
        states.append(CorrectedState(known.name, known.code, known.category, one.begin, one.end))
        reached = one.end
    return tuple(states)


def _event(recorded: Recorded) -> Correction:
    assert isinstance(recorded.event, Correction), "only corrections are asked for"
    return recorded.event


def _stretches(recorded: Recorded) -> Iterator[Stretch]:
    for one in _event(recorded).intervals:
        if one.to > one.from_:
            yield Stretch(
                one.state,
                one.code,
                one.category,
                one.from_,
                one.to,
                recorded.stream,
                recorded.seq,
                corrected=True,
            )


def _part(stretch: Stretch, begin: datetime, end: datetime) -> Stretch:
    return msgspec.structs.replace(stretch, begin=begin, end=end)


def lengthen(laid: list[Stretch], stretch: Stretch) -> None:
    """Append a stretch, or lengthen the last one when a correction goes on across a recorded transition."""
    last = laid[-1] if laid else None
    if (
        last is not None
        and last.corrected
        and stretch.corrected
        and last.end == stretch.begin
        and _part(last, last.begin, stretch.end) == _part(stretch, last.begin, stretch.end)
    ):
        laid[-1] = _part(last, last.begin, stretch.end)
    else:
        laid.append(stretch)
