"""The files of the audit trail: segments of lines, the head in two slots, the checkpoint, the lock.

Knows names and bytes on the disk; what they mean is said by `form`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from api.auditing import AuditHead
from gateway.audit.form import LINE_BYTES_MAX, Checkpoint, checkpoint_bytes, head_bytes
from gateway.audit.keys import is_signed
from gateway.journal.files import write_whole

#: Name of the folder below the data directory.
FOLDER: Final = "audit"
HEAD: Final = "head"
CHECKPOINT: Final = "checkpoint"
_SLOT_BYTES: Final = 512
_PREFIX: Final = "records-"
_SUFFIX: Final = ".jsonl"


class Segment(msgspec.Struct, frozen=True):
    """A file of records that begins with number `first_n`; `bytes` is how much of it counts."""

    first_n: int
    path: Path
    bytes: int


def segment_path(directory: Path, first_n: int) -> Path:
    """Where the records from this number on are."""
    return directory / f"{_PREFIX}{first_n:012d}{_SUFFIX}"


def segments_of(directory: Path) -> list[Segment]:
    """All segments in order.

    Raises:
        OSError: the folder cannot be read.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            number = entry.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
            if entry.name == f"{_PREFIX}{number}{_SUFFIX}" and number.isascii() and number.isdigit():
                size = entry.stat(follow_symlinks=False).st_size
                found.append(Segment(int(number), Path(entry.path), size))
    return sorted(found, key=lambda segment: segment.first_n)


def lines_of(segment: Segment) -> Iterator[bytes]:
    """The whole lines of a segment, without their line feeds; what follows the last line feed is left out.

    Raises:
        OSError: it cannot be read.
    """
    with segment.path.open("rb") as file:
        left, rest = segment.bytes, b""
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            left -= len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


def rest_of(segment: Segment) -> bytes:
    """What follows the last line feed of a segment; empty when it ends with one."""
    with segment.path.open("rb") as file:
        file.seek(max(0, segment.bytes - LINE_BYTES_MAX))
        data = file.read(LINE_BYTES_MAX)
    return data[data.rfind(b"\n") + 1 :]


def last_line(segment: Segment) -> bytes | None:
    """The last whole line of a segment, None when it has none."""
    with segment.path.open("rb") as file:
        file.seek(max(0, segment.bytes - 2 * LINE_BYTES_MAX))
        data = file.read(segment.bytes - file.tell())
    whole = data[: data.rfind(b"\n") + 1]
    return whole.splitlines()[-1] if whole else None


# -- the head --------------------------------------------------------------------------------------


def heads_in(directory: Path) -> Sequence[AuditHead]:
    """The heads that can be read, sound or not; none when there is no such file.

    Two slots are written in turn, so that one of them is whole whenever the machine stops.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        data = (directory / HEAD).read_bytes()
    except FileNotFoundError:
        return ()
    found = []
    for slot in (data[:_SLOT_BYTES], data[_SLOT_BYTES : 2 * _SLOT_BYTES]):
        try:
            found.append(msgspec.json.decode(slot.rstrip(b" \n"), type=AuditHead))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return found


def newest_sound(heads: Sequence[AuditHead], key: str) -> AuditHead | None:
    """Of heads the newest that this key has signed."""
    sound = [head for head in heads if is_sound(head, key)]
    return max(sound, key=lambda head: head.n, default=None)


def is_sound(head: AuditHead, key: str) -> bool:
    """Whether a head is signed by this key."""
    return head.key == key and is_signed(head_bytes(head), head.signature, key)


def begin_heads(directory: Path, head: AuditHead) -> None:
    """Write the file of heads with one and the same head in both slots, whole."""
    write_whole(directory / HEAD, _slot(head) * 2)


def write_head(fd: int, turn: int, head: AuditHead) -> None:
    """Write a head into the slot whose turn it is, durably.

    Raises:
        OSError: the disk refuses; the other slot is as it was.
    """
    data = _slot(head)
    if os.pwrite(fd, data, turn % 2 * _SLOT_BYTES) != len(data):
        raise OSError(5, "the head was not written whole")
    os.fdatasync(fd)


def _slot(head: AuditHead) -> bytes:
    return msgspec.json.encode(head).ljust(_SLOT_BYTES - 1) + b"\n"


# -- the checkpoint --------------------------------------------------------------------------------


def checkpoint_in(directory: Path) -> Checkpoint | None:
    """The checkpoint, signed or not; None when there is none.

    Raises:
        OSError: it cannot be read.
        msgspec.MsgspecError: it is no checkpoint.
    """
    try:
        data = (directory / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Checkpoint)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def is_sound_checkpoint(point: Checkpoint, key: str) -> bool:
    """Whether a checkpoint is signed by this key."""
    return point.key == key and is_signed(checkpoint_bytes(point), point.signature, key)


def write_checkpoint(directory: Path, point: Checkpoint) -> None:
    """Write the checkpoint, whole.

    Raises:
        OSError: the disk refuses.
    """
    write_whole(directory / CHECKPOINT, msgspec.json.encode(point))
