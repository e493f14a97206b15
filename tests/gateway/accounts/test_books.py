"""The books by themselves: ranges, nothing counted twice, what is wrong is told, bytes and back."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts.books import Books, Line, Unreadable
from gateway.accounts.ranges import beyond, count, joined, without
from gateway.accounts.values import Losses
from tests.gateway.journal.builders import START, batch

PAIRS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=8)


def numbers(row: Any) -> set[int]:
    return {n for first, last in row for n in range(first, last + 1)}


@given(PAIRS, PAIRS, st.integers(0, 40))
def test_ranges_are_sets_of_numbers(a: list[Any], b: list[Any], floor: int) -> None:
    one, other = joined(a), joined(b)
    assert numbers(one) == numbers(a)
    assert all(x[1] + 1 < y[0] for x, y in pairwise(one))
    assert numbers(joined(one, other)) == numbers(a) | numbers(b)
    assert numbers(without(one, other)) == numbers(a) - numbers(b)
    assert numbers(beyond(one, floor)) == {n for n in numbers(a) if n > floor}
    assert count(one) == len(numbers(a))


def filled(batches: int, sink: str = "historian") -> Books:
    """Books of some batches with three samples each."""
    books = Books("stream", START, 0)
    books.begin_sink(sink)
    books.appended(1, [batch(n) for n in range(1, batches + 1)])
    return books


def given_to(books: Books, first: int, last: int, losses: Losses | None = None, skip: int = 0) -> None:
    got = [(n, batch(n)) for n in range(first, last + 1) if n != skip]
    books.handed("historian", ((first, last),), got, losses)


def test_what_is_told_twice_counts_once() -> None:
    books = filled(6)
    books.appended(4, [batch(n) for n in (4, 5, 6, 7)])
    assert books.recorded("plc/tag-0") == 7
    given_to(books, 1, 4)
    given_to(books, 1, 4)
    given_to(books, 3, 6)
    assert books.line("historian", "plc/tag-0") == Line(7, 6, 1, 0, 0, 0)
    assert books.total("historian") == Line(21, 18, 3, 0, 0, 0)


def test_what_is_written_ahead_of_a_hole_is_delivered_and_the_hole_is_buffered() -> None:
    books = filled(10)
    given_to(books, 1, 2)
    given_to(books, 9, 10)
    assert books.line("historian", "plc/tag-1") == Line(10, 4, 6, 0, 0, 0)
    assert books.held_from() == 2
    given_to(books, 3, 8)
    assert books.line("historian", "plc/tag-1") == Line(10, 10, 0, 0, 0, 0)
    assert books.covered("historian") == ((1, 10),)


def test_what_the_journal_could_not_give_is_missing_once_the_sink_stands_at_its_end() -> None:
    books = filled(4)
    given_to(books, 1, 3, Losses(missing_batches=1), skip=2)
    assert books.line("historian", "plc/tag-0") == Line(4, 2, 2, 0, 0, 0)
    given_to(books, 4, 4)
    assert books.line("historian", "plc/tag-0") == Line(4, 3, 0, 0, 1, 0)
    books.appended(5, [batch(5)])
    assert books.line("historian", "plc/tag-0") == Line(5, 3, 1, 0, 1, 0)


def test_a_batch_that_vanished_without_a_word_is_a_difference() -> None:
    books = filled(4)
    given_to(books, 1, 4, skip=2)
    assert books.line("historian", "plc/tag-0") == Line(4, 3, 0, 0, 0, 1)
    assert books.differences("historian") == {f"plc/tag-{i}": 1 for i in range(3)}


def test_more_than_there_was_is_a_difference_at_once() -> None:
    books = filled(1)
    books.handed("historian", ((1, 1),), [(1, batch(1, 5))], None)
    assert books.differences("historian") == {"plc/tag-3": -1, "plc/tag-4": -1}


def test_what_a_sink_takes_back_is_buffered_again() -> None:
    books = filled(4)
    given_to(books, 1, 4)
    books.taken_back("historian", ((3, 4),), [(3, batch(3)), (4, batch(4))], None)
    assert books.line("historian", "plc/tag-0") == Line(4, 2, 2, 0, 0, 0)


def test_a_sink_of_which_nothing_is_known_counts_from_the_present_on() -> None:
    books = filled(4)
    books.begin_sink("historian", anew=True)
    assert books.line("historian", "plc/tag-0") == Line(0, 0, 0, 0, 0, 0)
    books.appended(5, [batch(5)])
    given_to(books, 3, 5)
    assert books.line("historian", "plc/tag-0") == Line(1, 1, 0, 0, 0, 0)


def test_books_come_back_from_their_bytes() -> None:
    books = filled(9)
    given_to(books, 1, 3, Losses({"plc/tag-2": 2}, events=1, missing_batches=0))
    given_to(books, 7, 8)
    books.shed({"plc/tag-9": 4})
    again = Books.decode(books.encode())
    assert again.encode() == books.encode()
    assert again.lines("historian") == books.lines("historian")
    assert (again.at, again.since, again.stream, again.sums()) == (9, START, "stream", (27, 4))
    assert again.losses("historian").events == 1


def test_nobody_waits_while_bytes_are_made_of_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    books, waited = filled(9), []

    def watched(tags: Iterable[str]) -> list[str]:
        waited.append(books._lock.locked())
        return sorted(tags)

    monkeypatch.setattr("gateway.accounts.books.sorted", watched, raising=False)
    assert books.encode()
    assert waited == [False]


@pytest.mark.parametrize("body", [b"", b"nothing", filled(2).encode()[:-3]])
def test_other_bytes_are_no_books(body: bytes) -> None:
    with pytest.raises(Unreadable):
        Books.decode(body)
