"""Opening a journal: judge it before touching it, let SQLite recover, trust nothing unread.

Only the newest segment is read at start, however many there are: finished ones are checked when they are
read. Synchronous, in the journal's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from connectors.base import Clock
from gateway.config.schema import JournalSettings
from gateway.errors import JournalDamaged, JournalFailed, JournalForeign, StartFailed
from gateway.journal import files, segment
from gateway.journal.codec import Unreadable
from gateway.journal.row import check_row, refuse_what_was_removed
from gateway.journal.segment import Carried, Origin, Segment, SegmentId
from gateway.journal.store import RESTART, Store
from gateway.journal.values import JournalPosition

#: What SQLite says of the disk rather than of what stands on it (primary result codes).
_DISK_CODES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


def disk_is_to_blame(error: sqlite3.Error) -> bool:
    """Whether the disk refuses, which says nothing about what stands on it."""
    code = getattr(error, "sqlite_errorcode", None)
    # A file that is too short is damage, although SQLite files it under input and output.
    return code is not None and code != sqlite3.SQLITE_IOERR_SHORT_READ and code & 0xFF in _DISK_CODES


def open_store(directory: Path, *, gateway: str, settings: JournalSettings, clock: Clock) -> Store:
    """Open the journal in a directory that is locked for us, or begin one.

    Raises:
        StartFailed: the disk is full or refuses; what it holds is not judged.
        JournalForeign: it belongs to another gateway or a newer version; nothing was touched.
        JournalDamaged: its newest segment cannot be trusted.
    """
    ids = sorted((i for p in directory.iterdir() if (i := SegmentId.parse(p.name))), key=lambda i: i.number)
    refuse_what_was_removed(directory, ids)
    files.give_up_ballast(directory)
    for draft in directory.glob("journal-*.new*"):
        draft.unlink()
    if not ids:
        ids = [SegmentId(1, 1, 1)]
        origin = Origin(gateway, str(uuid4()), clock.now())
        try:
            segment.create(directory, ids[0], origin, Carried())
        except (sqlite3.Error, OSError) as error:
            raise JournalFailed(f"no journal can be begun in {directory}: {error}", hint=RESTART) from error
    path = directory / ids[-1].name
    try:
        segment.check_header(path)
        origin = _origin_untouched(path)
        if origin.gateway != gateway:
            raise JournalForeign(
                f'the journal in {directory} belongs to gateway "{origin.gateway}", this one is "{gateway}"',
                hint="give this gateway a data_dir of its own, or its old id back",
            )
        _settle_finished(directory, ids)
        missing = check_row(directory, ids, origin)
        newest = Segment.open_newest(path)
        carried, position = _survey(newest, ids, origin)
    except (sqlite3.Error, Unreadable) as error:
        if isinstance(error, sqlite3.Error) and disk_is_to_blame(error):
            raise StartFailed(
                f"the journal in {directory} cannot be opened: {error}",
                hint="is the disk full or failing? the journal may be sound: make room and start again",
            ) from error
        raise JournalDamaged(
            f"the newest part of the journal, {path}, is damaged: {error}",
            hint=f"restore {directory} from a backup, or move the whole folder away and keep it: the gateway "
            "then begins a new journal, and what had not reached the database stays in the folder you moved",
        ) from error
    store = Store(
        directory,
        origin=origin,
        ids=ids,
        newest=newest,
        carried=carried,
        position=position,
        settings=settings,
        clock=clock,
    )
    for id_, damage in missing:
        store.note(id_, damage.reason, seq=damage.seq, batch=damage.batch)
    return store


def _origin_untouched(path: Path) -> Origin:
    opened = Segment.open_finished(path)
    try:
        return opened.origin()
    finally:
        opened.close()


def _settle_finished(directory: Path, ids: Sequence[SegmentId]) -> None:
    """Fold in what a finished segment should not have beside it (files put back by hand)."""
    for id_ in ids[:-1]:
        path = directory / id_.name
        if files.size_bytes(path.with_name(path.name + "-wal")):
            Segment.open_newest(path).finish()


def _survey(newest: Segment, ids: Sequence[SegmentId], origin: Origin) -> tuple[Carried, JournalPosition]:
    """Read the whole newest segment once, so that what is built on it can be trusted."""
    id_ = ids[-1]
    if problems := newest.problems(id_, None, None):
        raise sqlite3.DatabaseError("; ".join(reason for _, _, reason in problems[:3]))
    last_seq, _, last_batch, _ = newest.bounds()
    position = JournalPosition(
        stream=origin.stream,
        first_seq=ids[0].first_seq,
        last_seq=id_.first_seq - 1 if last_seq is None else last_seq,
        first_batch=ids[0].first_batch,
        last_batch=id_.first_batch - 1 if last_batch is None else last_batch,
    )
    return newest.carried(), position
