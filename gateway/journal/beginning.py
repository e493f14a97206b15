"""A new segment's file, made durable under its name with all it carries, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from gateway.journal.codec import DIGEST_BYTES, checksum, signed, to_us
from gateway.journal.dictionary import dictionary_for
from gateway.journal.files import sync_directory
from gateway.journal.header import APPLICATION_ID, FORMAT
from gateway.journal.reading import Carried, Origin, SegmentId
from gateway.journal.sqlfile import read_sql, read_statements
from gateway.journal.values import Cursor

_SQL = read_statements(__package__, "sql/queries.sql")
_SCHEMA = read_sql(__package__, "sql/segment.sql")


def create(
    directory: Path, id_: SegmentId, origin: Origin, carried: Carried, chain: bytes | None = None
) -> Path:
    """Write a new segment with what it carries and make it durable under its name, all or nothing.

    `chain` is the digest the segment before it ended with; None where a chain begins.
    """
    path = directory / id_.name
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    dictionary = dictionary_for(origin.gateway, origin.stream, origin.created_at, carried.last.values())
    with closing(sqlite3.connect(draft, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.executescript(f"BEGIN IMMEDIATE;\n{_SCHEMA}\nCOMMIT;")
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            _SQL["insert_segment"],
            signed(
                origin.gateway,
                origin.stream,
                id_.number,
                id_.first_seq,
                id_.first_batch,
                to_us(origin.created_at),
                bytes(DIGEST_BYTES) if chain is None else chain,
            ),
        )
        db.executemany(_SQL["insert_dictionary"], [signed(copy, dictionary) for copy in (1, 2)])
        db.executemany(
            _SQL["insert_carried"],
            [(name, r.seq, r.json, checksum(r.seq, r.json)) for name, r in carried.last.items()],
        )
        put_marks(db, carried.alive, carried.cursors, carried.kept)
        db.execute("COMMIT")
    draft.rename(path)
    sync_directory(directory)
    return path


def put_marks(
    db: sqlite3.Connection,
    alive: Mapping[str, datetime],
    cursors: Mapping[str, Cursor],
    kept: Mapping[str, bytes],
) -> None:
    """Write marks, in the transaction under way."""
    db.executemany(_SQL["put_alive"], [signed(name, to_us(at)) for name, at in alive.items()])
    db.executemany(_SQL["put_cursor"], [signed(sink, c.seq, c.batch) for sink, c in cursors.items()])
    db.executemany(_SQL["put_kept"], [signed(name, body) for name, body in kept.items()])
