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
from gateway.journal import files
from gateway.journal.codec import Unreadable
from gateway.journal.copied import copy_of_newest
from gateway.journal.reading import NOT_FOLLOWING, SegmentId
from gateway.journal.segment import Segment
from gateway.journal.values import Anchor, Cursor, Damage, JournalPosition


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
    with tempfile.TemporaryDirectory(prefix="andon-journal-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            return
        ids, newest = copied
        ends = [*((id_.first_seq - 1, id_.first_batch - 1) for id_ in ids[1:]), (None, None)]
        expected = ids[0].number
        head: bytes | None = None
        for id_, (last_seq, last_batch) in zip(ids, ends, strict=True):
            is_newest = id_ == ids[-1]
            path = newest if is_newest else directory / id_.name
            if not is_newest and not path.exists():
                head = None
                continue
            damage: list[Damage] = []
            if id_.number != expected:
                damage.append(Damage(str(directory / id_.name), "a segment before this one is missing"))
                head = None
            expected = id_.number + 1
            events = batches = 0
            try:
                with closing(
                    Segment.open_newest(path) if is_newest else Segment.open_finished(path)
                ) as opened:
                    inside, _ = opened.identity()
                    if inside != id_:
                        reason = f"it holds the segment {inside.name}"
                        damage.append(Damage(str(directory / id_.name), reason))
                    if not opened.follows(head):
                        damage.append(Damage(str(directory / id_.name), NOT_FOLLOWING))
                    head = opened.head()
                    _, events, _, batches = opened.bounds()
                    damage += [
                        Damage(str(directory / id_.name), reason, seq, batch)
                        for seq, batch, reason in opened.problems(id_, last_seq, last_batch)
                    ]
            except (sqlite3.Error, Unreadable) as error:
                head = None
                damage.append(Damage(str(directory / id_.name), str(error)))
            yield Verdict(id_.name, events, batches, tuple(damage))


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
