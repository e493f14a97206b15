"""What may be asked for when browsing, and names that a configuration takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.browsing import NAME_LENGTH_MAX, Found, Names, Query, QueryError, tag_name

_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def found(*path: str, kind: str = "variable", description: str = "") -> Found:
    return Found(f"s={path[-1]}", path, kind, description=description)  # type: ignore[arg-type]


@given(st.lists(st.lists(st.text(max_size=80), min_size=1, max_size=5), max_size=30))
def test_names_are_valid_and_each_is_given_once(paths: list[list[str]]) -> None:
    names = Names()
    given_ = [names.of(found(*path)) for path in paths]
    assert len(set(given_)) == len(given_)
    for name in given_:
        assert _VALID.fullmatch(name)
        assert len(name) <= NAME_LENGTH_MAX


def test_the_shortest_name_that_is_free_is_taken() -> None:
    names = Names(taken=["Speed"])
    assert names.of(found("Hall", "Füller 1", "Speed")) == "Fuller-1.Speed"
    assert names.of(found("Hall", "Füller 1", "Speed")) == "Hall.Fuller-1.Speed"
    assert names.of(found("Hall", "Füller 1", "Speed")) == "Hall.Fuller-1.Speed-2"
    assert names.of(Found("x", ("a",), name="motor.speed")) == "motor.speed"
    assert tag_name("日本") == "tag"


def test_ten_thousand_of_one_name_are_numbered_soon() -> None:
    names = Names()
    assert len({names.of(found("v")) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(), {"Hall", "Speed", "Halt", "Reset"}),
        (Query(filter="*/speed"), {"Speed"}),
        (Query(filter="Hall"), {"Hall"}),
        (Query(filter="/^hall/[sh]/"), {"Speed", "Halt"}),
        (Query(search="turns"), {"Speed"}),
        (Query(search="HAL"), {"Hall", "Halt"}),
        (Query(variables_only=True), {"Speed", "Halt"}),
        (Query(variables_only=True, search="t"), {"Speed", "Halt"}),
    ],
)
def test_what_a_query_chooses(query: Query, wanted: set[str]) -> None:
    things = [
        found("Hall", kind="folder"),
        found("Hall", "Speed", description="turns a minute"),
        found("Hall", "Halt", kind="property"),
        found("Hall", "Reset", kind="method"),
    ]
    matches = query.matcher()
    assert {one.path[-1] for one in things if matches(one)} == wanted


def test_a_filter_that_is_no_pattern_says_so() -> None:
    with pytest.raises(QueryError, match="is not a regular expression"):
        Query(filter="/(/").matcher()
    assert Query(filter="[").matcher()(found("["))
