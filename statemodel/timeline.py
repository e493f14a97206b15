"""Time in states: which state held when, cut exactly, and how much of each there was.

Durations are added as whole microseconds, so however a range is cut, its parts add up to it exactly. It
knows no clock and no calendar (that is `calendars.py`); what the times are worth is `kpi.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from statemodel.types import UNKNOWN, Transition

_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in one state, `begin <= t < end`. `category` is None where nothing is known."""

    state: str
    category: str | None
    begin: datetime
    end: datetime

    @property
    def duration(self) -> timedelta:
        """How long it is."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Durations:
    """Time spent in each state and in each category, over `total`. Category None is `Unknown`."""

    total: timedelta
    by_state: Mapping[str, timedelta]
    by_category: Mapping[str | None, timedelta]

    def in_category(self, category: str | None) -> timedelta:
        """Time in one category; none when it did not occur."""
        return self.by_category.get(category, _NOTHING)


def spans_between(
    transitions: Iterable[Transition],
    begin: datetime,
    end: datetime,
    *,
    categories: Mapping[str, str | None] | None = None,
) -> tuple[Span, ...]:
    """The states of one equipment from `begin` to `end`, without holes, oldest first.

    `transitions` are in order of their sequence; those before `begin` tell what held at `begin`. Time of
    which they tell nothing is `Unknown`, except that the first of them says what was left: its category is
    taken from `categories` (state to category). Stretches of no length are left out.

    Raises:
        ValueError: the range is empty or runs backwards, or the transitions are not in order.
    """
    if end <= begin:
        raise ValueError("the range has no length")
    known = categories or {}
    spans: list[Span] = []
    state, category, since = UNKNOWN, None, begin
    first, sequence = True, 0
    for made in transitions:
        if made.sequence <= sequence:
            raise ValueError(f"transition {made.sequence} comes after {sequence}")
        sequence = made.sequence
        if first:
            state, category = made.from_state, known.get(made.from_state)
            left_at = made.at - timedelta(seconds=made.duration_s)
            if left_at > begin:  # nothing says what was before the state that was left
                _add(spans, UNKNOWN, None, begin, min(left_at, end))
                since = min(left_at, end)
            first = False
        if made.at >= end:
            break
        if made.at > since:
            _add(spans, state, category, since, made.at)
            since = made.at
        state, category = made.to_state, made.category
    _add(spans, state, category, since, end)
    return tuple(spans)


def _add(spans: list[Span], state: str, category: str | None, begin: datetime, end: datetime) -> None:
    """Append a span, or lengthen the last one when it is of the same state."""
    if end <= begin:
        return
    last = spans[-1] if spans else None
    if last is not None and (last.state, last.category, last.end) == (state, category, begin):
        spans[-1] = Span(state, category, last.begin, end)
    else:
        spans.append(Span(state, category, begin, end))


def filled(spans: Iterable[Span], begin: datetime, end: datetime) -> tuple[Span, ...]:
    """Spans in order as a timeline from `begin` to `end`: holes are `Unknown`, neighbours alike are one."""
    whole: list[Span] = []
    at = begin
    for span in spans:
        _add(whole, UNKNOWN, None, at, min(span.begin, end))
        at = max(at, span.begin)
        _add(whole, span.state, span.category, at, min(span.end, end))
        at = max(at, span.end)
    _add(whole, UNKNOWN, None, at, end)
    return tuple(whole)


def within(spans: Sequence[Span], begin: datetime, end: datetime) -> tuple[Span | None, tuple[Span, ...]]:
    """The part of a timeline from `begin` to `end`, cut exactly at both, and the span that ended at `begin`.

    That one is None when a span goes on across `begin`, or nothing is known before it.
    """
    place = max(0, bisect_right(spans, begin, key=lambda span: span.begin) - 1)
    part: list[Span] = []
    before = None
    if place and spans[place].begin == begin:
        before = spans[place - 1]
    while place < len(spans) and spans[place].begin < end:
        span = spans[place]
        if span.end > begin:
            part.append(Span(span.state, span.category, max(span.begin, begin), min(span.end, end)))
        place += 1
    return before, tuple(part)


def cut(spans: Iterable[Span], bounds: Sequence[datetime]) -> tuple[tuple[Span, ...], ...]:
    """The spans, oldest first, within each stretch between two neighbouring bounds, cut exactly at both.

    Raises:
        ValueError: the bounds do not rise.
    """
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise ValueError("bounds must rise")
    whole = list(spans)
    parts: list[tuple[Span, ...]] = []
    place = 0
    for begin, end in pairwise(bounds):
        while place < len(whole) and whole[place].end <= begin:
            place += 1
        part: list[Span] = []
        ahead = place
        while ahead < len(whole) and whole[ahead].begin < end:
            span = whole[ahead]
            part.append(Span(span.state, span.category, max(span.begin, begin), min(span.end, end)))
            ahead += 1
        parts.append(tuple(part))
    return tuple(parts)


def durations(spans: Iterable[Span]) -> Durations:
    """Add up spans. The parts sum to the total exactly, by state and by category."""
    by_state: dict[str, timedelta] = {}
    by_category: dict[str | None, timedelta] = {}
    total = _NOTHING
    for span in spans:
        length = span.duration
        total += length
        by_state[span.state] = by_state.get(span.state, _NOTHING) + length
        by_category[span.category] = by_category.get(span.category, _NOTHING) + length
    return Durations(total, by_state, by_category)


def rolled_up(spans: Iterable[Span], whole_of: Callable[[str], str]) -> tuple[Span, ...]:
    """The spans by the larger states their states are part of (see `Model.whole_of`); neighbours of one
    become one. Categories stay as they are: parts of different categories are told apart."""
    rolled: list[Span] = []
    for span in spans:
        _add(rolled, whole_of(span.state), span.category, span.begin, span.end)
    return tuple(rolled)


def entries(spans: Sequence[Span], category: str, *, from_category: str | None = "") -> int:
    """How often a category was entered within the spans; with `from_category`, only from that one.

    A category that holds when the spans begin was not entered in them. Moves between states of one category
    are one stay.
    """
    count = 0
    for before, after in pairwise(spans):
        if after.category == category != before.category and from_category in ("", before.category):
            count += 1
    return count
