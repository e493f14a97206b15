"""What the tests of the documentation read: pages, their headings, tables and fenced blocks.

Plain text in, plain values out. It knows Markdown only as far as these pages use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<info>\S.*)?$")
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, the words after the fence, and its text."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Table:
    """A table under its nearest heading; rows have as many cells as the header."""

    heading: str
    line: int
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def pages() -> list[Path]:
    """Every page for users, the connectors' included."""
    return sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "connectors").glob("*/README.md")])


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    info, begun, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line.strip())
        if match is None:
            lines.append(line)
        elif info is None:
            info, begun, lines = match["info"] or "", number, []
        else:
            yield Block(page, begun, info, "\n".join(lines) + "\n")
            info = None
    assert info is None, f"{page.name}:{begun}: this block has no end"


def tables(page: Path) -> Iterator[Table]:
    """The tables of a page."""
    heading, fenced, begun, rows = "", False, 0, []
    for number, line in enumerate([*page.read_text(encoding="utf-8").splitlines(), ""], 1):
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            begun = begun or number
            rows.append(tuple(cell.strip() for cell in _CELL.split(line.strip().strip("|"))))
            continue
        if rows:
            header, _, *body = rows
            for row in body:
                assert len(row) == len(header), f"{page.name}:{begun}: a row has {len(row)} cells: {row}"
            yield Table(heading, begun, header, tuple(body))
            begun, rows = 0, []
        if line.startswith("#") and not fenced:
            heading = line.lstrip("#").strip()


def anchors(page: Path) -> set[str]:
    """The fragments that links may point at: headings as GitHub turns them into ids."""
    fenced, found = False, set()
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            words = line.lstrip("#").strip().lower().replace("`", "")
            found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found
