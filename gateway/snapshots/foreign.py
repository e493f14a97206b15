"""A journal's folder as something to read portions from: set aside, restored, or brought from elsewhere.

Nothing in the folder is changed: the newest segment is read in a copy. What cannot be read is left out and
remembered. Knows no database.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.errors import JournalDamaged, JournalForeign
from gateway.journal.codec import Unreadable
from gateway.journal.copied import copy_of_newest, segments_in
from gateway.journal.segment import Origin, Reader, Segment, SegmentId, check_header
from gateway.journal.values import Damage, JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch

_DAMAGE_KEPT = 1_000


class ForeignJournal:
    """All segments of one stream in a folder. Gives what `gateway.historian.portions` reads from."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        """Find out whose it is and what it holds; `scratch` takes a copy of the newest segment.

        Raises:
            JournalForeign: there is no journal, or a newer version wrote it.
            JournalDamaged: no segment of it can be read.
        """
        self.directory = directory
        self.damage: list[Damage] = []
        ids = segments_in(directory)
        if not ids:
            raise JournalForeign(
                f"there is no journal in {directory}",
                hint="name the folder that holds the journal-….db files, such as "
                "DATA_DIR/journal/set-aside/STREAM",
            )
        self._ids = list(ids)
        self._copy = self._newest_of(scratch)
        self._open: tuple[SegmentId, Reader] | None = None
        origin, last = self._look()
        self.gateway, self.stream = origin.gateway, origin.stream
        first = self._ids[0]
        self._position = JournalPosition(self.stream, first.first_seq, last[0], first.first_batch, last[1])

    @property
    def position(self) -> JournalPosition:
        """What is held, as far as its numbers can be trusted."""
        return self._position

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order."""
        found: list[Recorded] = []
        for id_ in self._from(after + 1, lambda i: i.first_seq):
            opened = self._opened(id_)
            try:
                for item in opened.events(after, limit - len(found)) if opened else ():
                    if isinstance(item, Recorded):
                        found.append(item)
                    else:
                        self._note(id_, str(item[1]), seq=item[0])
            except sqlite3.Error as error:
                self._note(id_, str(error))
            if len(found) >= limit:
                break
        return found

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order, until there are enough samples."""
        found: list[tuple[int, SampleBatch]] = []
        samples = 0
        for id_ in self._from(after + 1, lambda i: i.first_batch):
            opened = self._opened(id_)
            try:
                for number, batch in opened.batches(after, limit - len(found)) if opened else ():
                    if isinstance(batch, Unreadable):
                        self._note(id_, str(batch), batch=number)
                        continue
                    found.append((number, batch))
                    samples += len(batch.samples)
                    if samples >= samples_max:
                        return found
            except sqlite3.Error as error:
                self._note(id_, str(error))
            if len(found) >= limit:
                break
        return found

    def close(self) -> None:
        """Let go of what is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    # -- inside

    def _newest_of(self, scratch: Path) -> Path | None:
        try:
            copied = copy_of_newest(self.directory, scratch)
        except JournalDamaged as error:
            self._note(self._ids[-1], error.reason)
            return None
        return None if copied is None else copied[1]

    def _look(self) -> tuple[Origin, tuple[int, int]]:
        """Whose it is, and its last event and batch."""
        newest = self._ids[-1]
        last = (newest.first_seq - 1, newest.first_batch - 1)
        origin: Origin | None = None
        for id_ in reversed(self._ids):
            opened = self._opened(id_)
            if opened is None:
                continue
            try:
                if id_ == newest:
                    seq, _, batch, _ = opened.bounds()
                    last = (seq or last[0], batch or last[1])
                origin = opened.origin()
                break
            except (sqlite3.Error, Unreadable) as error:
                self._note(id_, str(error))
        if origin is None:
            raise JournalDamaged(
                f"no segment in {self.directory} can be read: {self.damage[0].reason}",
                hint="restore the folder from a backup",
            )
        return origin, last

    def _from(self, number: int, first: Callable[[SegmentId], int]) -> Sequence[SegmentId]:
        return self._ids[max(0, bisect.bisect_right(self._ids, number, key=first) - 1) :]

    def _opened(self, id_: SegmentId) -> Reader | None:
        if self._open is not None and self._open[0] == id_:
            return self._open[1]
        self.close()
        path = self.directory / id_.name
        try:
            if id_ == self._ids[-1]:
                if self._copy is None:
                    return None
                opened = Segment.open_newest(self._copy)
            else:
                check_header(path)
                opened = Segment.open_finished(path)
        except (sqlite3.Error, OSError) as error:
            self._note(id_, str(error))
            return None
        self._open = (id_, opened)
        return opened

    def _note(self, id_: SegmentId, reason: str, *, seq: int = 0, batch: int = 0) -> None:
        damage = Damage(str(self.directory / id_.name), reason, seq, batch)
        if damage not in self.damage and len(self.damage) < _DAMAGE_KEPT:
            self.damage.append(damage)
