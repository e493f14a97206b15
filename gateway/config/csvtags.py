"""Tag lists kept in CSV files, as they come out of a spreadsheet: one tag a row, columns are its settings.

Comma, semicolon or tab; a byte-order mark and empty cells are fine. What a column's values may be is for the
protocol's settings to say; this turns rows into plain dicts, remembers their lines, and notes every row and
column that is none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from connectors.settings import Bare
from gateway.config.problems import did_you_mean
from gateway.config.sources import DISK, Files

ROWS_MAX = 1_000_000


class BadRow(msgspec.Struct, frozen=True):
    """What is wrong with one row, or with a column of the first; `column` is empty when it is the whole."""

    line: int
    column: str
    reason: str
    hint: str = ""


class TagRows(msgspec.Struct, frozen=True):
    """The rows of a file; `lines[i]` is the line on which `rows[i]` begins. `bad` are those left out."""

    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]
    bad: tuple[BadRow, ...] = ()


class TagFileRefused(Exception):
    """The file as a whole cannot be used; `line` is None when no line is to blame."""

    def __init__(self, line: int | None, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.hint = hint


def read_tag_rows(path: Path, address_key: str, known: Collection[str] = (), files: Files = DISK) -> TagRows:
    """Read a tag list. `known` are the columns there may be; any when it is empty.

    `address` and `node` both name the column of the protocol's address, so a list can be written either way.

    Raises:
        TagFileRefused: there is no such file, or it is no table.
    """
    text = _text(path, files)
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first_line.count)
    header: list[str] = []
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    bad: list[BadRow] = []
    for line, cells in _rows(text, delimiter, bad):
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not header:
            header = _header(line, cells, address_key, known, bad)
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            reason = f"has {len(cells)} cells but the table has {len(header)} columns"
            bad.append(BadRow(line, "", reason, f'a text with a "{delimiter}" in it needs quotes'))
            continue
        rows.append({key: Bare(cell) for key, cell in zip(header, cells, strict=False) if key and cell})
        lines.append(line)
        if len(rows) > ROWS_MAX:
            raise TagFileRefused(line, f"has more than {ROWS_MAX:,} rows", "split the list")
    if not header and not bad:
        raise TagFileRefused(None, "is empty", f"the first row names the columns: name,{address_key},...")
    return TagRows(tuple(rows), tuple(lines), tuple(bad))


def _text(path: Path, files: Files) -> str:
    try:
        raw = files.read(path)
    except OSError as error:
        hint = "the path is relative to the configuration file"
        raise TagFileRefused(None, f"cannot be read: {error.strerror}", hint) from error
    save_as = 'save it as "CSV UTF-8"'
    if b"\0" in raw:
        raise TagFileRefused(None, "is not a text file in UTF-8", save_as)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TagFileRefused(line, "is not UTF-8 text", save_as) from error


def _rows(text: str, delimiter: str, bad: list[BadRow]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it begins; what is no row goes to `bad`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason, hint = _said(error)
            bad.append(BadRow(line, "", reason, hint))
            if reason == _UNCLOSED:
                return  # where the text goes on as a table cannot be known
            continue
        yield line, [cell.strip() for cell in cells]


_UNCLOSED = "opens a quote that is not closed"


def _said(error: csv.Error) -> tuple[str, str]:
    words = str(error)
    if "unexpected end" in words or "field larger" in words:
        return _UNCLOSED, "close it, or write two quotes for one that belongs to the text"
    if "expected after" in words:
        hint = "quotes go around a whole cell; one that belongs to the text is written twice"
        return "has text after the end of a quoted one", hint
    return f"is not valid CSV: {words}", ""


def _header(
    line: int, cells: Sequence[str], address_key: str, known: Collection[str], bad: list[BadRow]
) -> list[str]:
    """The columns; empty text for one that is not to be used, which is noted then."""
    header: list[str] = []
    for cell in cells:
        name = cell.lower()
        name = address_key if name in ("address", "node") else name
        if name and name in header:
            bad.append(BadRow(line, name, "is a column that is there twice", "keep one"))
            name = ""
        elif name and known and name not in known:
            bad.append(BadRow(line, name, "unknown key", did_you_mean(name, known)))
            name = ""
        header.append(name)
    if "name" not in header:
        raise TagFileRefused(line, 'has no column "name"', f"columns: name,{address_key},...")
    return header
