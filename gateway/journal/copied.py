"""Reading a journal's folder from outside: without a lock or a change, while its gateway runs or not.

Finished segments no longer change. The newest is copied byte by byte, file first and write-ahead log second:
what the log holds when the copy begins it still holds when it ends, unless SQLite has begun the log anew
meanwhile, and then the copy is made again. So no second connection ever touches the journal.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import GatewayError, JournalDamaged, JournalForeign
from gateway.journal.segment import SegmentId, check_header

_COPIES_MAX = 20
_WAL_HEADER_BYTES = 32


class TooBusy(GatewayError):
    """The journal changes faster than it can be copied."""


def copy_of_newest(directory: Path, scratch: Path) -> tuple[Sequence[SegmentId], Path] | None:
    """All segments in order, and a copy of the newest in a folder of ours; None where there is no journal.

    Raises:
        JournalForeign, JournalDamaged: the newest is not one that this version reads.
        TooBusy: no copy succeeded.
    """
    for _ in range(_COPIES_MAX):
        ids = segments_in(directory)
        if not ids:
            return None
        path, copy = directory / ids[-1].name, scratch / ids[-1].name
        wal, wal_copy = _wal(path), _wal(copy)
        try:
            begun = _head(wal)
            shutil.copyfile(path, copy)
            if begun:
                shutil.copyfile(wal, wal_copy)
            same = _head(wal) == begun and segments_in(directory)[-1:] == ids[-1:]
        except FileNotFoundError:  # a segment was finished or freed meanwhile
            continue
        if same:
            _check_header_of(copy, path)
            return ids, copy
        wal_copy.unlink(missing_ok=True)
    raise TooBusy(f"the journal in {directory} changes too fast to be read", hint="try again")


def _check_header_of(copy: Path, path: Path) -> None:
    """Judge a copied segment by its first bytes, naming the original.

    Raises:
        JournalForeign, JournalDamaged: it is not one that this version reads.
    """
    try:
        check_header(copy)
    except JournalForeign as error:
        raise JournalForeign(error.reason.replace(str(copy), str(path)), hint=error.hint) from error
    except sqlite3.DatabaseError as error:
        raise JournalDamaged(
            f"{path} is damaged: {error}", hint="restore the folder from a backup"
        ) from error


def segments_in(directory: Path) -> Sequence[SegmentId]:
    """The segments a folder holds, oldest first."""
    if not directory.is_dir():
        return []
    found = (id_ for path in directory.iterdir() if (id_ := SegmentId.parse(path.name)))
    return sorted(found, key=lambda id_: id_.number)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _head(wal: Path) -> bytes:
    """The first bytes of a write-ahead log, which change whenever it begins anew; empty without one."""
    try:
        with wal.open("rb") as file:
            return file.read(_WAL_HEADER_BYTES)
    except FileNotFoundError:
        return b""
