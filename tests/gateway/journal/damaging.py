"""Damage done on purpose to one record in a segment's file, and files as older versions wrote them."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from statemodel.records import Recorded, tell
from statemodel.types import Recordable, SampleBatch, Transition

_LEGACY = """
CREATE TABLE segment (
    gateway TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    first_batch INTEGER NOT NULL, created_us INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, type TEXT NOT NULL, equipment TEXT NOT NULL, at_us INTEGER NOT NULL,
    body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE INDEX transition_by_time ON event (equipment, at_us, seq) WHERE type = 'transition';
CREATE TABLE batch (number INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE carried (
    equipment TEXT PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
CREATE TABLE alive (
    connection TEXT PRIMARY KEY, at_us INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE cursor (
    sink TEXT PRIMARY KEY, seq INTEGER NOT NULL, batch INTEGER NOT NULL, crc INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"""


def spoil(path: Path, *, seq: int = 0, batch: int = 0) -> None:
    """Flip a bit of the commit that holds an event, or a batch, in a segment nobody has open."""
    kind, first, count, number = (
        ("events", "seq", "event_count", seq) if seq else ("samples", "batch", "batch_count", batch)
    )
    with closing(sqlite3.connect(path)) as db:
        (body,) = db.execute(
            f"SELECT {kind} FROM block WHERE {first} <= ? AND ? < {first} + {count}", (number, number)
        ).fetchone()
    data = bytearray(path.read_bytes())
    piece = body[4:60]
    assert data.count(piece) == 1
    data[data.index(piece) + len(piece) // 2] ^= 1
    path.write_bytes(data)


def write_legacy(
    directory: Path,
    events: Sequence[Recordable],
    batches: Sequence[SampleBatch],
    *,
    at: datetime,
    number: int = 1,
    first: tuple[int, int] = (1, 1),
    stream: str = "7d9be2ac-8d1c-4c43-9a50-1f5f5d0a1b77",
    format_: int = 2,
    finished: bool = False,
) -> list[Recorded]:
    """A segment of format 1 or 2 with some records; unless finished, its write-ahead log beside it."""
    path = directory / f"journal-{number:08d}-{first[0]}-{first[1]}.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA application_id = {0x414E444A}")
    db.execute(f"PRAGMA user_version = {format_}")
    db.executescript(_LEGACY)
    row = ("line-1", stream, number, *first, _us(at))
    db.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)", _signed(*row))
    db.execute("PRAGMA journal_mode = WAL")
    told = [
        tell(event, gateway="line-1", stream=stream, seq=seq, recorded_at=at)
        for seq, event in enumerate(events, first[0])
    ]
    for r in told:
        db.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
            (r.seq, r.type, r.equipment, _us(r.at), r.json, _crc(r.seq, r.json)),
        )
    for n, samples in enumerate(batches, first[1]):
        body = b"\x00" + msgspec.msgpack.encode(samples)
        db.execute("INSERT INTO batch VALUES (?, ?, ?)", (n, body, _crc(n, body)))
    db.execute("INSERT INTO alive VALUES (?, ?, ?)", _signed("plc", _us(at)))
    db.execute("INSERT INTO cursor VALUES (?, ?, ?, ?)", _signed("database", 2, 1))
    if finished:
        db.execute("PRAGMA journal_mode = DELETE")
        db.close()
    else:  # as a process leaves it that is killed: the log is not folded in
        wal = path.with_name(path.name + "-wal")
        kept = path.read_bytes(), wal.read_bytes()
        db.close()
        path.write_bytes(kept[0])
        wal.write_bytes(kept[1])
    assert any(isinstance(event, Transition) for event in events)
    return told


def _us(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def _crc(number: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big", signed=True)))


def _signed(*columns: str | int) -> tuple[str | int, ...]:
    return (*columns, _crc(len(columns), repr(columns).encode()))
