"""The parts that decide what is said touch no clock, socket or loop: all time and news is handed in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway.sparkplug

ROOM = Path(str(gateway.sparkplug.__file__)).parent
PURE = ("names", "typing_tags", "pictures", "births", "messages", "session", "ration", "host", "commands")
FORBIDDEN = {
    "asyncio",
    "socket",
    "time",
    "random",
    "os",
    "threading",
    "structlog",
    "gateway.mqtt",
    "gateway.journal",
}


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_imports_nothing_that_is_not(name: str) -> None:
    found = set()
    for node in ast.walk(ast.parse((ROOM / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)

    assert found
    assert not {module for module in found for no in FORBIDDEN if module == no or module.startswith(f"{no}.")}
