"""Every fault of the catalogue has tests, and every test it names is there and runs."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
LISTS = ("connectors/faults.toml", "gateway/publish/faults.toml")
CATALOGUE: list[dict[str, Any]] = [
    fault for name in LISTS for fault in tomllib.loads((TESTS / name).read_text())["fault"]
]


@cache
def functions_of(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_catalogue_is_whole() -> None:
    numbers = sorted(fault["number"] for fault in CATALOGUE)
    assert numbers == [*range(23, 40), *range(49, 54), 67, *range(68, 72)]
    assert all(fault["tests"] and fault["what"] and fault["holds"] for fault in CATALOGUE)


@pytest.mark.parametrize("name", sorted({name for fault in CATALOGUE for name in fault["tests"]}))
def test_a_named_test_is_there_and_left_out_by_nothing(name: str) -> None:
    path, _, function = name.partition("::")
    node = functions_of(TESTS / path).get(function)
    assert node is not None, f"{path} has no {function}"
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    assert not any("skip" in mark or "xfail" in mark for mark in marks)
