"""The note of what is newest, beside the segments: what a deleted or exchanged file cannot take with it.

Written when a segment is begun, when a journal is opened, and when it is closed, then with the last numbers.
It is a floor while the journal is open, exact once it is closed. Without it, and when it cannot be read,
nothing is known: journals of before have none.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import structlog

from gateway.journal import files
from gateway.journal.values import JournalPosition

log = structlog.get_logger(__name__)


class Head(msgspec.Struct, frozen=True):
    """The newest segment and the last numbers certainly given. `closed`: there are no others."""

    stream: str
    number: int
    last_seq: int
    last_batch: int
    closed: bool


def read(directory: Path) -> Head | None:
    """What was noted last; None when nothing was, or it cannot be read.

    Raises:
        OSError: the disk refuses.
    """
    try:
        data = (directory / files.HEAD).read_bytes()
    except FileNotFoundError:
        return None
    try:
        body, checksum = data.split(b"\n")[:2]
        if zlib.crc32(body) != int(checksum, 16):
            raise ValueError("its checksum is wrong")
        return msgspec.json.decode(body, type=Head)
    except ValueError as error:  # also what msgspec raises
        log.warning(
            "the note of the newest segment cannot be read", path=str(directory / "head"), reason=str(error)
        )
        return None


def write(directory: Path, head: Head) -> None:
    """Note it, durably.

    Raises:
        OSError: the disk refuses; what was noted before stands.
    """
    body = msgspec.json.encode(head)
    files.write_whole(directory / files.HEAD, b"%s\n%08x\n" % (body, zlib.crc32(body)))


def note(directory: Path, number: int, position: JournalPosition, *, closed: bool = False) -> None:
    """Note which segment is the newest, and up to where numbers were given. Without room there is no note.

    Raises:
        OSError: the disk refuses even to let go of the note of before, which may not outlive its truth.
    """
    try:
        write(directory, Head(position.stream, number, position.last_seq, position.last_batch, closed))
    except OSError as error:
        log.warning("the newest segment cannot be noted", path=str(directory), reason=str(error))
        forget(directory)


def forget(directory: Path) -> None:
    """Know nothing any more."""
    (directory / files.HEAD).unlink(missing_ok=True)
    files.sync_directory(directory)
