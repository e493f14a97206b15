"""The page on conformance says what the checks are."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.sparkplug.catalogue import IDS, rules, table

PAGE = Path(__file__).parents[3] / "docs" / "sparkplug-conformance.md"


def test_the_table_of_the_page_is_that_of_the_list() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert text.endswith(table()), "make conformance ARGS=--page tells the table at its end"
    assert f"{IDS} of them concern an edge node" in text


def test_the_page_tells_how_many_rules_do_not_apply() -> None:
    idle = sum(bool(rule.does_not_apply) for rule in rules())
    text = PAGE.read_text(encoding="utf-8")

    assert f"{IDS - idle} are proved, {idle} do not apply" in text
