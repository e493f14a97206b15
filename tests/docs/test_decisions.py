"""The records of decisions: numbered without a gap, short, of one form, and all in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

FOLDER = DOCS / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
LINES_MAX = 40


def test_numbers_have_no_gap() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_is_short_and_of_one_form(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("#")]

    assert len(lines) <= LINES_MAX
    assert re.fullmatch(rf"# {int(path.name[:4])}\. .+", headings[0])
    assert headings[1:] == ["## Context", "## Decision", "## Consequences"]


def test_the_index_has_every_record_under_its_title() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")

    for path in RECORDS:
        title = path.read_text(encoding="utf-8").splitlines()[0].partition(". ")[2]
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in index
