"""The audit trail on the disk: what is answered is durable, and the signed head covers it.

One thread at a time. Order of every append: the lines and fdatasync, then the head and fdatasync. So every
record that was ever acknowledged is covered by a durable head, and what lies beyond the head was promised to
nobody: a torn end there is cut, and said so in a record. Damage before the head is nobody's crash; then
nothing is written any more until a person has looked. Knows no loop and asks no clock.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from api.auditing import AuditEntry, AuditHead
from gateway.audit import folder
from gateway.audit.folder import Segment
from gateway.audit.form import (
    BEGIN,
    CUT,
    GENESIS,
    REMOVED,
    BadLine,
    Checkpoint,
    check_line,
    checkpoint_bytes,
    head_bytes,
    line_of,
)
from gateway.audit.keys import KeyUnusable, SigningKey, load_key, make_key
from gateway.journal.files import Lock, sync_directory

#: Room beyond `bytes_max` for what the trail records of itself and of its export, so that there is a way out.
OWN_BYTES: Final = 1_000_000


class TrailDamaged(Exception):
    """The trail is not what was written. Nothing is appended until a person has acted; says what it is."""


class TrailFull(Exception):
    """The trail has the size it may have."""


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes: of one segment, and of all of them."""

    segment_bytes: int = 16_000_000
    bytes_max: int = 1_000_000_000


class Standing(msgspec.Struct, frozen=True):
    """Where the trail stands, for readers in other threads: `segments` count up to what is acknowledged."""

    head: AuditHead
    segments: Sequence[Segment]
    bytes: int


class _Found(msgspec.Struct, frozen=True):
    """What the end of a segment was found to be: its last sound record and why it ends there."""

    n: int
    hash: str
    bytes: int
    bad: str
    #: Hash of the record the head is about, empty when it is not in here.
    at_head: str


class AuditStore:
    """The trail in one folder. `open` it first, and again after any failure; `close` it at the end."""

    def __init__(self, directory: Path, gateway: str, limits: Limits | None = None) -> None:
        self.directory, self._gateway = directory, gateway
        self._limits = limits or Limits()
        self._lock: Lock | None = None
        self._fd: int | None = None
        self._head_fd: int | None = None
        self._turn = 0
        self._key: SigningKey | None = None
        self._segments: list[Segment] = []
        self._head: AuditHead | None = None

    # -- opening and closing

    @property
    def is_open(self) -> bool:
        """Whether something can be appended."""
        return self._fd is not None

    def standing(self) -> Standing | None:
        """Where it stood after the last append; None when it was never opened."""
        if self._head is None:
            return None
        return Standing(self._head, tuple(self._segments), self.bytes_used)

    @property
    def bytes_used(self) -> int:
        """What all segments take."""
        return sum(one.bytes for one in self._segments)

    def open(self, now: datetime) -> None:
        """Find the end of the trail, or begin one.

        Raises:
            OSError: the disk refuses.
            JournalInUse: another process has it open.
            TrailDamaged: it is not what was written; nothing was touched.
        """
        self._let_go()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        if self._lock is None:
            self._lock = Lock(self.directory)
        segments = folder.segments_of(self.directory)
        heads = folder.heads_in(self.directory)
        key = self._key = self._the_key(anew=not segments and not heads)
        if not heads and not segments:
            folder.begin_heads(self.directory, self._signed(key, 0, GENESIS, now))
            heads = folder.heads_in(self.directory)
        head = folder.newest_sound(heads, key.public)
        if head is None:
            raise TrailDamaged("the head is missing or not signed by the key of this trail")
        point = self._checkpoint(key)
        segments = self._finish_removal(segments, point)
        cut = self._resume(segments, head, point)
        self._head_fd = os.open(self.directory / folder.HEAD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        notes = [] if self._last()[0] else [self._note(BEGIN, key=key.public)]
        if cut:
            notes.append(self._note(CUT, bytes=len(cut), sha256=hashlib.sha256(cut).hexdigest()))
        if self._fd is None:
            self._begin_segment(self._last()[0] + 1)
        if notes or self._last()[0] > head.n:
            self.append(notes, now)

    def close(self) -> None:
        """Let go of the files and of the lock."""
        self._let_go()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- appending

    def append(self, entries: Sequence[AuditEntry], now: datetime) -> int:
        """Append entries together; returns the number of the last one once all are durable.

        Raises:
            OSError: the disk refuses. None was acknowledged; some may be there all the same.
            TrailFull: there would be more than `bytes_max` and what is kept free for the way out.
        """
        assert self._fd is not None, "opened before"
        assert self._key is not None, "opened before"
        n, previous = self._last()
        lines = []
        for entry in entries:
            n += 1
            line, previous = line_of(entry, n, previous, now)
            lines.append(line)
        data = b"".join(line + b"\n" for line in lines)
        if self.bytes_used + len(data) > self._limits.bytes_max + OWN_BYTES:
            raise TrailFull(
                f"the audit trail takes {self.bytes_used} bytes of the {self._limits.bytes_max} it may"
            )
        last = self._segments[-1]
        if last.bytes and last.bytes + len(data) > self._limits.segment_bytes:
            self._begin_segment(self._last()[0] + 1)
            last = self._segments[-1]
        try:
            self._write(data)
        except OSError:
            self._undo(last.bytes)
            raise
        try:
            head = self._signed(self._key, n, previous, now)
            assert self._head_fd is not None, "opened before"
            folder.write_head(self._head_fd, self._turn, head)
        except OSError:
            self._let_go()
            raise
        self._turn += 1
        self._head, self._tip = head, (n, previous)
        self._segments[-1] = Segment(last.first_n, last.path, last.bytes + len(data))
        return n

    def remove(self, through: int, exported: str, by: AuditEntry, now: datetime) -> int:
        """Remove the oldest segments that hold only records up to `through`, under a signed checkpoint.

        `exported` is the SHA-256 of the export that has them, `by` says who wants it. Returns the last number
        removed, 0 when there is nothing to remove.

        Raises:
            OSError: the disk refuses; what was begun is finished at the next opening.
        """
        assert self._key is not None, "opened before"
        ends = [segment.first_n - 1 for segment in self._segments[1:]]
        last = max((n for n in ends if n <= through), default=0)
        if last < self._segments[0].first_n:
            return 0
        line = folder.last_line(self._segments[ends.index(last)])
        assert line is not None, "a segment that another one follows is not empty"
        hash_ = check_line(line)[2]
        detail = {"through": last, "hash": hash_, "exported": exported}
        self.append([msgspec.structs.replace(by, action=REMOVED, detail=detail)], now)
        bare = Checkpoint(last, hash_, now, exported, "", self._key.public)
        point = msgspec.structs.replace(bare, signature=self._key.sign(checkpoint_bytes(bare)))
        folder.write_checkpoint(self.directory, point)
        self._segments = self._finish_removal(self._segments, point)
        return last

    # -- inside

    def _the_key(self, *, anew: bool) -> SigningKey:
        try:
            return load_key(self.directory)
        except FileNotFoundError as error:
            if not anew:
                raise TrailDamaged("the key that signs it is missing") from error
            return make_key(self.directory)
        except KeyUnusable as error:
            raise TrailDamaged(str(error)) from error

    def _checkpoint(self, key: SigningKey) -> Checkpoint | None:
        try:
            point = folder.checkpoint_in(self.directory)
        except msgspec.MsgspecError as error:
            raise TrailDamaged("the checkpoint cannot be read") from error
        if point is not None and not folder.is_sound_checkpoint(point, key.public):
            raise TrailDamaged("the checkpoint is not signed by the key of this trail")
        return point

    def _finish_removal(self, segments: list[Segment], point: Checkpoint | None) -> list[Segment]:
        """Remove what a checkpoint allows to; the last segment always stays."""
        if point is None:
            return segments
        going = [segment for segment, after in pairwise(segments) if after.first_n <= point.n + 1]
        for segment in going:
            segment.path.unlink(missing_ok=True)
        if going:
            sync_directory(self.directory)
        return segments[len(going) :]

    def _resume(self, segments: list[Segment], head: AuditHead, point: Checkpoint | None) -> bytes:
        """Stand at the end of what is there; returns what was cut off it, which was promised to nobody."""
        before = (point.n, point.hash) if point is not None else (0, GENESIS)
        self._segments, self._head, self._tip = segments, head, before
        if not segments:
            if head.n > before[0]:
                raise TrailDamaged(f"records up to {head.n} are signed for, and there is none")
            return b""
        if len(segments) > 1:
            line = folder.last_line(segments[-2])
            if line is None:
                raise TrailDamaged(f"{segments[-2].path.name} is empty")
            n, _, hash_ = _checked(line, segments[-2])
            before = (n, hash_)
        last = segments[-1]
        if last.first_n != before[0] + 1:
            raise TrailDamaged(f"records {before[0] + 1} to {last.first_n - 1} are missing")
        found = _find_end(last, before, head.n)
        if found.n < head.n:
            why = found.bad or "the file ends"
            raise TrailDamaged(
                f"records up to {head.n} are signed for, and they end at {found.n} ({last.path.name}: {why})"
            )
        if found.at_head and found.at_head != head.hash:
            raise TrailDamaged(f"record {head.n} is not the one that was signed for")
        self._tip = (found.n, found.hash)
        self._segments[-1] = Segment(last.first_n, last.path, found.bytes)
        cut = b""
        fd = os.open(last.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if last.bytes > found.bytes:
                cut = os.pread(fd, last.bytes - found.bytes, found.bytes)
                os.ftruncate(fd, found.bytes)
                os.fdatasync(fd)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return cut

    def _last(self) -> tuple[int, str]:
        return self._tip

    def _begin_segment(self, first_n: int) -> None:
        path = folder.segment_path(self.directory, first_n)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._segments.append(Segment(first_n, path, 0))
        sync_directory(self.directory)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None, "opened before"
        written = 0
        while written < len(data):
            count = os.write(self._fd, data[written:])
            if not count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += count
        os.fdatasync(self._fd)

    def _undo(self, bytes_: int) -> None:
        """After a failed write: back to what is acknowledged, if the disk lets us."""
        assert self._fd is not None, "opened before"
        try:
            os.ftruncate(self._fd, bytes_)
        except OSError:
            pass  # the lines stand beyond the head, where opening finds them
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for fd in (self._fd, self._head_fd):
            if fd is not None:
                os.close(fd)
        self._fd = self._head_fd = None

    @staticmethod
    def _signed(key: SigningKey, n: int, hash_: str, now: datetime) -> AuditHead:
        bare = AuditHead(n, hash_, now, "", key.public)
        return msgspec.structs.replace(bare, signature=key.sign(head_bytes(bare)))

    def _note(self, action: str, **detail: str | int) -> AuditEntry:
        return AuditEntry(
            action=action,
            actor=self._gateway,
            kind="gateway",
            via="gateway",
            target="audit",
            result="ok",
            detail=detail,
        )


def _checked(line: bytes, segment: Segment) -> tuple[int, str, str]:
    try:
        return check_line(line)
    except BadLine as error:
        raise TrailDamaged(f"the last record of {segment.path.name}: {error}") from error


def _find_end(segment: Segment, before: tuple[int, str], head_n: int) -> _Found:
    """Follow the chain through a segment as far as it holds."""
    n, hash_ = before
    at_head = hash_ if n == head_n else ""
    count, bad = 0, ""
    for line in folder.lines_of(segment):
        try:
            number, previous, digest = check_line(line)
        except BadLine as error:
            bad = str(error)
            break
        if number != n + 1 or previous != hash_:
            bad = f"record {number} does not follow record {n}"
            break
        n, hash_ = number, digest
        count += len(line) + 1
        if n == head_n:
            at_head = digest
    if not bad and count < segment.bytes:
        bad = "the last line is torn"
    return _Found(n, hash_, count, bad, at_head)
