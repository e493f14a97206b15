"""What the first bytes of a segment's file say: whether it is a journal's, and which version reads it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.errors import JournalForeign

#: Format of the files this version writes. Raise it when an older version could not read them.
#: 1: transitions, rejections, losses and gaps. 2: events of devices as well. 3: one row a commit, chained.
FORMAT = 3
APPLICATION_ID = 0x414E444A  # "ANDJ"
_HEADER = b"SQLite format 3\x00"


def format_of(path: Path) -> int:
    """Judge a file by its first bytes, without opening it as a database; the format it says it has.

    Raises:
        JournalForeign: a newer version of the gateway wrote it, or something else did.
        sqlite3.DatabaseError: it is not a database at all.
    """
    with path.open("rb") as file:
        head = file.read(72)
    if len(head) < 72 or not head.startswith(_HEADER):
        raise sqlite3.DatabaseError("the file does not begin as a journal segment does")
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    if application != APPLICATION_ID:
        raise JournalForeign(
            f"{path} was not written by this gateway: its application id is {application:#x}, "
            f"a journal's is {APPLICATION_ID:#x}",
            hint="give the gateway a data_dir of its own",
        )
    if version > FORMAT:
        raise JournalForeign(
            f"{path} has journal format {version}; this version of the gateway reads up to format {FORMAT}",
            hint="run the newer version of the gateway again, or give this one a data_dir of its own",
        )
    return version


def check_header(path: Path) -> None:
    """Raise what `format_of` raises."""
    format_of(path)


def read_schema(db: sqlite3.Connection) -> None:
    """Have SQLite read what tables there are, which it does once.

    Raises:
        sqlite3.Error: they are damaged; then what SQLite says of them may not even be text.
    """
    try:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("malformed database schema") from error
