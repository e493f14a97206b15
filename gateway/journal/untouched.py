"""Whose the newest segment is, read without touching it.

A process that is killed while the log is folded in leaves a file that is half old and half new, and SQLite
calls such a file damaged when it is read by itself, as it has to be here. Nothing of it is: the log still
holds every page. What the file will be is made in memory then. Does not know what is to be done about a
segment that cannot say.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.journal import wal
from gateway.journal.codec import Unreadable
from gateway.journal.header import FORMAT, format_of
from gateway.journal.legacy import LegacySegment
from gateway.journal.reading import Origin, Reader
from gateway.journal.segment import Segment

#: Where a database's header says how it is written to, and that it is without a log (file format, 1.3.3).
_VERSIONS = slice(18, 20)
_WITHOUT_LOG = b"\x01\x01"


def origin_untouched(path: Path) -> Origin:
    """What the newest segment says of itself.

    Raises:
        sqlite3.Error, Unreadable: it cannot say, even with its log.
    """
    try:
        with closing(Segment.open_finished(path)) as opened:
            return opened.origin()
    except (sqlite3.DatabaseError, Unreadable):
        log_of_it = path.with_name(path.name + "-wal")
        if not log_of_it.exists():
            raise
        whole = wal.folded(path.read_bytes(), log_of_it.read_bytes())
        with closing(_in_memory(path, whole)) as opened:
            return opened.origin()


def _in_memory(path: Path, whole: bytes) -> Reader:
    legacy = format_of(path) < FORMAT
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.deserialize(whole[: _VERSIONS.start] + _WITHOUT_LOG + whole[_VERSIONS.stop :])
    except sqlite3.Error:
        db.close()
        raise
    return LegacySegment(path, db) if legacy else Segment(path, db, finished=True)
