"""Retained topics never go back, the cursor never passes a hole: whatever comes in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.publish.order import Acknowledged, Lately, Newest

T0 = datetime(2026, 11, 21, tzinfo=UTC)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.booleans())))
def test_what_is_said_on_a_topic_never_goes_back(offers: list[tuple[str, int, bool]]) -> None:
    newest = Newest()
    said: dict[str, list[int]] = {}
    for key, seq, again in offers:
        if newest.allow(key, seq, again=again):
            said.setdefault(key, []).append(seq)
    for key, seqs in said.items():
        assert seqs == sorted(seqs)
        assert seqs[-1] == max(seq for other, seq, _ in offers if other == key), "the newest was said"


@given(st.integers(0, 30))
def test_the_same_state_is_said_again_only_when_asked(seq: int) -> None:
    newest = Newest()
    assert newest.allow("a", seq)
    assert not newest.allow("a", seq)
    assert newest.allow("a", seq, again=True)


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_the_cursor_moves_over_what_is_acknowledged_without_a_hole(
    data: st.DataObject, steps: list[int]
) -> None:
    """Numbers may have holes (unreadable events); acknowledgements come in any order, some twice."""
    acknowledged = Acknowledged(100)
    seqs, seq = [], 100
    for step in steps:
        seq += step
        seqs.append(seq)
        acknowledged.sent(seq, T0 + timedelta(seconds=seq))
    done: set[int] = set()
    for seq in data.draw(st.permutations(seqs)) + seqs:
        before = acknowledged.seq
        moved = acknowledged.done(seq)
        done.add(seq)
        waiting = [other for other in seqs if other not in done]
        expected = max([other for other in seqs if not waiting or other < waiting[0]], default=100)
        assert acknowledged.seq == expected
        assert moved == (acknowledged.seq > before)
        assert acknowledged.oldest_at == (T0 + timedelta(seconds=waiting[0]) if waiting else None)
    assert acknowledged.seq == seqs[-1]
    assert len(acknowledged) == 0


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 9)), max_size=30), st.floats(0.0, 5.0))
def test_what_was_acknowledged_lately_is_said_again(steps: list[tuple[float, int]], later: float) -> None:
    lately = Lately(2.0, 10.0, 50)
    noted, at, seq = [(10.0, 50)], 10.0, 50
    for pause, events in steps:
        at, seq = at + pause, seq + events
        lately.note(at, seq)
        noted.append((at, seq))
    lost_at = at + later
    expected = max([seq for at, seq in noted if at <= lost_at - 2.0], default=50)
    assert lately.seq(lost_at) == expected
