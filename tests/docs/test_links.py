"""Links between the pages lead somewhere, and the pages name no place that is only somebody's machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, pages

_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)\s]+)\)")


def outside_of_blocks(text: str) -> str:
    """The prose of a page."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(outside_of_blocks(page.read_text(encoding="utf-8"))):
        file, _, fragment = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{target}: there is no such file"
        assert ROOT in (there, *there.parents), f"{target}: leads out of the project"
        if fragment and there.suffix == ".md":
            assert fragment in anchors(there), f"{target}: there is no such heading"


def test_the_first_page_names_every_other_once() -> None:
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = [target for row in rows for target in _LINK.findall(row)]
    assert sorted(named) == sorted(set(named))
    assert {"docs/access.md", "docs/commands.md", "docs/audit.md", "docs/changing.md"} <= set(named)
