"""The arithmetic of the cursor: what counts as told after a loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.journal.values import Cursor
from gateway.sparkplug.progress import Lately, Progress

T0 = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def test_the_cursor_stays_at_the_hole_until_history_has_been_told() -> None:
    progress = Progress(Cursor(10, 100))
    progress.born(Cursor(10, 100), Cursor(50, 700), T0)
    progress.told_present(Cursor(60, 800))
    assert progress.cursor == Cursor(10, 100)
    progress.told_past(Cursor(50, 300))
    assert progress.cursor == Cursor(60, 300)
    progress.told_past(Cursor(50, 700))
    assert progress.cursor == Cursor(60, 800)


def test_a_birth_with_nothing_behind_it_has_no_history() -> None:
    progress = Progress(Cursor())
    progress.born(Cursor(5, 5), Cursor(5, 5), T0)
    assert progress.backlog(T0) is None
    assert progress.cursor == Cursor(5, 5)


def test_a_cursor_beyond_the_births_does_not_hold_anything_up() -> None:
    progress = Progress(Cursor(9, 9))
    progress.born(Cursor(9, 9), Cursor(7, 8), T0)
    assert progress.backlog(T0) is None
    progress.told_present(Cursor(12, 12))
    assert progress.cursor == Cursor(12, 12)


def test_the_estimate_follows_what_was_told_since_the_birth() -> None:
    progress = Progress(Cursor())
    progress.born(Cursor(), Cursor(100, 300), T0)
    backlog = progress.backlog(T0 + timedelta(seconds=5))
    assert backlog is not None
    assert backlog.caught_up_at is None
    progress.told_past(Cursor(50, 50))
    backlog = progress.backlog(T0 + timedelta(seconds=10))
    assert backlog is not None
    assert (backlog.events, backlog.batches) == (50, 250)
    assert backlog.caught_up_at == T0 + timedelta(seconds=40)


def test_what_was_told_in_the_last_moments_is_as_if_it_had_not() -> None:
    lately = Lately(2.0, 0.0, Cursor(1, 1))
    for second in range(1, 11):
        lately.note(float(second), Cursor(second * 10, second))
    assert lately.before(8.0) == Cursor(80, 8)
    assert lately.before(8.5) == Cursor(80, 8)
    assert lately.only_before(9.0) == Cursor(90, 9)
    assert lately.before(100.0) == Cursor(90, 9)


def test_before_anything_was_noted_the_beginning_counts() -> None:
    lately = Lately(2.0, 50.0, Cursor(4, 4))
    assert lately.before(1.0) == Cursor(4, 4)


def test_what_is_remembered_is_bounded_by_the_window() -> None:
    lately = Lately(2.0, 0.0, Cursor())
    for n in range(10_000):
        lately.note(n / 4, Cursor(n, n))
    assert len(lately._noted) <= 10


def test_what_was_noted_before_a_loss_is_still_known_when_the_host_turns_out_to_have_been_away() -> None:
    lately = Lately(90.0, 0.0, Cursor(1, 1))
    for second in range(1, 61):
        lately.note(float(second), Cursor(second * 10, second))
    assert lately.only_before(58.0) == Cursor(580, 58)  # a loss
    for second in range(61, 121):
        lately.note(float(second), Cursor(580 + second, second))
    assert lately.only_before(30.0) == Cursor(300, 30)  # the host was away
    assert lately.before(200.0) == Cursor(300, 30)


def test_a_long_window_in_which_nothing_changes_is_one_note() -> None:
    lately = Lately(3600.0, 0.0, Cursor())
    for n in range(1, 10_000):
        lately.note(n / 4, Cursor(5, 5))
    assert len(lately._noted) == 2
    assert lately.before(0.1) == Cursor()
    assert lately.before(0.25) == Cursor(5, 5)
