"""Where the blocks of a segment are; row by row where a page is damaged, so that sound pages still count."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from gateway.journal.codec import Numbers, Unreadable
from gateway.journal.sqlfile import read_statements

_SQL = read_statements(__package__, "sql/queries.sql")
#: What a block takes at least: its digest and its numbers.
_ROW_BYTES_MIN = 32
#: What the numbers of a block call the first record of a kind, and how many there are.
_FIRST = {"events": "seq", "samples": "batch"}
COUNT = {"events": "events", "samples": "batches"}


def start(db: sqlite3.Connection, kind: str, wanted: int) -> int:
    """Number of the block to begin with in order to read on from a record.

    Found by halving. Only a block whose checksum proves its numbers is believed, else all are read.
    """
    low, high, best = 1, db.execute(_SQL["end"]).fetchone()[0] or 0, 0
    while low <= high:
        middle = (low + high) // 2
        number, first = db.execute(_SQL[f"{_FIRST[kind]}_from"], (middle,)).fetchone() or (0, None)
        if type(first) is int and number and first <= wanted:
            best, low = number, number + 1
        else:
            high = middle - 1
    row = db.execute(_SQL["numbers_at"], (best,)).fetchone()
    if row is None:
        return 0
    try:
        numbers = Numbers.read(row)
    except Unreadable:
        return 0
    first, count = getattr(numbers, _FIRST[kind]), getattr(numbers, COUNT[kind])
    return best if first <= wanted <= first + count else 0


def damaged(error: sqlite3.Error) -> bool:
    """Whether SQLite says that what it read is not what was written, rather than that the disk refuses."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_CORRUPT or code == sqlite3.SQLITE_IOERR_SHORT_READ


def row_by_row(
    db: sqlite3.Connection, kind: str, first: int, size_bytes: int
) -> Iterator[tuple[Any, ...] | Unreadable]:
    """The blocks from a number on that hold records of a kind; in the place of one that is lost, why.

    Raises:
        sqlite3.Error: the disk refuses, or not even the number of the last block can be read.
    """
    # Commits are numbered from 1 without a hole, and no more of them than the file has room for.
    last = min(db.execute(_SQL["end"]).fetchone()[0] or 0, size_bytes // _ROW_BYTES_MIN)
    for number in range(max(first, 1), last + 1):
        try:
            row = db.execute(_SQL[f"{kind}_at"], (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            yield Unreadable(f"a page of the file is damaged: {error}")
            continue
        if row is not None:
            yield row
