"""Lines of keys: every key of a generated document is found on the line it was written on."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.lines import KeyPath, line_of, locate

TEXT = '''# a comment with [brackets] and = signs
[gateway]
id = "a ] } , # b"
data_dir = 'c:\\'  # literal

[[connections]]
name = "one"
[[connections.groups]]
tags = [
  { name = "x", node = "s=[a]" },  # first
  # between
  { name = "y",
    node = """two
lines""" },
]
[[connections.groups]]
interval = "1s"
[[connections]]
"quoted name".inner = 5
'''


def test_places_of_a_real_document() -> None:
    lines = locate(TEXT)

    assert lines["gateway", "id"] == 3
    assert lines["connections", 0, "name"] == 7
    assert lines["connections", 0, "groups", 0, "tags", 0, "node"] == 10
    assert lines["connections", 0, "groups", 0, "tags", 1] == 12
    assert lines["connections", 0, "groups", 0, "tags", 1, "node"] == 13
    assert lines["connections", 0, "groups", 1, "interval"] == 17
    assert lines["connections", 1, "quoted name", "inner"] == 19
    assert line_of(lines, ("connections", 1, "missing")) == 18
    assert line_of(lines, ("nothing",)) is None


def test_a_table_begins_where_the_first_table_in_it_does_until_it_has_a_line_of_its_own() -> None:
    lines = locate("[a.b.c]\nx = 1\n[[d.e]]\n[a.f]\n[a]\ny = 2\n")

    assert (lines["a", "b"], lines["a", "b", "c"], lines["a", "f"], lines["a",]) == (1, 1, 4, 5)
    assert (lines["d",], lines["d", "e", 0]) == (3, 3)
    assert line_of(lines, ("a", "b", "missing")) == 1


scalars = st.one_of(
    st.integers(-5, 5).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text("ab]}[{=,#'. ", max_size=6).map(lambda text: f'"{text}"'),
    st.text('ab]}[{=,#". ', max_size=6).map(lambda text: f"'{text}'"),
    st.just('"""x\n"y"\nz"""'),
)
keys = st.text("abc", min_size=1, max_size=2)


@given(st.lists(st.tuples(keys, st.lists(scalars, max_size=3)), max_size=6, unique_by=lambda pair: pair[0]))
def test_every_parsed_path_has_a_line(pairs: list[tuple[str, list[str]]]) -> None:
    separator = ", # c\n  "
    text = "".join(f"# head\n{key} = [\n  {separator.join(values)}\n]\n" for key, values in pairs)
    data = tomllib.loads(text)

    lines = locate(text)

    for path in _paths(data, ()):
        assert path in lines
    for key, _ in pairs:
        assert text.splitlines()[lines[key,] - 1].startswith(f"{key} =")


def _paths(value: Any, path: KeyPath) -> list[KeyPath]:
    if isinstance(value, dict):
        return [inner for key, item in value.items() for inner in [(*path, key), *_paths(item, (*path, key))]]
    if isinstance(value, list):
        return [inner for i, item in enumerate(value) for inner in [(*path, i), *_paths(item, (*path, i))]]
    return []
