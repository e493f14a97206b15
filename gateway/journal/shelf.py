"""The segments of a journal in a row, to be read across: what is asked for lies in one or some of them.

Damage met while reading is noted, not raised. It does not write, and knows nothing of sinks.
"""

from __future__ import annotations

import bisect
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from gateway.journal.codec import Unreadable, to_us
from gateway.journal.reading import NOT_FOLLOWING, Reader, SegmentId
from gateway.journal.segment import Segment
from gateway.journal.values import Damage, JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch

_BEGINNING_US, _END_US = -(2**62), 2**62
_MICROSECOND = timedelta(microseconds=1)
#: Finished segments held open for reading.
_OPEN_MAX = 2


class Shelf(ABC):
    """Segments in order, the newest of them open for writing."""

    def __init__(
        self, directory: Path, ids: Sequence[SegmentId], newest: Segment, position: JournalPosition
    ) -> None:
        self.directory, self.position = directory, position
        self.ids = list(ids)
        self._newest = newest
        self._open: dict[SegmentId, Reader] = {}
        self._damaged: dict[tuple[str, int, int], Damage] = {}

    @property
    def damaged_count(self) -> int:
        """Damaged parts that reading has met so far."""
        return len(self._damaged)

    @abstractmethod
    def check(self) -> None:
        """Refuse everything once a write has failed.

        Raises:
            JournalFailed: one has.
        """

    @abstractmethod
    def note(self, id_: SegmentId, reason: str, *, seq: int = 0, batch: int = 0, lost: bool = True) -> None:
        """Tell that a part cannot be read."""

    @abstractmethod
    def _fail(self, what: str, error: Exception) -> NoReturn: ...

    def read(self, after: int, limit: int) -> list[Recorded]:
        """Events with `seq > after`, in order. Damaged ones are left out and noted."""
        found: list[Recorded] = []
        for id_ in self.ids[self._index(after + 1, lambda i: i.first_seq) :]:
            with self._reading(id_) as opened:
                for item in opened.events(after, limit - len(found)) if opened else ():
                    if isinstance(item, Recorded):
                        found.append(item)
                    else:
                        self.note(id_, str(item[1]), seq=item[0])
            if len(found) >= limit:
                break
        return found

    def read_batches(self, after: int, limit: int, samples_max: int) -> list[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order, until there are enough samples."""
        found: list[tuple[int, SampleBatch]] = []
        samples = 0
        for id_ in self.ids[self._index(after + 1, lambda i: i.first_batch) :]:
            with self._reading(id_) as opened:
                for number, batch in opened.batches(after, limit - len(found)) if opened else ():
                    if isinstance(batch, Unreadable):
                        self.note(id_, str(batch), batch=number)
                        continue
                    found.append((number, batch))
                    samples += len(batch.samples)
                    if samples >= samples_max:
                        return found
            if len(found) >= limit:
                break
        return found

    def transitions(
        self, equipment: str, after: int, from_: datetime | None, to: datetime | None, limit: int
    ) -> list[Recorded]:
        """Transitions of one equipment with `seq > after` and `from <= at < to`, in order."""
        within = (_BEGINNING_US if from_ is None else to_us(from_), _END_US if to is None else to_us(to))
        found: list[Recorded] = []
        for id_ in self.ids[self._index(after + 1, lambda i: i.first_seq) :]:
            with self._reading(id_) as opened:
                if opened is None:
                    continue
                for item in opened.transitions(equipment, after, *within, limit - len(found)):
                    if isinstance(item, Recorded):
                        found.append(item)
                    else:
                        self.note(id_, str(item[1]), seq=item[0])
            if len(found) >= limit:
                break
        return found

    def transition_before(self, equipment: str, at: datetime) -> Recorded | None:
        """The newest transition of one equipment at or before an instant."""
        for id_ in reversed(self.ids):
            with self._reading(id_) as opened:
                if opened is None:
                    continue
                for item in (opened.transition_before(equipment, to_us(at)), opened.carried_of(equipment)):
                    if isinstance(item, Recorded):
                        if item.at <= at:
                            return item
                    elif item is not None:
                        self.note(id_, str(item[1]), seq=item[0])
        return None

    def around(
        self, equipment: str, from_: datetime, to: datetime, limit: int
    ) -> tuple[Recorded | None, list[Recorded] | None]:
        """The newest transition of one equipment at or before an instant, and those with `from < at < to`;
        None in their place where some of them may have been freed."""
        before = self.transition_before(equipment, from_)
        if before is None and self.position.first_seq > 1:
            return None, None
        return before, self.transitions(equipment, 0, from_ + _MICROSECOND, to, limit)

    def transition_up_to(self, equipment: str, seq: int) -> Recorded | None:
        """The transition of one equipment with the highest number up to one."""
        for id_ in reversed(self.ids[: self._index(seq, lambda i: i.first_seq) + 1]):
            with self._reading(id_) as opened:
                if opened is None:
                    continue
                for item in (opened.transition_up_to(equipment, seq), opened.carried_of(equipment)):
                    if isinstance(item, Recorded):
                        if item.seq <= seq:
                            return item
                    elif item is not None:
                        self.note(id_, str(item[1]), seq=item[0])
        return None

    def damage_in(self, index: int) -> list[Damage] | None:
        """Everything wrong with the segment at a place in the row; None beyond its end."""
        if index >= len(self.ids):
            return None
        id_ = self.ids[index]
        following = self.ids[index + 1] if index + 1 < len(self.ids) else None
        last_seq = following.first_seq - 1 if following else self.position.last_seq
        last_batch = following.first_batch - 1 if following else self.position.last_batch
        found: list[tuple[int, int, str]] = []
        before: bytes | None = None
        if index:
            with self._reading(self.ids[index - 1]) as opened:
                before = None if opened is None else opened.head()
        with self._reading(id_) as opened:
            if opened is not None:
                found = opened.problems(id_, last_seq, last_batch)
                if not opened.follows(before):
                    found.append((0, 0, NOT_FOLLOWING))
        path = str(self.directory / id_.name)
        unreadable = self._damaged.get((id_.name, 0, 0))
        told = [Damage(path, reason, seq, batch) for seq, batch, reason in found]
        return told if unreadable is None or unreadable in told else [*told, unreadable]

    @contextmanager
    def _reading(self, id_: SegmentId) -> Iterator[Reader | None]:
        """The opened segment, or None when it cannot be; damage met while reading is noted, not raised."""
        self.check()
        opened = self._opened(id_)
        try:
            yield opened
        except (sqlite3.Error, Unreadable) as error:
            if opened is self._newest:
                self._fail("reading the newest segment", error)
            self.note(id_, str(error))
            if closed := self._open.pop(id_, None):
                closed.close()

    def _opened(self, id_: SegmentId) -> Reader | None:
        if id_ == self.ids[-1]:
            return self._newest
        if id_ not in self._open:
            while len(self._open) >= _OPEN_MAX:
                self._open.pop(next(iter(self._open))).close()
            try:
                self._open[id_] = Segment.open_finished(self.directory / id_.name)
            except sqlite3.Error as error:
                self.note(id_, str(error))
                return None
        return self._open[id_]

    def _index(self, number: int, first: Callable[[SegmentId], int]) -> int:
        """Place of the segment that holds a number."""
        return max(0, bisect.bisect_right(self.ids, number, key=first) - 1)
