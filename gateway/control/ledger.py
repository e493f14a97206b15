"""The ledger of commands: every one that was taken, under its key, durable before anything is sent.

An SQLite file of its own (`data_dir/commands/ledger.sqlite`), each change synced before it counts, all in one
thread. It is what makes a command happen at most once: whoever finds an entry that was on its way knows that
it may have been carried out. Knows nothing of rules, devices or people.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from api.commanding import CommandView
from gateway.journal.codec import from_us, to_us
from statemodel.types import TagValue

_log = structlog.get_logger("andon.commands")

T = TypeVar("T")

#: Where it lies in the data directory.
PLACE = Path("commands") / "ledger.sqlite"
#: Most entries that are kept; beyond it the oldest refused ones go first.
ENTRIES_MAX = 200_000
#: Entries that go at once when room is made.
_PORTION = 500
#: How long another process may hold the file, in seconds.
_BUSY_S = 5.0


class Stage(StrEnum):
    """How far an entry has come: `going` is accepted, `sending` may have been sent."""

    WAITING = "waiting"
    GOING = "going"
    SENDING = "sending"
    DONE = "done"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it is kept.

    `fingerprint` is of the request and of who sent it. `label` names the rule's window of rates. `told` and
    `audited` say whether its end is on record in the journal and closed in the audit trail. `order_value` is
    what is sent; `rule` the rule as it was, encoded.
    """

    view: CommandView
    fingerprint: str
    label: str
    stage: Stage
    by_kind: str
    peer: str = ""
    not_after: datetime | None = None
    previous: TagValue = None
    told: bool = False
    audited: bool = False
    #: What it rested on when it was accepted; see `basis.basis_of`.
    basis: str = ""
    #: Who made the key it was asked for with.
    made_by: str = ""

    @property
    def owes(self) -> bool:
        """Whether its end is still to be told or audited."""
        return self.stage is Stage.DONE and not (self.told and self.audited)


class LedgerFailed(Exception):
    """The ledger cannot be read or written; `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Ledger(Protocol):
    """Where commands are kept. Everything raises `LedgerFailed`; what returns is durable."""

    async def put(self, entry: Entry) -> None:
        """Keep an entry, new or changed."""
        ...

    async def by_key(self, key: str) -> Entry | None:
        """The entry of a key."""
        ...

    async def by_id(self, id_: str) -> Entry | None:
        """The entry of a command."""
        ...

    async def page(self, after: int, limit: int) -> tuple[Sequence[Entry], int]:
        """Entries in the order they came, after a place; and the place of the last."""
        ...

    async def unfinished(self) -> Sequence[Entry]:
        """Those that have not ended."""
        ...

    async def owing(self, limit: int) -> Sequence[Entry]:
        """Those whose end is still to be told or audited, oldest first."""
        ...

    async def taken_since(self, at: datetime) -> Sequence[tuple[str, datetime]]:
        """Label and time of those that were accepted since an instant, oldest first."""
        ...

    async def trim(self, before: datetime) -> int:
        """Drop what ended before an instant and owes nothing; how many."""
        ...


_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE,
    stage TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    label TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    owes INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS command_by_stage ON command (stage) WHERE stage <> 'done';
CREATE INDEX IF NOT EXISTS command_owing ON command (n) WHERE owes;
CREATE INDEX IF NOT EXISTS command_by_time ON command (at_us);
"""
_PUT = """
INSERT INTO command (id, key, stage, accepted, label, at_us, owes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, owes = excluded.owes, body = excluded.body
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class SqliteLedger:
    """Implements `Ledger` in a file. Opened at its first use; end it with `close`.

    An entry that cannot be read is left out where many are asked for, and said once: `unreadable` has them by
    id, in words. Who asks for that one is refused, so that its key sends nothing a second time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commands")
        self._db: sqlite3.Connection | None = None
        self._is_closed = False
        self.unreadable: dict[str, str] = {}

    @classmethod
    async def open(cls, path: Path) -> SqliteLedger:
        """Open the file, or begin it.

        Raises:
            LedgerFailed: it cannot be opened or is damaged.
        """
        ledger = cls(path)
        try:
            await ledger._do(lambda db: None)
        except LedgerFailed:
            ledger._thread.shutdown(wait=False)
            raise
        return ledger

    async def close(self) -> None:
        """Close the file once everything handed in is done."""
        if self._is_closed:
            return
        self._is_closed = True

        def close() -> None:
            if self._db is not None:
                self._db.close()
                self._db = None

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)

    async def put(self, entry: Entry) -> None:
        """See `Ledger.put`."""
        view = entry.view
        row = (
            *(view.id, view.key, entry.stage.value, view.status != "refused", entry.label),
            *(to_us(view.requested_at), entry.owes, _encode(entry)),
        )

        def put(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM command WHERE id = ?", (view.id,)).fetchone() is None:
                (count,) = db.execute("SELECT count(*) FROM command").fetchone()
                if count >= ENTRIES_MAX:
                    _make_room(db)
            db.execute(_PUT, row)

        await self._do(put)
        self.unreadable.pop(view.id, None)

    async def by_key(self, key: str) -> Entry | None:
        """See `Ledger.by_key`."""
        return await self._one("SELECT id, body FROM command WHERE key = ?", key)

    async def by_id(self, id_: str) -> Entry | None:
        """See `Ledger.by_id`."""
        return await self._one("SELECT id, body FROM command WHERE id = ?", id_)

    async def page(self, after: int, limit: int) -> tuple[Sequence[Entry], int]:
        """See `Ledger.page`."""

        def page(db: sqlite3.Connection) -> tuple[Sequence[Entry], int]:
            found: list[Entry] = []
            last = after
            rows = db.execute("SELECT n, id, body FROM command WHERE n > ? ORDER BY n", (after,))
            while len(found) < limit and (row := rows.fetchone()) is not None:
                last, *kept = row
                found += self._readable([kept])
            return found, last

        return await self._do(page)

    async def unfinished(self) -> Sequence[Entry]:
        """See `Ledger.unfinished`."""
        return await self._entries("SELECT id, body FROM command WHERE stage <> 'done' ORDER BY n")

    async def owing(self, limit: int) -> Sequence[Entry]:
        """See `Ledger.owing`."""
        return await self._entries("SELECT id, body FROM command WHERE owes ORDER BY n", most=limit)

    async def taken_since(self, at: datetime) -> Sequence[tuple[str, datetime]]:
        """See `Ledger.taken_since`."""
        sql = "SELECT label, at_us FROM command WHERE at_us >= ? AND accepted ORDER BY n"
        return await self._do(
            lambda db: [(label, from_us(at_us)) for label, at_us in db.execute(sql, (to_us(at),))]
        )

    async def trim(self, before: datetime) -> int:
        """See `Ledger.trim`."""
        sql = (
            "DELETE FROM command WHERE n IN (SELECT n FROM command WHERE at_us < ? AND stage = 'done' "
            "AND NOT owes LIMIT ?)"
        )

        def trim(db: sqlite3.Connection) -> int:
            # An approval may take an hour: what is asked for counts from its end at the latest.
            return db.execute(sql, (to_us(before - timedelta(hours=1)), _PORTION)).rowcount

        return await self._do(trim)

    async def _one(self, sql: str, asked: str) -> Entry | None:
        def one(db: sqlite3.Connection) -> Entry | None:
            row = db.execute(sql, (asked,)).fetchone()
            return None if row is None else self._decoded(*row)

        return await self._do(one)

    async def _entries(self, sql: str, *, most: int | None = None) -> list[Entry]:
        return await self._do(lambda db: list(islice(self._readable(db.execute(sql)), most)))

    def _readable(self, rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
        """In the thread: those of some rows (id, body) that can be read."""
        for id_, body in rows:
            try:
                yield self._decoded(id_, body)
            except LedgerFailed as failed:
                if id_ not in self.unreadable:
                    _log.error("a command that was kept cannot be read", reason=failed.reason)
                self.unreadable[id_] = failed.reason

    def _decoded(self, id_: str, body: bytes) -> Entry:
        try:
            return _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise LedgerFailed(
                f"{self._path.name}: the entry of command {id_} cannot be read ({error}): it may have been "
                "carried out, so look at the machine; its key is taken for as long as the entry is there"
            ) from error

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work in the thread, in a transaction of its own; it is carried through whoever stops waiting."""
        if self._is_closed:
            raise LedgerFailed(f"{self._path.name}: it is closed, since the gateway stops")

        def do() -> T:
            try:
                if self._db is None:
                    self._db = _opened(self._path)
                with self._db:
                    return work(self._db)
            except (sqlite3.Error, OSError) as error:
                raise LedgerFailed(f"{self._path.name}: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def copy_ledger(data_dir: Path, to: Path) -> bool:
    """A copy of the ledger of a data directory as it is at one instant, also while a gateway writes it; False
    when there is none. Blocking.

    Raises:
        LedgerFailed: it cannot be read, or the copy not be written.
    """
    if not (data_dir / PLACE).exists():
        return False
    try:
        with (
            closing(sqlite3.connect(data_dir / PLACE, timeout=_BUSY_S)) as db,
            closing(sqlite3.connect(to)) as copy,
        ):
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise LedgerFailed(f"{data_dir / PLACE}: {error}") from error
    return True


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({found}); move it away to begin a new one")
        db.executescript(_SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _make_room(db: sqlite3.Connection) -> None:
    """Refused ones that owe nothing go first, the oldest of them; without any, nothing more is taken."""
    gone = db.execute(
        "DELETE FROM command WHERE n IN (SELECT n FROM command WHERE stage = 'done' AND NOT accepted "
        "AND NOT owes ORDER BY n LIMIT ?)",
        (_PORTION,),
    ).rowcount
    if not gone:
        raise sqlite3.OperationalError(f"{ENTRIES_MAX} commands are kept, and each may still be asked for")
