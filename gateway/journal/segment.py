"""One file of the journal: an SQLite database that can be read without any other.

The newest segment is written in WAL mode with synchronous=FULL through one connection. A finished one is
folded into a single file and read as immutable, so no file ever has two connections. Everything here is
synchronous and belongs to the journal's thread; this module does not know of other segments.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.errors import JournalForeign
from gateway.journal.codec import Unreadable, check, checksum, decode_batch, decode_event, from_us, to_us
from gateway.journal.files import size_bytes, sync_directory
from gateway.journal.sqlfile import read_sql, read_statements
from gateway.journal.values import Cursor, Row
from statemodel.records import Recorded
from statemodel.types import SampleBatch

#: Format of the files this version writes. Raise it when an older version could not read them.
#: 1: transitions, rejections, losses and gaps. 2: events of devices as well.
FORMAT = 2
_APPLICATION_ID = 0x414E444A  # "ANDJ"
_HEADER = b"SQLite format 3\x00"
_NAME = re.compile(r"^journal-(\d{8})-(\d+)-(\d+)\.db$")

NOTHING_KEPT: Mapping[str, bytes] = MappingProxyType({})

_SQL = read_statements(__package__, "sql/queries.sql")
_SCHEMA = read_sql(__package__, "sql/segment.sql")


class SegmentId(msgspec.Struct, frozen=True):
    """What the name of a segment file says: its place in the row and the numbers it begins with."""

    number: int
    first_seq: int
    first_batch: int

    @classmethod
    def parse(cls, name: str) -> SegmentId | None:
        """Read a file name; None when it is not a segment's."""
        match = _NAME.match(name)
        return cls(*map(int, match.groups())) if match else None

    @property
    def name(self) -> str:
        """The file's name."""
        return f"journal-{self.number:08d}-{self.first_seq}-{self.first_batch}.db"


class Origin(msgspec.Struct, frozen=True):
    """Whose segment it is and when it was begun."""

    gateway: str
    stream: str
    created_at: datetime


class Carried(msgspec.Struct, frozen=True):
    """What a new segment takes over from the one before."""

    last: Mapping[str, Recorded] = {}
    alive: Mapping[str, datetime] = {}
    cursors: Mapping[str, Cursor] = {}
    kept: Mapping[str, bytes] = {}


def check_header(path: Path) -> None:
    """Judge a file by its first bytes, without opening it as a database.

    Raises:
        JournalForeign: a newer version of the gateway wrote it, or something else did.
        sqlite3.DatabaseError: it is not a database at all.
    """
    with path.open("rb") as file:
        head = file.read(72)
    if len(head) < 72 or not head.startswith(_HEADER):
        raise sqlite3.DatabaseError("the file does not begin as a journal segment does")
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    if application != _APPLICATION_ID:
        raise JournalForeign(
            f"{path} was not written by this gateway: its application id is {application:#x}, "
            f"a journal's is {_APPLICATION_ID:#x}",
            hint="give the gateway a data_dir of its own",
        )
    if version > FORMAT:
        raise JournalForeign(
            f"{path} has journal format {version}; this version of the gateway reads up to format {FORMAT}",
            hint="run the newer version of the gateway again, or give this one a data_dir of its own",
        )


def create(directory: Path, id_: SegmentId, origin: Origin, carried: Carried) -> Path:
    """Write a new segment with what it carries and make it durable under its name, all or nothing."""
    path = directory / id_.name
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.executescript(f"BEGIN IMMEDIATE;\n{_SCHEMA}\nCOMMIT;")
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            _SQL["insert_segment"],
            _signed(
                origin.gateway,
                origin.stream,
                id_.number,
                id_.first_seq,
                id_.first_batch,
                to_us(origin.created_at),
            ),
        )
        db.executemany(
            _SQL["insert_carried"],
            [(name, r.seq, r.json, checksum(r.seq, r.json)) for name, r in carried.last.items()],
        )
        _put_marks(db, carried.alive, carried.cursors, carried.kept)
        db.execute("COMMIT")
    draft.rename(path)
    sync_directory(directory)
    return path


def _put_marks(
    db: sqlite3.Connection,
    alive: Mapping[str, datetime],
    cursors: Mapping[str, Cursor],
    kept: Mapping[str, bytes],
) -> None:
    db.executemany(_SQL["put_alive"], [_signed(name, to_us(at)) for name, at in alive.items()])
    db.executemany(_SQL["put_cursor"], [_signed(sink, c.seq, c.batch) for sink, c in cursors.items()])
    db.executemany(_SQL["put_kept"], [_signed(name, body) for name, body in kept.items()])


def _signed(*columns: str | int | bytes) -> tuple[str | int | bytes, ...]:
    """A row with its checksum as the last column."""
    return (*columns, checksum(len(columns), repr(columns).encode()))


def _verified(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns of a signed row."""
    if _signed(*row[:-1]) != row:
        raise Unreadable("a mark has a wrong checksum")
    return row[:-1]


def _raise_format(db: sqlite3.Connection) -> None:
    """Mark a segment that an older version began, before anything is written that it could not read.

    The mark must be in the file itself and not only in its log: it is read without opening the database.
    """
    if db.execute("PRAGMA user_version").fetchone()[0] < FORMAT:
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Segment:
    """An open segment. Methods raise `sqlite3.Error` when the file or the disk fails."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._wal = path.with_name(path.name + "-wal")

    @classmethod
    def open_newest(cls, path: Path) -> Segment:
        """Open for writing; SQLite recovers what a crash left in the write-ahead log."""
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            _raise_format(db)
            db.execute(_SQL["make_kept"])
        except sqlite3.Error:
            db.close()
            raise
        return cls(path, db)

    @classmethod
    def open_finished(cls, path: Path) -> Segment:
        """Open a file nobody writes any more; leaves no trace beside it."""
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        return cls(path, sqlite3.connect(uri, uri=True, isolation_level=None))

    # -- writing

    def write(
        self,
        events: Iterable[Row],
        batches: Iterable[tuple[int, bytes]],
        alive: Mapping[str, datetime | None],
        cursors: Mapping[str, Cursor],
        kept: Mapping[str, bytes] = NOTHING_KEPT,
    ) -> None:
        """All of it in one durable transaction. After an error its outcome is unknown.

        A connection whose proof of life is None is forgotten.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            _SQL["insert_event"], [(r.seq, r.type, r.equipment, r.at_us, r.body, r.crc) for r in events]
        )
        db.executemany(_SQL["insert_batch"], [(n, body, checksum(n, body)) for n, body in batches])
        if alive or cursors or kept:
            _put_marks(db, {name: at for name, at in alive.items() if at is not None}, cursors, kept)
            db.executemany(_SQL["drop_alive"], [(name,) for name, at in alive.items() if at is None])
        db.execute("COMMIT")

    def undo(self) -> None:
        """Forget a transaction that failed, if SQLite has not done so itself."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def finish(self) -> None:
        """Fold the write-ahead log in, so that the file stands alone, and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        mode = self._db.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        self._db.close()
        if mode != "delete":
            raise sqlite3.OperationalError(f"the journal mode of {self.path} stayed {mode}")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # -- reading

    def size_bytes(self) -> int:
        """Space taken, write-ahead log included."""
        return size_bytes(self.path) + size_bytes(self._wal)

    def log_bytes(self) -> int:
        """Size of the write-ahead log, which `finish` may add to the file."""
        return size_bytes(self._wal)

    def origin(self) -> Origin:
        """Whose it is.

        Raises:
            Unreadable: the file cannot say.
        """
        row = self._db.execute(_SQL["segment"]).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("the segment does not say whose it is")
        gateway, stream, *_, created_us = _verified(row)
        return Origin(gateway=gateway, stream=stream, created_at=from_us(created_us))

    def identity(self) -> tuple[SegmentId, str]:
        """Its place in the row, whatever its name, and its stream.

        Raises:
            Unreadable: the file cannot say.
        """
        row = self._db.execute(_SQL["segment"]).fetchone()
        if row is None:
            raise Unreadable("the segment does not say whose it is")
        _, stream, number, first_seq, first_batch, _ = _verified(row)
        return SegmentId(number, first_seq, first_batch), stream

    def last_numbers(self) -> tuple[int | None, int | None]:
        """Last seq and last batch, None where there are none; of records that can be trusted.

        Raises:
            Unreadable: the last one is damaged.
        """
        event = self._db.execute(_SQL["last_event"]).fetchone()
        batch = self._db.execute(_SQL["last_batch"]).fetchone()
        for row in (event, batch):
            if row is not None:
                check(*row)
        return (None if event is None else event[0], None if batch is None else batch[0])

    def bounds(self) -> tuple[int | None, int, int | None, int]:
        """Last seq, number of events, last batch, number of batches; None where there are none."""
        row: tuple[int | None, int, int | None, int] = self._db.execute(_SQL["bounds"]).fetchone()
        return row

    def events(self, after: int, limit: int) -> Iterator[Recorded | tuple[int, Unreadable]]:
        """Events in order; a damaged one as its number and what is wrong."""
        return map(_event, self._db.execute(_SQL["events"], (after, limit)))

    def batches(self, after: int, limit: int) -> Iterator[tuple[int, SampleBatch | Unreadable]]:
        """Numbered batches in order; a damaged one as what is wrong."""
        for number, body, crc in self._db.execute(_SQL["batches"], (after, limit)):
            try:
                yield number, decode_batch(number, body, crc)
            except Unreadable as error:
                yield number, error

    def transitions(
        self, equipment: str, after: int, from_us_: int, to_us_: int, limit: int
    ) -> Iterator[Recorded | tuple[int, Unreadable]]:
        """Transitions of one equipment with `seq > after` and `from <= at < to`, in order."""
        return map(_event, self._db.execute(_SQL["transitions"], (equipment, from_us_, to_us_, after, limit)))

    def transition_before(self, equipment: str, at_us: int) -> Recorded | tuple[int, Unreadable] | None:
        """The newest transition of one equipment at or before an instant that this segment holds."""
        row = self._db.execute(_SQL["transition_before"], (equipment, at_us)).fetchone()
        return None if row is None else _event(row)

    def carried_of(self, equipment: str) -> Recorded | tuple[int, Unreadable] | None:
        """The newest transition of one equipment before this segment began."""
        row = self._db.execute(_SQL["carried_of"], (equipment,)).fetchone()
        return None if row is None else _event(row)

    def carried(self) -> Carried:
        """The newest transition of each equipment, marks and cursors as of the last commit.

        Raises:
            Unreadable: one of them is damaged.
        """
        last = {
            name: decode_event(seq, "transition", body, crc)
            for name, seq, body, crc in self._db.execute(_SQL["carried"])
        }
        for row in self._db.execute(_SQL["newest_transitions"]):
            newest = decode_event(*row)
            last[newest.equipment] = newest
        return Carried(
            last=last,
            alive={name: from_us(us) for name, us in map(_verified, self._db.execute(_SQL["alive"]))},
            cursors={
                sink: Cursor(seq, batch)
                for sink, seq, batch in map(_verified, self._db.execute(_SQL["cursors"]))
            },
            kept=self._kept(),
        )

    def _kept(self) -> Mapping[str, bytes]:
        if self._db.execute(_SQL["has_kept"]).fetchone() is None:
            return {}
        return dict(map(_verified, self._db.execute(_SQL["kept"])))

    def problems(
        self, id_: SegmentId, last_seq: int | None, last_batch: int | None
    ) -> list[tuple[int, int, str]]:
        """Everything wrong with this file: (seq or 0, batch or 0, reason). Reads all of it.

        `last_seq` and `last_batch` say where it must end, when that is known.
        """
        found = [
            (0, 0, str(row[0])) for row in self._db.execute("PRAGMA integrity_check(20)") if row[0] != "ok"
        ]
        expected = id_.first_seq
        for item in self.events(0, -1):
            seq, reason = (item.seq, "") if isinstance(item, Recorded) else (item[0], str(item[1]))
            if seq != expected:
                found.append((expected, 0, f"event {expected} is missing before event {seq}"))
            if reason:
                found.append((seq, 0, reason))
            expected = seq + 1
        if last_seq is not None and expected != last_seq + 1:
            found.append((expected, 0, f"events {expected} to {last_seq} are missing"))
        expected = id_.first_batch
        for number, batch in self.batches(0, -1):
            if number != expected:
                found.append((0, expected, f"batch {expected} is missing before batch {number}"))
            if isinstance(batch, Unreadable):
                found.append((0, number, str(batch)))
            expected = number + 1
        if last_batch is not None and expected != last_batch + 1:
            found.append((0, expected, f"batches {expected} to {last_batch} are missing"))
        return found


def _event(row: tuple[Any, ...]) -> Recorded | tuple[int, Unreadable]:
    try:
        return decode_event(*row)
    except Unreadable as error:
        return row[0], error
