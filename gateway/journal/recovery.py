"""Opening a journal: judge it before touching it, let SQLite recover, trust nothing unread.

A tail torn by a crash is cut and told. Damaged records whose numbers are certain end their segment, and a
new one goes on behind them. When not even the last number is certain, a new stream begins (`anew`), because
others have heard of numbers that would be used again. What belongs to somebody else is refused, untouched.
Only the newest segment is read at start, however many there are, and whether it follows the one before it:
finished ones are checked when they are read. Synchronous, in the journal's thread.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog

from connectors.base import Clock
from gateway.config.schema import JournalSettings
from gateway.errors import JournalFailed, JournalForeign, StartFailed
from gateway.journal import anew, files, head, segment, wal
from gateway.journal.codec import Unreadable
from gateway.journal.reading import NOT_FOLLOWING, Carried, Origin, Reader, SegmentId
from gateway.journal.room import check_minimum
from gateway.journal.row import Uncertain, check_row, refuse_what_was_removed
from gateway.journal.salvage import salvage
from gateway.journal.segment import Segment
from gateway.journal.store import RESTART, Store
from gateway.journal.untouched import origin_untouched
from gateway.journal.values import Damage, JournalPosition

log = structlog.get_logger(__name__)

#: What SQLite says of the disk rather than of what stands on it (primary result codes).
_DISK_CODES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


class _Ready(msgspec.Struct, frozen=True):
    """What a store is made of, and what has to be told of it."""

    origin: Origin
    ids: Sequence[SegmentId]
    newest: Segment
    carried: Carried
    position: JournalPosition
    damage: Sequence[tuple[SegmentId, Damage]]
    cut_bytes: int


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
        JournalDamaged: files do not belong together: a person put one there, and decides.
    """
    begun: anew.Anew | None = None
    try:
        files.give_up_ballast(directory)
        _tidy(directory)
        try:
            ready = _judge(directory, gateway, clock)
        except Uncertain as error:
            begun = _begin_anew(directory, gateway, clock, str(error))
            ready = _judge(directory, gateway, clock)
        head.note(directory, ready.ids[-1].number, ready.position)
    except (sqlite3.Error, OSError) as error:
        raise StartFailed(
            f"the journal in {directory} cannot be opened: {error}",
            hint="is the disk full or failing? the journal may be sound: make room and start again",
        ) from error
    store = Store(
        directory,
        origin=ready.origin,
        ids=ready.ids,
        newest=ready.newest,
        carried=ready.carried,
        position=ready.position,
        settings=settings,
        clock=clock,
    )
    store.stats = msgspec.structs.replace(store.stats, cut_bytes=ready.cut_bytes)
    for id_, damage in ready.damage:
        lost = damage.reason != NOT_FOLLOWING  # what was exchanged is there, though not as it was
        store.note(id_, damage.reason, seq=damage.seq, batch=damage.batch, lost=lost)
    if begun is not None:
        store.note(
            ready.ids[-1],
            f"a new stream was begun, the old one is in {begun.set_aside}: {begun.reason}",
            lost=False,
        )
    return store


def _tidy(directory: Path) -> None:
    """End or take back what a crash cut off."""
    anew.end_what_was_begun(directory)
    for draft in (*directory.glob("journal-*.new*"), *directory.glob("*.draft")):
        draft.unlink()
    for scratch in directory.glob(".salvage-*"):
        shutil.rmtree(scratch)


def _begin_anew(directory: Path, gateway: str, clock: Clock, reason: str) -> anew.Anew:
    """Raises JournalForeign when what can be read says that the folder is not ours."""
    owner = salvage(directory).gateway
    if owner not in ("", gateway):
        raise _foreign(directory, owner, gateway)
    return anew.begin_anew(directory, gateway=gateway, clock=clock, reason=reason)


def _judge(directory: Path, gateway: str, clock: Clock) -> _Ready:
    """Judge what lies in the folder and make it ready to be written to.

    Raises:
        Uncertain: numbering cannot go on from it; nothing was touched.
        sqlite3.Error, OSError: the disk is to blame.
        JournalForeign, JournalDamaged: see `open_store`.
    """
    ids = sorted((i for p in directory.iterdir() if (i := SegmentId.parse(p.name))), key=lambda i: i.number)
    refuse_what_was_removed(directory, ids)
    noted = head.read(directory)
    if not ids and noted is None:
        check_minimum(directory, files.ballast_bytes(directory))
        ids = [_begin(directory, gateway, clock)]
    _refuse_to_go_back(directory, ids, noted)
    path = directory / ids[-1].name
    try:
        segment.check_header(path)
        origin = origin_untouched(path)
    except (sqlite3.Error, Unreadable) as error:
        raise _uncertain(path, error) from error
    if origin.gateway != gateway:
        raise _foreign(directory, origin.gateway, gateway)
    log_ends = _judge_log(path)
    _settle_finished(directory, ids)
    missing = check_row(directory, ids, origin)
    cut_bytes = _settle_log(path, log_ends)
    newest = _opened(path)
    try:
        position = _position(newest, ids, origin, noted)
        damage = _damage_within(newest, path, ids[-1], position)
        carried = _carried(newest)
    except (sqlite3.Error, Uncertain) as error:
        newest.close()
        raise _uncertain(path, error) from error
    if damage or isinstance(carried, Unreadable):
        if isinstance(carried, Unreadable):
            damage = [*damage, Damage(str(path), f"what it was begun with or a mark: {carried}")]
        return _go_on_behind(directory, ids, newest, origin, position, (missing, damage, cut_bytes), clock)
    if not isinstance(newest, Segment):  # an older version's: finished as it is
        newest.finish()
        return _behind(directory, ids, None, origin, position, carried, (missing, cut_bytes), clock)
    newest.resume()
    return _Ready(origin, ids, newest, carried, position, missing, cut_bytes)


def _begin(directory: Path, gateway: str, clock: Clock) -> SegmentId:
    """Begin the first journal of a folder."""
    first = SegmentId(1, 1, 1)
    try:
        segment.create(directory, first, Origin(gateway, str(uuid4()), clock.now()), Carried())
    except (sqlite3.Error, OSError) as error:
        raise JournalFailed(f"no journal can be begun in {directory}: {error}", hint=RESTART) from error
    return first


def _refuse_to_go_back(directory: Path, ids: Sequence[SegmentId], noted: head.Head | None) -> None:
    """The newest segment that was noted must be there: numbers it held were given already."""
    newest = ids[-1].number if ids else 0
    if noted is not None and newest < noted.number:
        raise Uncertain(
            f"the newest segment of the journal in {directory}, number {noted.number}, was removed; "
            f"events up to {noted.last_seq} or beyond had been recorded"
        )


def _judge_log(path: Path) -> wal.Verdict | None:
    """Where SQLite is going to end the log, once it is certain that it may; None where there is no log."""
    log_of_it = path.with_name(path.name + "-wal")
    if not files.size_bytes(log_of_it):
        return None
    verdict = wal.judge(log_of_it.read_bytes())
    if verdict.broken:
        raise Uncertain(f"the newest part of the journal, {path}, is damaged: {verdict.broken}")
    if verdict.torn_bytes:
        log.warning(
            "the end of the journal was torn when the gateway ended; what had been acknowledged is there",
            path=str(log_of_it),
            cut_bytes=verdict.torn_bytes,
        )
    return verdict


def _settle_log(path: Path, verdict: wal.Verdict | None) -> int:
    """Make durable what is about to be read from the log, and cut off the torn end; how many bytes it had.

    What a killed process had written and not synced is read all the same, and the note of what is newest must
    not outlive it. SQLite leaves a torn end where it is; behind the commits written over it later it would
    look like more that had been acknowledged.
    """
    if verdict is None:
        return 0
    keep = verdict.valid_bytes if verdict.torn_bytes else None
    files.settle(path.with_name(path.name + "-wal"), bytes_max=keep)
    return verdict.torn_bytes


def _opened(path: Path) -> Reader:
    try:
        return Segment.open_newest(path)
    except sqlite3.Error as error:
        raise _uncertain(path, error) from error


def _carried(newest: Reader) -> Carried | Unreadable:
    try:
        return newest.carried()
    except Unreadable as error:
        return error


def _position(
    newest: Reader, ids: Sequence[SegmentId], origin: Origin, noted: head.Head | None
) -> JournalPosition:
    """Up to where numbers were given: the last records, and nothing noted beyond them."""
    id_ = ids[-1]
    known = (
        noted if noted is not None and (noted.stream, noted.number) == (origin.stream, id_.number) else None
    )
    try:
        seq, batch = newest.last_numbers()
    except Unreadable as error:
        if known is None or not known.closed:
            raise Uncertain(f"its last record cannot be read: {error}") from error
        seq, batch = known.last_seq, known.last_batch
    last_seq = id_.first_seq - 1 if seq is None else seq
    last_batch = id_.first_batch - 1 if batch is None else batch
    if known is not None and (last_seq < known.last_seq or last_batch < known.last_batch):
        raise Uncertain(
            f"it ends with event {last_seq} and batch {last_batch}, but {known.last_seq} and "
            f"{known.last_batch} had been recorded: it was cut, or an older copy was put back"
        )
    return JournalPosition(origin.stream, ids[0].first_seq, last_seq, ids[0].first_batch, last_batch)


def _damage_within(newest: Reader, path: Path, id_: SegmentId, position: JournalPosition) -> Sequence[Damage]:
    """Read the whole newest segment once; the records in it that are not what was written."""
    problems = newest.problems(id_, position.last_seq, position.last_batch)
    if structure := [reason for seq, batch, reason in problems if not seq and not batch]:
        raise Uncertain("; ".join(structure[:3]))
    return [Damage(str(path), reason, seq, batch) for seq, batch, reason in problems]


def _go_on_behind(
    directory: Path,
    ids: Sequence[SegmentId],
    newest: Reader,
    origin: Origin,
    position: JournalPosition,
    told: tuple[Sequence[tuple[SegmentId, Damage]], Sequence[Damage], int],
    clock: Clock,
) -> _Ready:
    """End a segment whose numbers are certain though not all it holds, and begin the next one behind it."""
    missing, damage, cut_bytes = told
    chain = newest.head()
    newest.finish()
    carried = salvage(directory).carried
    told_of = [*missing, *((ids[-1], one) for one in damage)]
    return _behind(directory, ids, chain, origin, position, carried, (told_of, cut_bytes), clock)


def _behind(
    directory: Path,
    ids: Sequence[SegmentId],
    chain: bytes | None,
    origin: Origin,
    position: JournalPosition,
    carried: Carried,
    told: tuple[Sequence[tuple[SegmentId, Damage]], int],
    clock: Clock,
) -> _Ready:
    """Begin a segment behind one that has been finished."""
    id_ = SegmentId(ids[-1].number + 1, position.last_seq + 1, position.last_batch + 1)
    origin = Origin(origin.gateway, origin.stream, clock.now())
    newest = Segment.begin(directory, id_, origin, carried, chain)
    return _Ready(origin, [*ids, id_], newest, carried, position, *told)


def _foreign(directory: Path, owner: str, gateway: str) -> JournalForeign:
    return JournalForeign(
        f'the journal in {directory} belongs to gateway "{owner}", this one is "{gateway}"',
        hint="give this gateway a data_dir of its own, or its old id back",
    )


def _uncertain(path: Path, error: Exception) -> Exception:
    """What to raise of a newest segment that fails: the disk's failure as it is, else that it is damaged."""
    if isinstance(error, sqlite3.Error) and disk_is_to_blame(error):
        return error
    return Uncertain(f"the newest part of the journal, {path}, is damaged: {error}")


def _settle_finished(directory: Path, ids: Sequence[SegmentId]) -> None:
    """Fold in what a finished segment should not have beside it (files put back by hand)."""
    for id_ in ids[:-1]:
        path = directory / id_.name
        if files.size_bytes(path.with_name(path.name + "-wal")):
            Segment.open_newest(path).finish()
