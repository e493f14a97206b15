"""The picture of two timelines: true to the time in it, with and without colours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.commands.lanes import picture
from statemodel.timeline import Span

_BEGIN = datetime(2026, 11, 21, 22, tzinfo=UTC)
_COLOURS = {"Idle": "amber", "Execute": "green", "Unknown": "grey"}


def _spans(*parts: tuple[str, float]) -> list[Span]:
    spans, at = [], _BEGIN
    for state, seconds in parts:
        end = at + timedelta(seconds=seconds)
        spans.append(Span(state, None, at, end))
        at = end
    return spans


def test_lanes_show_states_by_letter_and_mark_what_differs() -> None:
    before = _spans(("Unknown", 2), ("Idle", 4), ("Execute", 4))
    after = _spans(("Unknown", 2), ("Idle", 6), ("Execute", 2))
    lines = [line.plain for line in picture(before, after, _COLOURS, width=18)]
    assert lines[0].startswith("UTC     22:00:00")
    assert lines[1:] == [
        "before  ??IIIIEEEE",
        "after   ??IIIIIIEE",
        "              ^^",
        "        ? Unknown  I Idle  E Execute  ",
    ]


def test_lanes_that_agree_have_no_marks() -> None:
    spans = _spans(("Idle", 1))
    assert [line.plain for line in picture(spans, spans, {}, width=10)][1:] == [
        "before  II",
        "after   II",
        "        I Idle  ",
    ]


def test_colours_are_those_of_the_states() -> None:
    spans = _spans(("Idle", 1), ("Execute", 1))
    lane = picture(spans, spans, _COLOURS, width=10)[1]
    assert [str(span.style) for span in lane.spans] == ["black on yellow", "black on green"]


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=3), st.floats(0.001, 1e6)), min_size=1, max_size=90),
    st.integers(1, 200),
)
def test_whatever_the_timeline_every_cell_is_filled(parts: list[tuple[str, float]], width: int) -> None:
    spans = _spans(*parts)
    lines = picture(spans, spans, {}, width=width)
    cells = max(1, width - 8)
    assert len(lines[1].plain) == 8 + cells
    assert lines[1].plain[8:] == lines[2].plain[8:]
