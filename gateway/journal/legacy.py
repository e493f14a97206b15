"""Segments that older versions wrote (formats 1 and 2): a row for each event and each batch. Only read.

The newest of a journal that an older version left is finished as it is, and a segment of the present format
begun behind it. Checksums are per record; there is no chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zstandard

from gateway.journal.codec import Unreadable, check, decode_event, from_us
from gateway.journal.reading import Carried, Origin, Reader, SegmentId
from gateway.journal.sqlfile import read_statements
from gateway.journal.values import Anchor, Cursor
from statemodel.records import Recorded
from statemodel.types import SampleBatch

T = TypeVar("T", bound="Recorded | tuple[int, Any]")

_SQL = read_statements(__package__, "sql/legacy.sql")
_ZSTD = b"\x01"
_BATCH_BYTES_MAX = 256_000_000
_decode = msgspec.msgpack.Decoder(SampleBatch).decode


class LegacySegment(Reader):
    """An open segment of format 1 or 2. Methods raise `sqlite3.Error` when the file or the disk fails."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)

    def origin(self) -> Origin:
        gateway, stream, *_, created_us = self._segment()
        return Origin(gateway=gateway, stream=stream, created_at=from_us(created_us))

    def identity(self) -> tuple[SegmentId, str]:
        _, stream, number, first_seq, first_batch, _ = self._segment()
        return SegmentId(number, first_seq, first_batch), stream

    def _segment(self) -> tuple[Any, ...]:
        row = self._db.execute(_SQL["segment"]).fetchone()
        if row is None:
            raise Unreadable("the segment does not say whose it is")
        return _verified(row)

    def chain(self) -> bytes | None:
        return None

    def head(self) -> bytes | None:
        return None

    def anchor(self) -> Anchor | None:
        return None

    def last_numbers(self) -> tuple[int | None, int | None]:
        event = self._db.execute(_SQL["last_event"]).fetchone()
        batch = self._db.execute(_SQL["last_batch"]).fetchone()
        for row in (event, batch):
            if row is not None:
                check(*row)
        return (None if event is None else event[0], None if batch is None else batch[0])

    def bounds(self) -> tuple[int | None, int, int | None, int]:
        row: tuple[int | None, int, int | None, int] = self._db.execute(_SQL["bounds"]).fetchone()
        return row

    def events(self, after: int, limit: int) -> Iterator[Recorded | tuple[int, Unreadable]]:
        return _pages(lambda *page: map(_event, self._db.execute(_SQL["events"], page)), after, limit)

    def batches(self, after: int, limit: int) -> Iterator[tuple[int, SampleBatch | Unreadable]]:
        return _pages(
            lambda *page: map(_numbered_batch, self._db.execute(_SQL["batches"], page)), after, limit
        )

    def transitions(
        self, equipment: str, after: int, from_us_: int, to_us_: int, limit: int
    ) -> Iterator[Recorded | tuple[int, Unreadable]]:
        within = (equipment, from_us_, to_us_)
        return _pages(
            lambda *page: map(_event, self._db.execute(_SQL["transitions"], (*within, *page))), after, limit
        )

    def transition_before(self, equipment: str, at_us: int) -> Recorded | tuple[int, Unreadable] | None:
        row = self._db.execute(_SQL["transition_before"], (equipment, at_us)).fetchone()
        return None if row is None else _event(row)

    def transition_up_to(self, equipment: str, seq: int) -> Recorded | tuple[int, Unreadable] | None:
        row = self._db.execute(_SQL["transition_up_to"], (equipment, seq)).fetchone()
        return None if row is None else _event(row)

    def carried_of(self, equipment: str) -> Recorded | tuple[int, Unreadable] | None:
        row = self._db.execute(_SQL["carried_of"], (equipment,)).fetchone()
        return None if row is None else _event(row)

    def carried(self) -> Carried:
        last = {
            name: decode_event(seq, "transition", check(seq, body, crc))
            for name, seq, body, crc in self._db.execute(_SQL["carried"])
        }
        for seq, type_, body, crc in self._db.execute(_SQL["newest_transitions"]):
            newest = decode_event(seq, type_, check(seq, body, crc))
            last[newest.equipment] = newest
        has_kept = self._db.execute(_SQL["has_kept"]).fetchone() is not None
        kept = self._db.execute(_SQL["kept"]) if has_kept else ()
        return Carried(
            last=last,
            alive={name: from_us(us) for name, us in map(_verified, self._db.execute(_SQL["alive"]))},
            cursors={
                sink: Cursor(seq, batch)
                for sink, seq, batch in map(_verified, self._db.execute(_SQL["cursors"]))
            },
            kept=dict(map(_verified, kept)),
        )

    def problems(
        self, id_: SegmentId, last_seq: int | None, last_batch: int | None
    ) -> list[tuple[int, int, str]]:
        found = self.integrity()
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


def _pages(page: Callable[[int, int], Iterator[T]], after: int, limit: int) -> Iterator[T]:
    """So many records that can be read, with the damage met on the way: that takes no place. All when the
    limit is -1."""
    while limit:
        looked_at = readable = 0
        for item in page(after, limit):
            looked_at += 1
            if isinstance(item, Recorded):
                after = item.seq
                readable += 1
            else:
                after = item[0]
                readable += not isinstance(item[1], Unreadable)
            yield item
        if limit < 0 or looked_at < limit:
            return
        limit -= readable


def _verified(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The columns of a signed row."""
    columns = row[:-1]
    check(len(columns), repr(columns).encode(), row[-1])
    return columns


def _event(row: tuple[Any, ...]) -> Recorded | tuple[int, Unreadable]:
    seq, type_, body, crc = row
    try:
        return decode_event(seq, type_, check(seq, body, crc))
    except Unreadable as error:
        return seq, error


def _numbered_batch(row: tuple[int, bytes, int]) -> tuple[int, SampleBatch | Unreadable]:
    try:
        return row[0], _batch(*row)
    except Unreadable as error:
        return row[0], error


def _batch(number: int, body: bytes, crc: int) -> SampleBatch:
    check(number, body, crc)
    try:
        packed = (
            zstandard.ZstdDecompressor().decompress(body[1:], max_output_size=_BATCH_BYTES_MAX)
            if body[:1] == _ZSTD
            else body[1:]
        )
        return _decode(packed)
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise Unreadable(str(error)) from error
