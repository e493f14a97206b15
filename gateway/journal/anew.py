"""A new stream in the folder of an old one, when the old one's numbers cannot be gone on with.

The old segments are moved, unharmed, to `set-aside/<old stream>/` inside the journal's folder. What must not
be forgotten goes over: the newest transition of each equipment, proofs of life, and what is kept under a name
that lasts. Cursors do not: they count another stream. A process killed at any instant leaves the old journal
or the new one: what is decided lies in a folder of its own first, and whoever opens the journal next ends
what was begun. Does not know why.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog

from connectors.base import Clock
from gateway.errors import StartFailed
from gateway.journal import files, segment
from gateway.journal.salvage import salvage
from gateway.journal.segment import Carried, Origin, SegmentId

log = structlog.get_logger(__name__)

#: Where old streams lie, inside the journal's folder, and the note in each.
SET_ASIDE, NOTE = "set-aside", "why.json"
_BEGUN = "anew-"
#: What is kept under names that begin so is true whatever the stream, and goes over into a new one.
LASTING = "lasting:"
_FIRST = SegmentId(1, 1, 1)


class Note(msgspec.Struct, frozen=True):
    """Why a stream was set aside, and what follows it. `stream` is empty when its files cannot say."""

    gateway: str
    stream: str
    followed_by: str
    at: str
    reason: str


class Anew(msgspec.Struct, frozen=True):
    """What was done: the stream that begins, and where the old one lies."""

    stream: str
    set_aside: Path
    reason: str


def begin_anew(
    directory: Path,
    *,
    gateway: str,
    clock: Clock,
    reason: str,
    carried: Carried | None = None,
    tell: bool = True,
) -> Anew:
    """Set the segments of a journal aside and begin a new stream in its folder.

    The caller holds the folder's lock, or is its only user. Without `carried`, what the old segments can
    still say is carried over. `reason` is told to people, here and in the folder set aside. Without `tell`
    nothing is logged: for a folder that is yet to get its name.

    Raises:
        StartFailed: the disk refuses; the old journal is as it was, or the next start ends what was begun.
    """
    try:
        end_what_was_begun(directory)
        found = salvage(directory)
        carried = found.carried if carried is None else carried
        lasting = {name: body for name, body in found.carried.kept.items() if name.startswith(LASTING)}
        carried = msgspec.structs.replace(carried, cursors={}, kept={**carried.kept, **lasting})
        folder = _free_name(directory, found.stream or "unreadable")
        origin = Origin(gateway, str(uuid4()), clock.now())
        begun = directory / f"{_BEGUN}{folder}"
        begun.mkdir(mode=0o700)
        note = Note(gateway, found.stream, origin.stream, origin.created_at.isoformat(), reason)
        files.write_whole(begun / NOTE, msgspec.json.encode(note))
        segment.create(begun, _FIRST, origin, carried)
        files.sync_directory(directory)
        _end(directory, begun)
    except (sqlite3.Error, OSError) as error:
        raise StartFailed(
            f"no new stream can be begun in {directory}: {error}",
            hint="is the disk full or failing? make room and start again; nothing of the old journal is lost",
        ) from error
    set_aside = directory / SET_ASIDE / folder
    if tell:
        log.critical(
            "the journal begins a new stream; the old one is set aside unharmed",
            reason=reason,
            old_stream=found.stream or None,
            stream=origin.stream,
            set_aside=str(set_aside),
            hint=f"what had not reached the database: andon journal import {set_aside} CONFIG",
        )
    return Anew(origin.stream, set_aside, reason)


def end_what_was_begun(directory: Path) -> None:
    """End a beginning that was cut off; take back one that had not been decided.

    Raises:
        OSError: the disk refuses.
    """
    for begun in sorted(directory.glob(f"{_BEGUN}*")):
        if (begun / _FIRST.name).exists():
            _end(directory, begun)
            continue
        first = directory / _FIRST.name
        folder = directory / SET_ASIDE / begun.name.removeprefix(_BEGUN)
        if (begun / NOTE).exists() and folder.is_dir() and first.exists():
            # All that was left to do was to move the note and drop the empty folder.
            (begun / NOTE).rename(folder / NOTE)
        for left in begun.iterdir():
            left.unlink()
        begun.rmdir()
        files.sync_directory(directory)


def _end(directory: Path, begun: Path) -> None:
    """Move the old segments away, then the new one into their place. Every step may be done already."""
    folder = directory / SET_ASIDE / begun.name.removeprefix(_BEGUN)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(directory.iterdir()):
        if path.name == files.HEAD or path.name.startswith("journal-"):
            path.rename(folder / path.name)
    for changed in (folder, folder.parent, directory):
        files.sync_directory(changed)
    (begun / _FIRST.name).rename(directory / _FIRST.name)
    files.sync_directory(directory)
    (begun / NOTE).rename(folder / NOTE)
    for left in begun.iterdir():
        left.unlink()
    begun.rmdir()
    files.sync_directory(folder)
    files.sync_directory(directory)


def _free_name(directory: Path, stream: str) -> str:
    name, n = stream, 1
    while (directory / SET_ASIDE / name).exists():
        n += 1
        name = f"{stream}-{n}"
    return name
