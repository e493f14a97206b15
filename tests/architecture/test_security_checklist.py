"""Every line of the security checklist has tests that are there and run, or says why it does not apply."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_fault_catalogue import left_out, missing

ITEMS: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("security.toml").read_text(encoding="utf-8")
)["item"]


def test_the_checklist_is_whole() -> None:
    assert [item["number"] for item in ITEMS] == [*range(1, 35)]
    assert all(item["what"] and (item["tests"] or item.get("why")) for item in ITEMS)


@pytest.mark.parametrize("name", sorted({name for item in ITEMS for name in item["tests"]}))
def test_a_named_test_is_there_and_left_out_by_nothing(name: str) -> None:
    assert not missing(name)
    assert not left_out(name)
