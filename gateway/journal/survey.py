"""What lies in a journal's folder, who has read how far, and whether every record is what was written.

Looks from outside (see `copied`): nothing is opened for writing, and no lock is kept. Knows no sinks but by
the names of their cursors.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from gateway.errors import JournalDamaged
from gateway.journal import files, head
from gateway.journal.codec import Unreadable
from gateway.journal.copied import copy_of_newest
from gateway.journal.head import Head
from gateway.journal.reading import NOT_FOLLOWING, Reader, SegmentId
from gateway.journal.segment import Segment
from gateway.journal.values import Anchor, Cursor, Damage, JournalPosition
from statemodel.records import Recorded


class SegmentView(msgspec.Struct, frozen=True):
    """A file of the journal. `created_at` is None where it cannot say."""

    name: str
    first_seq: int
    first_batch: int
    created_at: datetime | None
    bytes: int


class Survey(msgspec.Struct, frozen=True):
    """A journal as it lies there. `holder` names the process that has it open, empty when none has.

    `growth_bytes_per_s` is over the life of the segments held; None before there is a minute of it.
    """

    directory: str
    gateway: str
    holder: str
    position: JournalPosition
    segments: tuple[SegmentView, ...]
    bytes: int
    free_bytes: int
    growth_bytes_per_s: float | None
    sinks: Mapping[str, Cursor]
    alive: Mapping[str, datetime]
    anchor: Anchor | None = None

    def hours_left(self, bytes_max: int, sink: str) -> float | None:
        """How long the journal takes what comes while a sink reads nothing more; None while nobody can say.

        At the pace of what is held, until the journal is as large as it may be or the disk is full.
        """
        if not self.growth_bytes_per_s:
            return None
        cursor = self.sinks.get(sink, Cursor())
        # What this sink has passed is freed when room is wanted, whole segments at a time.
        passed = sum(
            view.bytes
            for view, following in zip(self.segments, self.segments[1:], strict=False)
            if cursor.seq >= following.first_seq - 1 and cursor.batch >= following.first_batch - 1
        )
        room = min(bytes_max - self.bytes, self.free_bytes) + passed
        return max(0.0, room / self.growth_bytes_per_s / 3600)


class Verdict(msgspec.Struct, frozen=True):
    """One file, read to its end: how many records it holds, and all that is wrong with it."""

    name: str
    events: int
    batches: int
    damage: tuple[Damage, ...]


def look(directory: Path) -> Survey | None:
    """The journal in a folder, or None where there is none.

    Raises:
        JournalForeign, JournalDamaged: its newest part is not one that this version reads.
    """
    with tempfile.TemporaryDirectory(prefix="andon-journal-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            return None
        ids, newest = copied
        try:
            with closing(Segment.open_newest(newest)) as opened:
                origin, carried = opened.origin(), opened.carried()
                last_seq, _, last_batch, _ = opened.bounds()
                anchor = opened.anchor()
        except (sqlite3.Error, Unreadable) as error:
            raise _damaged(directory, ids, error) from error
    views = tuple(_view(directory, id_) for id_ in ids[:-1])
    size = files.size_bytes(directory / ids[-1].name) + files.size_bytes(directory / f"{ids[-1].name}-wal")
    views += (SegmentView(ids[-1].name, ids[-1].first_seq, ids[-1].first_batch, origin.created_at, size),)
    total = sum(view.bytes for view in views)
    begun_at = next((view.created_at for view in views if view.created_at is not None), origin.created_at)
    age = _written_at(directory / ids[-1].name) - begun_at
    return Survey(
        directory=str(directory),
        gateway=origin.gateway,
        holder=_holder(directory),
        position=JournalPosition(
            origin.stream,
            ids[0].first_seq,
            ids[-1].first_seq - 1 if last_seq is None else last_seq,
            ids[0].first_batch,
            ids[-1].first_batch - 1 if last_batch is None else last_batch,
        ),
        segments=views,
        bytes=total,
        free_bytes=files.free_bytes(directory),
        growth_bytes_per_s=total / age.total_seconds() if age >= timedelta(minutes=1) else None,
        sinks=carried.cursors,
        alive=carried.alive,
        anchor=anchor,
    )


def verify(directory: Path) -> Iterator[Verdict]:
    """Every record of every segment read and judged, file by file, oldest first.

    A segment that its gateway frees meanwhile is passed over.

    Raises:
        JournalForeign, JournalDamaged: the newest part is not one that this version reads at all.
    """
    noted = head.read(directory)  # before the copy is made, so that the journal cannot end before it
    with tempfile.TemporaryDirectory(prefix="andon-journal-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            return
        ids, newest = copied
        row = _Row(directory, ids[0].number)
        for place, id_ in enumerate(ids):
            path = newest if id_ == ids[-1] else directory / id_.name
            following = ids[place + 1] if id_ != ids[-1] else None
            try:
                verdict = row.judge(id_, path, following, noted)
            except FileNotFoundError as error:
                # What a gateway frees it takes from the front.
                if not any((directory / before.name).exists() for before in ids[:place]):
                    row = _Row(directory, id_.number + 1)
                    continue
                verdict = row.lost(id_, str(error.strerror))
            yield verdict


class _Row:
    """Judges one segment after the other, each by what the one before it ended with."""

    def __init__(self, directory: Path, expected: int) -> None:
        self._directory, self._expected = directory, expected
        self._head: bytes | None = None
        self._last: Mapping[str, Recorded] | None = None

    def judge(self, id_: SegmentId, path: Path, following: SegmentId | None, noted: Head | None) -> Verdict:
        """Read all of a segment; without one that follows it is the newest.

        Raises:
            FileNotFoundError: it is not there any more.
        """
        found: list[tuple[int, int, str]] = []
        if id_.number != self._expected:
            found.append((0, 0, "a segment before this one is missing"))
            self._head = self._last = None
        self._expected = id_.number + 1
        events = batches = 0
        head_before, last_before, self._head, self._last = self._head, self._last, None, None
        try:
            with closing(Segment.open_finished(path) if following else Segment.open_newest(path)) as opened:
                inside, stream = opened.identity()
                if inside != id_:
                    found.append((0, 0, f"it holds the segment {inside.name}"))
                if not opened.follows(head_before):
                    found.append((0, 0, NOT_FOLLOWING))
                self._head = opened.head()
                last_seq, events, last_batch, batches = opened.bounds()
                end = (following.first_seq - 1, following.first_batch - 1) if following else (None, None)
                found += opened.problems(id_, *end)
                if not following and (noted is not None and noted.stream == stream):
                    found += _beyond(id_, last_seq, last_batch, noted)
                if not found:
                    carried = opened.carried()
                    found += _otherwise(opened, last_before, carried.last)
                    self._last = None if found else carried.last
        except (sqlite3.Error, Unreadable) as error:
            found.append((0, 0, str(error)))
        where = str(self._directory / id_.name)
        damage = tuple(Damage(where, reason, seq, batch) for seq, batch, reason in found)
        return Verdict(id_.name, events, batches, damage)

    def lost(self, id_: SegmentId, reason: str) -> Verdict:
        """A segment that was there a moment ago, and that no gateway has freed."""
        self._expected, self._head, self._last = id_.number + 1, None, None
        return Verdict(id_.name, 0, 0, (Damage(str(self._directory / id_.name), reason),))


def _beyond(
    id_: SegmentId, last_seq: int | None, last_batch: int | None, noted: Head
) -> Iterator[tuple[int, int, str]]:
    """What the note of the newest segment knows, and the row of files does not hold any more."""
    if id_.number < noted.number:
        yield 0, 0, f"the newest segment, number {noted.number}, was removed behind it"
        return
    seq = id_.first_seq - 1 if last_seq is None else last_seq
    batch = id_.first_batch - 1 if last_batch is None else last_batch
    if id_.number == noted.number and (seq < noted.last_seq or batch < noted.last_batch):
        had = f"but {noted.last_seq} and {noted.last_batch} had been recorded"
        reason = (
            f"it ends with event {seq} and batch {batch}, {had}: it was cut, or an older copy was put back"
        )
        yield 0, 0, reason


def _otherwise(
    opened: Reader, last: Mapping[str, Recorded] | None, now: Mapping[str, Recorded]
) -> Iterator[tuple[int, int, str]]:
    """Equipment of which a segment says that it was begun with something else than the row before holds."""
    if last is None or opened.chain() is None:
        return
    for name in sorted(last.keys() | now.keys()):
        told, known = opened.carried_of(name), last.get(name)
        if (told.json if isinstance(told, Recorded) else told) != (known.json if known else None):
            yield 0, 0, f"the transition of {name} that it was begun with is not the one before it"


def _written_at(path: Path) -> datetime:
    """When the newest segment was last written to: the end of what its size says of the pace."""
    stamps = [file.stat().st_mtime for file in (path, path.with_name(path.name + "-wal")) if file.exists()]
    return datetime.fromtimestamp(max(stamps, default=0.0), UTC)


def _view(directory: Path, id_: SegmentId) -> SegmentView:
    path = directory / id_.name
    created_at = None
    try:
        with closing(Segment.open_finished(path)) as opened:
            created_at = opened.origin().created_at
    except (sqlite3.Error, Unreadable):
        pass  # `verify` says what is wrong with it
    return SegmentView(id_.name, id_.first_seq, id_.first_batch, created_at, files.size_bytes(path))


def _holder(directory: Path) -> str:
    """The process that has the journal open, as the system's list of locks tells; empty when none has.

    Taking the lock to find out would turn away a gateway that starts just then.
    """
    try:
        inode = (directory / "lock").stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    for line in held.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return fields[4]
    return ""


def _damaged(directory: Path, ids: Sequence[SegmentId], error: Exception) -> JournalDamaged:
    return JournalDamaged(
        f"the newest part of the journal, {directory / ids[-1].name}, is damaged: {error}",
        hint="restore the folder from a backup; what had reached the database is safe there",
    )
