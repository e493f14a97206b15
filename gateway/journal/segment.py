"""One file of the journal: an SQLite database that can be read without any other.

The newest segment is written in WAL mode with synchronous=FULL through one connection, one row a commit. A
finished one is folded into a single file and read as immutable, so no file ever has two connections.
Everything here is synchronous and belongs to the journal's thread; this module does not know of other
segments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.journal.beginning import create, put_marks
from gateway.journal.codec import (
    Coder,
    Numbers,
    Unreadable,
    begin_chain,
    chained,
    check,
    decode_event,
    from_us,
    seal,
    signed,
    to_us,
    type_of,
)
from gateway.journal.header import FORMAT, check_header, format_of, read_schema
from gateway.journal.judge import Judge, gather, note
from gateway.journal.legacy import LegacySegment
from gateway.journal.places import Places
from gateway.journal.reading import Carried, Origin, Reader, SegmentId
from gateway.journal.remembered import Remembered
from gateway.journal.rowwise import COUNT, damaged, row_by_row, start
from gateway.journal.sampled import decode_batch, encode_batch
from gateway.journal.sqlfile import read_statements
from gateway.journal.values import Anchor, Cursor
from statemodel.records import Recorded
from statemodel.types import SampleBatch, Transition

__all__ = ["FORMAT", "Block", "Carried", "Origin", "Reader", "Segment", "SegmentId", "check_header", "create"]

#: The log is folded in when it has grown by so much.
FOLD_BYTES = 4_000_000
#: What a commit is taken to write besides its payload, until the first fold has told; what frames a page.
_COMMIT_BYTES, _FRAME_BYTES = 12_000, 24
NOTHING_KEPT: Mapping[str, bytes] = MappingProxyType({})

_SQL = read_statements(__package__, "sql/queries.sql")


class Block(msgspec.Struct, frozen=True, gc=False):
    """A commit on its way into a segment: first numbers, how many, payloads, and where transitions are."""

    seq: int
    events: int
    batch: int
    batches: int
    event_payload: bytes
    sample_payload: bytes
    transitions: list[tuple[str, int, int]]

    @property
    def size_bytes(self) -> int:
        """Bytes it takes, without the row around them."""
        return len(self.event_payload) + len(self.sample_payload)

    def without_batches(self) -> Block:
        """The commit with its events alone."""
        return msgspec.structs.replace(self, batches=0, sample_payload=b"")


def _verified(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns of a signed row."""
    if signed(*row[:-1]) != row:
        raise Unreadable("a mark has a wrong checksum")
    return row[:-1]


class Segment(Reader):
    """An open segment of the present format."""

    def __init__(self, path: Path, db: sqlite3.Connection, *, finished: bool) -> None:
        super().__init__(path, db)
        self._finished = finished
        self._unfolded_bytes = self._unfolded_commits = 0
        self._commit_bytes = _COMMIT_BYTES
        self._tip: tuple[Numbers | None, bytes] | None = None
        #: All transitions, once they have been gathered; of a finished segment those that were asked for.
        self._places: dict[str, Places] | None = None
        self._loaded: dict[str, Places | None] = {}
        self._unpacked: dict[str, tuple[int, list[bytes]]] = {}
        self._event = Remembered(self._read_event).find

    @staticmethod
    def open_newest(path: Path) -> Reader:
        """Open for writing; SQLite recovers what a crash left in the write-ahead log.

        What an older version wrote comes as a `LegacySegment`, which can only be read and finished.
        """
        legacy = format_of(path) < FORMAT
        db = sqlite3.connect(path, isolation_level=None)
        try:
            read_schema(db)
            # All rows: an error of the last step, which changes the file, comes after the first.
            if db.execute("PRAGMA journal_mode = WAL").fetchall() != [("wal",)]:
                raise sqlite3.OperationalError(f"{path} cannot be given a write-ahead log")
            db.execute("PRAGMA synchronous = FULL")
            # By itself SQLite folds the log in unasked, and passes over what the disk says to that.
            db.execute("PRAGMA wal_autocheckpoint = 0")
        except sqlite3.Error:
            db.close()
            raise
        return LegacySegment(path, db) if legacy else Segment(path, db, finished=False)

    @staticmethod
    def open_finished(path: Path) -> Reader:
        """Open a file nobody writes any more; leaves no trace beside it."""
        legacy = format_of(path) < FORMAT
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            read_schema(db)
        except sqlite3.Error:
            db.close()
            raise
        return LegacySegment(path, db) if legacy else Segment(path, db, finished=True)

    @classmethod
    def begin(
        cls, directory: Path, id_: SegmentId, origin: Origin, carried: Carried, chain: bytes | None
    ) -> Segment:
        """Create a segment (see `create`) and open it for writing."""
        opened = cls.open_newest(create(directory, id_, origin, carried, chain))
        if not isinstance(opened, Segment):
            raise TypeError("a segment was created in an older format")
        return opened

    # -- writing

    def encode(
        self, seq: int, events: Sequence[Recorded], batch: int, batches: Sequence[SampleBatch]
    ) -> Block:
        """Make a commit of events and batches; `seq` and `batch` are the first numbers, or the next."""
        coder = self._coder
        return Block(
            seq,
            len(events),
            batch,
            len(batches),
            coder.pack_events([recorded.json for recorded in events]),
            coder.pack_batches([encode_batch(samples) for samples in batches]),
            [(r.equipment, r.seq, to_us(r.at)) for r in events if isinstance(r.event, Transition)],
        )

    def write(
        self,
        block: Block | None,
        alive: Mapping[str, datetime | None],
        cursors: Mapping[str, Cursor],
        kept: Mapping[str, bytes] = NOTHING_KEPT,
    ) -> None:
        """All of it in one durable transaction. After an error its outcome is unknown.

        A connection whose proof of life is None is forgotten.
        """
        db, places = self._db, self._all_places()
        marks = bool(alive or cursors or kept)
        if marks:
            db.execute("BEGIN IMMEDIATE")
        holds = block is not None and (block.events or block.batches)
        if block is not None and holds:
            last, before = self._end()
            numbers = Numbers(
                last.number + 1 if last else 1, block.seq, block.events, block.batch, block.batches
            )
            events = seal(numbers.number, block.seq, block.event_payload)
            samples = seal(numbers.number, block.batch, block.sample_payload)
            tip = numbers, chained(before, numbers, events, samples)
            db.execute(_SQL["insert_block"], (*numbers, numbers.checksum, tip[1], events, samples))
        if marks:
            put_marks(db, {name: at for name, at in alive.items() if at is not None}, cursors, kept)
            db.executemany(_SQL["drop_alive"], [(name,) for name, at in alive.items() if at is None])
            db.execute("COMMIT")
        self._unfolded_bytes += self._commit_bytes
        self._unfolded_commits += 1
        if block is not None and holds:
            self._unfolded_bytes += len(events) + len(samples)
            self._tip = tip
            for equipment, seq, at_us in block.transitions:
                note(places, equipment, seq, at_us)

    def fold(self) -> None:
        """Now and then: write what the log holds into the file, so that the log begins anew.

        How many pages it held tells what a commit writes, for the next time; the size of its file does not:
        it never shrinks.
        Without room it is left for later. Another error means that nothing is known any more of what the file
        holds: ask nothing of it again.
        """
        if self._unfolded_bytes < FOLD_BYTES:
            return
        try:
            [(_, pages, _)] = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
        else:
            (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
            unforeseen = pages * (page_bytes + _FRAME_BYTES) - self._unfolded_bytes
            self._commit_bytes = max(page_bytes, self._commit_bytes + unforeseen // self._unfolded_commits)
            self._unfolded_bytes = self._unfolded_commits = 0

    def undo(self) -> None:
        """Forget a transaction that failed, if SQLite has not done so itself."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def finish(self) -> None:
        """Write the index of transitions, fold the log in, so that the file stands alone; close."""
        places = self._all_places()
        rows = [signed(name, of_one.pack()) for name, of_one in sorted(places.items())]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_SQL["put_place"], [*rows, signed("", len(rows).to_bytes(8, "little"))])
        self._db.execute("COMMIT")
        super().finish()

    def resume(self) -> None:
        """Take back the index of an end that was cut off, as it would not know of what is written from here
        on. Without room it is left to the next start.
        """
        try:
            if self._db.execute(_SQL["count_places"]).fetchone() != (0,):
                self._db.execute(_SQL["drop_places"])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self.undo()

    def _end(self) -> tuple[Numbers | None, bytes]:
        """Numbers and digest of the last block."""
        if self._tip is None:
            row = self._db.execute(_SQL["last_block"]).fetchone()
            self._tip = (None, self._begin()) if row is None else (Numbers.read(row), row[6])
        return self._tip

    # -- reading: what the file says of itself

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        row = self._db.execute(_SQL["segment"]).fetchone()
        if row is None:
            raise Unreadable("the segment does not say whose it is")
        return _verified(row)

    @cached_property
    def _dictionary(self) -> bytes:
        for row in self._db.execute(_SQL["dictionary"]):
            if signed(*row[:-1]) == row:
                return bytes(row[1])
        raise Unreadable("both copies of its dictionary are damaged")

    @cached_property
    def _coder(self) -> Coder:
        return Coder(self._dictionary)

    def _begin(self) -> bytes:
        *identity, chain = self._identity
        return begin_chain(chain, self._dictionary, *identity)

    def origin(self) -> Origin:
        gateway, stream, *_, created_us, _ = self._identity
        return Origin(gateway=gateway, stream=stream, created_at=from_us(created_us))

    def identity(self) -> tuple[SegmentId, str]:
        _, stream, number, first_seq, first_batch, *_ = self._identity
        return SegmentId(number, first_seq, first_batch), stream

    def chain(self) -> bytes | None:
        return bytes(self._identity[-1])

    def head(self) -> bytes | None:
        return self._end()[1]

    def anchor(self) -> Anchor | None:
        (last, digest), (id_, _) = self._end(), self.identity()
        if last is None:
            return Anchor(id_.first_seq - 1, id_.first_batch - 1, digest.hex())
        return Anchor(last.seq + last.events - 1, last.batch + last.batches - 1, digest.hex())

    def last_numbers(self) -> tuple[int | None, int | None]:
        (last, _), (id_, _) = self._end(), self.identity()
        if last is None:
            return None, None
        seq, batch = last.seq + last.events - 1, last.batch + last.batches - 1
        return seq if seq >= id_.first_seq else None, batch if batch >= id_.first_batch else None

    def bounds(self) -> tuple[int | None, int, int | None, int]:
        events, batches = self._db.execute(_SQL["counts"]).fetchone()
        for row in self._db.execute(_SQL["numbers_back"]):
            with suppress(Unreadable):  # damaged numbers could be any
                last = Numbers.read(row)
                seq, batch = last.seq + last.events - 1, last.batch + last.batches - 1
                return seq if events else None, events, batch if batches else None, batches
        return None, 0, None, 0

    # -- reading: records

    def events(self, after: int, limit: int) -> Iterator[Recorded | tuple[int, Unreadable]]:
        for seq, body in self._records("events", after, limit):
            if isinstance(body, Unreadable):
                yield seq, body
                continue
            try:
                yield decode_event(seq, type_of(body), body)
            except Unreadable as error:
                yield seq, error

    def batches(self, after: int, limit: int) -> Iterator[tuple[int, SampleBatch | Unreadable]]:
        for number, body in self._records("samples", after, limit):
            if isinstance(body, Unreadable):
                yield number, body
                continue
            try:
                yield number, decode_batch(body)
            except msgspec.MsgspecError as error:
                yield number, Unreadable(str(error))

    def _records(self, kind: str, after: int, limit: int) -> Iterator[tuple[int, bytes | Unreadable]]:
        """Numbered bodies beyond a number; a damaged commit as its first number and what is wrong."""
        if limit == 0:
            return
        expected, gap = after + 1, None
        for row in self._rows(kind, after + 1):
            if isinstance(row, Unreadable):
                gap = row
                continue
            number, first, sealed = row
            if gap is not None and type(first) is int and first > expected:
                yield expected, Unreadable(f"{COUNT[kind]} {expected} to {first - 1} cannot be read: {gap}")
            gap = None
            try:
                bodies = self._unpack(kind, number, first, sealed)
            except Unreadable as error:
                yield first if type(first) is int else after + 1, error
                continue
            expected = max(expected, first + len(bodies))
            for n, body in enumerate(bodies, first):
                if n > after:
                    yield n, body
                    limit -= 1
                    if limit == 0:
                        return
        if gap is not None:
            yield expected, gap

    def _rows(self, kind: str, wanted: int) -> Iterator[tuple[Any, ...] | Unreadable]:
        """The rows of blocks that hold records of a kind, from the one with a record on.

        Where a page of a finished segment is damaged, rows are asked for one by one, so that those in sound
        pages still come; a stretch that does not is told as one.
        """
        at = 0
        try:
            at = start(self._db, kind, wanted)
            for row in self._db.execute(_SQL[f"{kind}_from"], (at,)):
                yield row
                at = row[0] + 1
            return
        except sqlite3.DatabaseError as error:
            if not (self._finished and damaged(error)):
                raise
        yield from row_by_row(self._db, kind, at, self.size_bytes())

    def _unpack(self, kind: str, number: int, first: int, sealed: bytes) -> list[bytes]:
        """The records of a block; those of the last one asked for are remembered."""
        known = self._unpacked.get(kind)
        if known is None or known[0] != number:
            known = self._unpacked[kind] = (number, self._coder.unpack(number, first, sealed))
        return known[1]

    # -- reading: transitions of one equipment

    def transitions(
        self, equipment: str, after: int, from_us_: int, to_us_: int, limit: int
    ) -> Iterator[Recorded | tuple[int, Unreadable]]:
        places = self._places_of(equipment)
        return map(self._event, () if places is None else places.within(after, from_us_, to_us_, limit))

    def transition_before(self, equipment: str, at_us: int) -> Recorded | tuple[int, Unreadable] | None:
        places = self._places_of(equipment)
        seq = None if places is None else places.before(at_us)
        return None if seq is None else self._event(seq)

    def transition_up_to(self, equipment: str, seq: int) -> Recorded | tuple[int, Unreadable] | None:
        places = self._places_of(equipment)
        found = None if places is None else places.up_to(seq)
        return None if found is None else self._event(found)

    def _read_event(self, seq: int) -> Recorded | tuple[int, Unreadable]:
        return next(self.events(seq - 1, 1), (seq, Unreadable("it is missing")))

    def _places_of(self, equipment: str) -> Places | None:
        if self._places is None and self._finished:
            if equipment not in self._loaded:
                try:
                    self._loaded[equipment] = self._load(equipment)
                except Unreadable:
                    return self._all_places().get(equipment)
            return self._loaded[equipment]
        return self._all_places().get(equipment)

    def _load(self, equipment: str) -> Places | None:
        """The index of one equipment as it was written when the segment was finished."""
        (count,) = self._db.execute(_SQL["count_places"]).fetchone()
        whole = self._db.execute(_SQL["place"], ("",)).fetchone()
        if whole is None or int.from_bytes(_verified(whole)[1], "little") != count - 1:
            raise Unreadable("its index is not whole")
        row = self._db.execute(_SQL["place"], (equipment,)).fetchone()
        return None if row is None else Places.unpack(_verified(row)[1])

    def _all_places(self) -> dict[str, Places]:
        """The index of all equipment, gathered from the events."""
        if self._places is None:
            places: dict[str, Places] = {}
            for seq, body in self._records("events", 0, -1):
                if not isinstance(body, Unreadable):
                    with suppress(Unreadable):
                        gather(places, seq, body)
            self._places = places
        return self._places

    def carried_of(self, equipment: str) -> Recorded | tuple[int, Unreadable] | None:
        row = self._db.execute(_SQL["carried_of"], (equipment,)).fetchone()
        if row is None:
            return None
        seq, body, crc = row
        try:
            return decode_event(seq, "transition", check(seq, body, crc))
        except Unreadable as error:
            return seq, error

    def carried(self) -> Carried:
        last = {
            name: decode_event(seq, "transition", check(seq, body, crc))
            for name, seq, body, crc in self._db.execute(_SQL["carried"])
        }
        for name, seq in self._newest_transitions():
            newest = self._event(seq)
            if not isinstance(newest, Recorded):
                raise newest[1]
            last[name] = newest
        return Carried(
            last=last,
            alive={name: from_us(us) for name, us in map(_verified, self._db.execute(_SQL["alive"]))},
            cursors={
                sink: Cursor(seq, batch)
                for sink, seq, batch in map(_verified, self._db.execute(_SQL["cursors"]))
            },
            kept=dict(map(_verified, self._db.execute(_SQL["kept"]))),
        )

    def _newest_transitions(self) -> list[tuple[str, int]]:
        if self._places is None and self._finished:
            rows = dict(map(_named, self._db.execute(_SQL["places"])))
            whole = rows.pop("", b"")
            if whole and int.from_bytes(whole, "little") == len(rows):
                return [(name, Places.unpack(body).last) for name, body in rows.items()]
        return [(name, places.last) for name, places in self._all_places().items()]

    # -- judging

    def problems(
        self, id_: SegmentId, last_seq: int | None, last_batch: int | None
    ) -> list[tuple[int, int, str]]:
        found = self.integrity()
        try:
            judge = Judge(self._coder, self._begin(), id_.first_seq, id_.first_batch)
        except Unreadable as error:
            return [*found, (0, 0, str(error))]
        judge.read(self._db.execute(_SQL["blocks"]))
        judge.end(last_seq, last_batch)
        if not judge.found:
            self._places = judge.places
        return found + judge.found


def _named(row: tuple[Any, ...]) -> tuple[str, bytes]:
    name, body = _verified(row)
    return name, body
