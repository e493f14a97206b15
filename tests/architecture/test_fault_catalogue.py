"""Every fault of the catalogue has tests, and every test it names is there and runs."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
LISTS = ("connectors/faults.toml", "gateway/publish/faults.toml", "api/faults.toml")
CATALOGUE: list[dict[str, Any]] = [
    fault for name in LISTS for fault in tomllib.loads((TESTS / name).read_text())["fault"]
]


@cache
def functions_of(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing(name: str) -> str:
    """What a named test (`path::function`) lacks to be there."""
    path, _, function = name.partition("::")
    if not (TESTS / path).is_file():
        return f"there is no {path}"
    return "" if function in functions_of(TESTS / path) else f"{path} has no {function}"


def left_out(name: str) -> list[str]:
    """What keeps a named test from running."""
    path, _, function = name.partition("::")
    marks = [ast.unparse(one) for one in functions_of(TESTS / path)[function].decorator_list]
    return [mark for mark in marks if "skip" in mark or "xfail" in mark]


def test_the_catalogue_is_whole() -> None:
    numbers = sorted(fault["number"] for fault in CATALOGUE)
    assert numbers == [*range(23, 40), *range(49, 57), *range(63, 67), 67, *range(68, 72)]
    assert all(fault["tests"] and fault["what"] and fault["holds"] for fault in CATALOGUE)


@pytest.mark.parametrize("name", sorted({name for fault in CATALOGUE for name in fault["tests"]}))
def test_a_named_test_is_there_and_left_out_by_nothing(name: str) -> None:
    assert not missing(name)
    assert not left_out(name)
