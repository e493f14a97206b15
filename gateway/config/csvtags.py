"""Tag lists kept in CSV files, as they come out of a spreadsheet: one tag a row, columns are its settings.

Comma, semicolon or tab; a byte-order mark and empty cells are fine. Which columns there may be is for the
protocol's settings to say; this turns rows into plain dicts and remembers their lines.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec

ROWS_MAX = 1_000_000


class TagRows(msgspec.Struct, frozen=True):
    """The rows of a file; `lines[i]` is the line of `rows[i]`."""

    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]


class TagFileRefused(Exception):
    """The file as a whole cannot be used; `line` is None when no line is to blame."""

    def __init__(self, line: int | None, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.hint = hint


def read_tag_rows(path: Path, address_key: str) -> TagRows:
    """Read a tag list.

    `address` and `node` both name the column of the protocol's address, so a list can be written either way.

    Raises:
        TagFileRefused: there is no such file, or it is no table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        hint = "the path is relative to the configuration file"
        raise TagFileRefused(None, f"cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise TagFileRefused(None, "is not UTF-8 text", 'save it as "CSV UTF-8"') from error
    if "\0" in text:
        raise TagFileRefused(None, "is not a text file", 'save it as "CSV UTF-8"')
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if not header:
                header = [_column(cell, address_key) for cell in cells]
                if "name" not in header:
                    hint = f"columns: name,{address_key},..."
                    raise TagFileRefused(reader.line_num, 'has no column "name"', hint)
                twice = {name for name in header if name and header.count(name) > 1}
                if twice:
                    raise TagFileRefused(reader.line_num, f'has the column "{min(twice)}" twice', "keep one")
                continue
            if len(cells) > len(header) and any(cells[len(header) :]):
                hint = "a text with a comma in it needs quotes"
                raise TagFileRefused(
                    reader.line_num, f"has {len(cells)} cells but the table has {len(header)} columns", hint
                )
            rows.append({key: cell for key, cell in zip(header, cells, strict=False) if key and cell})
            lines.append(reader.line_num)
            if len(rows) > ROWS_MAX:
                raise TagFileRefused(reader.line_num, f"has more than {ROWS_MAX} rows", "split the list")
    except csv.Error as error:
        raise TagFileRefused(reader.line_num, f"is not valid CSV: {error}", "") from error
    if not header:
        raise TagFileRefused(None, "is empty", f"the first row names the columns: name,{address_key},...")
    return TagRows(tuple(rows), tuple(lines))


def _column(cell: str, address_key: str) -> str:
    name = cell.lower()
    return address_key if name in ("address", "node") else name
