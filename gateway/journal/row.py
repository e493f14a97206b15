"""Whether the segments in a folder are one unbroken row: what files copied, put back or deleted by hand do.

Numbers that would be used again are refused, because others have heard of them already; what is only missing
is told, and the gateway goes on. Looks at the end of each file only; what lies within is checked when read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from gateway.errors import JournalDamaged
from gateway.journal import files
from gateway.journal.codec import Unreadable
from gateway.journal.reading import NOT_FOLLOWING
from gateway.journal.segment import Origin, Segment, SegmentId
from gateway.journal.values import Damage

_LOG = "-wal"


class Uncertain(Exception):
    """The newest segment cannot say which number was the last: numbering must not go on from it."""


def refuse_what_was_removed(directory: Path, ids: Sequence[SegmentId]) -> None:
    """Look for folders named like a segment, and for logs whose segment is gone.

    Raises:
        JournalDamaged: something else stands in the place of a segment.
        Uncertain: the newest segment is gone; numbering that went on without it would use its numbers again.
    """
    for id_ in ids:
        if (directory / id_.name).is_dir():
            raise JournalDamaged(
                f"{directory / id_.name} is a folder, where a segment of the journal should be",
                hint="move it out of the journal's folder, and put back the file of that name if you have it",
            )
    newest = ids[-1].number if ids else 0
    for log in sorted(directory.glob(f"journal-*.db{_LOG}")):
        id_of_log = SegmentId.parse(log.name.removesuffix(_LOG))
        if id_of_log is None or id_of_log in ids or not files.size_bytes(log):
            continue
        if id_of_log.number >= newest:
            raise Uncertain(f"{log} is left of the newest segment of the journal, whose file is gone")


def check_row(
    directory: Path, ids: Sequence[SegmentId], origin: Origin
) -> Sequence[tuple[SegmentId, Damage]]:
    """What is missing between segments, each with the segment that follows; and whether the newest follows.

    A finished segment that cannot be read says nothing here; that is told when somebody reads it.

    Raises:
        JournalDamaged: a file is not the segment its name says, or two hold the same numbers.
    """
    missing: list[tuple[SegmentId, Damage]] = []
    for id_ in ids:
        _check_name(directory, id_, origin)
    for before, after in pairwise(ids):
        last = _last_of(directory, before)
        floor = last or (before.first_seq - 1, before.first_batch - 1)
        path = directory / after.name
        if after.number == before.number or after.first_seq <= floor[0] or after.first_batch <= floor[1]:
            raise JournalDamaged(
                f"{directory / before.name} and {path} hold the same numbers: one is a copy, or was put back",
                hint="move the one that does not belong there out of the folder",
            )
        whole = last is None or (after.first_seq, after.first_batch) == (last[0] + 1, last[1] + 1)
        if after.number == before.number + 1 and whole:
            if after == ids[-1] and not _follows(directory, before, after):
                missing.append((after, Damage(str(path), NOT_FOLLOWING)))
            continue
        seq, batch = floor[0] + 1, floor[1] + 1
        reason = (
            f"what lies between {before.name} and this segment is missing"
            if last is None
            else f"events {seq} to {after.first_seq - 1} and batches {batch} to {after.first_batch - 1}, "
            "which lie before this segment, are missing"
        )
        missing.append((after, Damage(str(path), reason, seq, batch)))
    return missing


def _check_name(directory: Path, id_: SegmentId, origin: Origin) -> None:
    path = directory / id_.name
    try:
        opened = Segment.open_finished(path)
        try:
            inside, stream = opened.identity()
        finally:
            opened.close()
    except (sqlite3.Error, Unreadable):
        return
    if inside != id_:
        raise JournalDamaged(
            f"{path} holds the segment {inside.name}: it is a copy under another name",
            hint="give it its own name back, or move it out of the folder if that one is there",
        )
    if stream != origin.stream:
        raise JournalDamaged(
            f"{path} is a segment of another journal than the newest one",
            hint="move it out of the folder",
        )


def _follows(directory: Path, before: SegmentId, newest: SegmentId) -> bool:
    """Whether the chain of the newest segment goes on from the last digest of the one before it; yes where
    one of them cannot say. Of each only a row is read."""
    try:
        with closing(Segment.open_finished(directory / before.name)) as opened:
            digest = opened.head()
        with closing(Segment.open_finished(directory / newest.name)) as opened:
            return opened.follows(digest)
    except (sqlite3.Error, Unreadable):
        return True


def _last_of(directory: Path, id_: SegmentId) -> tuple[int, int] | None:
    """The last event and batch of a finished segment, or None when it cannot say."""
    try:
        opened = Segment.open_finished(directory / id_.name)
        try:
            seq, batch = opened.last_numbers()
        finally:
            opened.close()
    except (sqlite3.Error, Unreadable):
        return None
    return (id_.first_seq - 1 if seq is None else seq, id_.first_batch - 1 if batch is None else batch)
