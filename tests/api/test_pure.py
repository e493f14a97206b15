"""The pure parts on their own: cursors, hints, encodings, pages of intervals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursor import Cursor, parse_cursor, write_cursor
from api.hints import nearest
from api.paging import page_of_intervals
from api.ports import Interval
from api.responses import accepts_gzip, matches
from tests.api.twins import START


@given(stream=st.uuids().map(str), seq=st.integers(0, 10**18 - 1))
def test_a_cursor_written_is_the_cursor_read(stream: str, seq: int) -> None:
    assert parse_cursor(write_cursor(stream, seq)) == Cursor(stream, seq)
    assert parse_cursor(str(seq)) == Cursor(None, seq)


@pytest.mark.parametrize("text", ["", ":", ":5", "-5", "5:", "a:b", " 5", "5 ", "+5", "٣", "a b:5", "1" * 19])
def test_what_is_no_cursor_is_not_read_as_one(text: str) -> None:
    assert parse_cursor(text) is None


def test_hints_are_cheap_even_with_many_names_and_hostile_input() -> None:
    names = [f"line-{number:05}-temperature" for number in range(20_000)]
    assert nearest("line-00007-temprature", names) == "line-00007-temperature"
    for wanted in ("x" * 22, "line-" * 5, "y" * 100_000):
        left = iter(names)
        nearest(wanted, left)
        assert len(list(left)) > 19_000, "few of them were compared"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (b"", False),
        (b"gzip", True),
        (b"GZIP;q=0.3, br", True),
        (b"gzip; q=0", False),
        (b"*;q=0.1", True),
        (b"gzip;q=0, *", False),
        (b"br, deflate", False),
        (b"xgzip", False),
    ],
)
def test_gzip_only_for_those_who_take_it(header: bytes, taken: bool) -> None:
    assert accepts_gzip(header) is taken


@pytest.mark.parametrize(
    ("header", "same"),
    [(b'"a"', True), (b'W/"a"', True), (b'"b", "a"', True), (b"*", True), (b'"ab"', False), (b"a", False)],
)
def test_etags_are_compared_whole(header: bytes, same: bool) -> None:
    assert matches(header, b'"a"') is same


@given(lengths=st.lists(st.integers(0, 2), max_size=12), limit=st.integers(1, 4), complete=st.booleans())
def test_a_page_of_intervals_is_cut_only_where_time_moves_on(
    lengths: list[int], limit: int, complete: bool
) -> None:
    items, at = [], START
    for number, length_s in enumerate(lengths):
        end = at + timedelta(seconds=length_s)
        items.append(Interval("s", None, None, at, end, float(length_s), number))
        at = end
    page = page_of_intervals(items, limit, complete)
    if page is None:
        assert not complete
        return
    got, next_at = page
    if next_at is None:
        assert complete
        assert list(got) == items[len(items) - len(got) :]
    else:
        assert next_at > items[0].from_
        assert got[-1].to == next_at
        assert len(got) >= limit
