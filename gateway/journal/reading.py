"""What every open segment can be asked, whatever its format: the port the journal reads through."""

from __future__ import annotations

import os
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from gateway.journal.codec import Unreadable
from gateway.journal.files import size_bytes
from gateway.journal.values import Anchor, Cursor
from statemodel.records import Recorded
from statemodel.types import SampleBatch

NOT_FOLLOWING = (
    "it does not follow the segment before it: something was removed, exchanged or rewritten there"
)
_NAME = re.compile(r"^journal-(\d{8})-(\d+)-(\d+)\.db$")


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


class Reader(ABC):
    """An open segment. Methods raise `sqlite3.Error` when the file or the disk fails."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db
        self._files = (str(path), f"{path}-wal")
        self._wal = path.with_name(path.name + "-wal")

    @abstractmethod
    def origin(self) -> Origin:
        """Whose it is.

        Raises:
            Unreadable: the file cannot say.
        """

    @abstractmethod
    def identity(self) -> tuple[SegmentId, str]:
        """Its place in the row, whatever its name, and its stream.

        Raises:
            Unreadable: the file cannot say.
        """

    @abstractmethod
    def chain(self) -> bytes | None:
        """The digest it was begun with: that of all before it. None where there is no chain.

        Raises:
            Unreadable: the file cannot say.
        """

    @abstractmethod
    def head(self) -> bytes | None:
        """The digest of its last commit, and so of all before. None where there is no chain.

        Raises:
            Unreadable: the file cannot say.
        """

    @abstractmethod
    def anchor(self) -> Anchor | None:
        """Its last commit, to be held on to elsewhere. None where there is no chain.

        Raises:
            Unreadable: the file cannot say.
        """

    @abstractmethod
    def last_numbers(self) -> tuple[int | None, int | None]:
        """Last seq and last batch, None where there are none; of records that can be trusted.

        Raises:
            Unreadable: the last one is damaged.
        """

    @abstractmethod
    def bounds(self) -> tuple[int | None, int, int | None, int]:
        """Last seq, number of events, last batch, number of batches; None where there are none. The last ones
        are those of records whose numbers can be trusted."""

    @abstractmethod
    def events(self, after: int, limit: int) -> Iterator[Recorded | tuple[int, Unreadable]]:
        """Events in order; damage as the first number it hit and what is wrong. All when the limit is -1."""

    @abstractmethod
    def batches(self, after: int, limit: int) -> Iterator[tuple[int, SampleBatch | Unreadable]]:
        """Numbered batches in order; damage as what is wrong. All when the limit is -1."""

    @abstractmethod
    def transitions(
        self, equipment: str, after: int, from_us_: int, to_us_: int, limit: int
    ) -> Iterator[Recorded | tuple[int, Unreadable]]:
        """Transitions of one equipment with `seq > after` and `from <= at < to`, in order."""

    @abstractmethod
    def transition_before(self, equipment: str, at_us: int) -> Recorded | tuple[int, Unreadable] | None:
        """The newest transition of one equipment at or before an instant that this segment holds."""

    @abstractmethod
    def transition_up_to(self, equipment: str, seq: int) -> Recorded | tuple[int, Unreadable] | None:
        """The transition of one equipment with the highest number up to one that this segment holds."""

    @abstractmethod
    def carried_of(self, equipment: str) -> Recorded | tuple[int, Unreadable] | None:
        """The newest transition of one equipment before this segment began."""

    @abstractmethod
    def carried(self) -> Carried:
        """The newest transition of each equipment, marks and cursors as of the last commit.

        Raises:
            Unreadable: one of them is damaged.
        """

    @abstractmethod
    def problems(
        self, id_: SegmentId, last_seq: int | None, last_batch: int | None
    ) -> list[tuple[int, int, str]]:
        """Everything wrong with this file: (seq or 0, batch or 0, reason). Reads all of it.

        `last_seq` and `last_batch` say where it must end, when that is known.
        """

    def follows(self, head: bytes | None) -> bool:
        """Whether its chain goes on from the digest the segment before it ended with, as far as is known."""
        chain = self.chain()
        return head is None or chain is None or chain == head

    def integrity(self) -> list[tuple[int, int, str]]:
        """What SQLite finds wrong with the file."""
        return [
            (0, 0, str(row[0])) for row in self._db.execute("PRAGMA integrity_check(20)") if row[0] != "ok"
        ]

    def size_bytes(self) -> int:
        """Space taken, write-ahead log included."""
        size = 0
        for path in self._files:
            try:
                size += os.stat(path).st_size  # noqa: PTH116 - asked twice a commit: no path is made anew
            except FileNotFoundError:
                continue
        return size

    def log_bytes(self) -> int:
        """Size of the write-ahead log, which `finish` may add to the file."""
        return size_bytes(self._wal)

    def finish(self) -> None:
        """Fold the write-ahead log in, so that the file stands alone, and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # All rows: an error of the last step comes after the first.
        mode = self._db.execute("PRAGMA journal_mode = DELETE").fetchall()[0][0]
        self._db.close()
        if mode != "delete":
            raise sqlite3.OperationalError(f"the journal mode of {self.path} stayed {mode}")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
