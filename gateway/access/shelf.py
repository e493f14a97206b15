"""The folder `access` of the data directory: written whole, read bounded, locked while it changes.

The command line and a running gateway change the same files; a lock of the system keeps one from undoing what
the other does. Knows no rule about users; blocks, so that a gateway calls it in a thread.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from gateway.access.entries import Damaged, KeyFile, UserFile, decode_keys, decode_users, encode
from gateway.errors import StartFailed
from gateway.snapshots.durable import drop_drafts, whole_file
from gateway.snapshots.failures import NotWritten

FOLDER = "access"
USERS, KEYS, LOCK = "users.json", "keys.json", "lock"
#: When keys were used last, and what of users and keys is in the audit trail: neither lets anybody in.
USED, RECORDED = "used.json", "recorded.json"
#: The secret of the local command line, new at each start; that of the first admin, until it is changed.
LOCAL_KEY, FIRST_ADMIN = "local.key", "first-admin"
#: Name of the first admin.
FIRST = "admin"

FILE_BYTES_MAX = 16_000_000


class Stamp(NamedTuple):
    """What tells that a file is another one than before; all 0 where there is none."""

    inode: int = 0
    mtime_ns: int = 0
    size: int = 0


class Shelf:
    """The files of one gateway."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / FOLDER

    def prepare(self) -> None:
        """Make the folder, for us alone.

        Raises:
            StartFailed: it cannot be made or written to.
        """
        try:
            if not self.directory.exists():
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _give_to_owner(self.directory, of=self.directory.parent)
            if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "not allowed to read and write there")
            if not self.directory.is_dir():
                raise NotADirectoryError(20, "it is no folder")
        except OSError as error:
            raise StartFailed(
                f"the folder {self.directory} cannot be used: {error.strerror}",
                hint="it must belong to the user the gateway runs as; gateway.data_dir says where it is",
            ) from error

    def wide_open(self) -> Iterator[tuple[Path, str]]:
        """What others than the owner may read or write, with the mode it has."""
        for path in (self.directory, *sorted(self.directory.iterdir())):
            with suppress(FileNotFoundError):  # what another process was just writing
                mode = stat.S_IMODE(path.lstat().st_mode)
                if mode & 0o077:
                    yield path, f"{mode:04o}"

    def stamps(self) -> tuple[Stamp, Stamp]:
        """Of the file of users and that of keys."""
        return self._stamp(USERS), self._stamp(KEYS)

    def _stamp(self, name: str) -> Stamp:
        try:
            status = (self.directory / name).lstat()
        except OSError:
            return Stamp()
        return Stamp(status.st_ino, status.st_mtime_ns, status.st_size)

    def users(self) -> UserFile:
        """The users; none where there is no file yet.

        Raises:
            Damaged: the file cannot be read, or is none of ours.
        """
        data = self._read(USERS)
        return UserFile() if data is None else decode_users(data)

    def keys(self) -> KeyFile:
        """The keys; none where there is no file yet.

        Raises:
            Damaged: the file cannot be read, or is none of ours.
        """
        data = self._read(KEYS)
        return KeyFile() if data is None else decode_keys(data)

    def _read(self, name: str) -> bytes | None:
        try:
            fd = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise Damaged("it is no plain file")
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"it cannot be read: {error.strerror or error}") from error
        if len(data) > FILE_BYTES_MAX:
            raise Damaged(f"it has more than {FILE_BYTES_MAX:,} bytes")
        return data

    def write(self, file: UserFile | KeyFile) -> None:
        """Put a file in the place of the one before, whole.

        Raises:
            NotWritten: the disk refused; the one before is still there.
        """
        self.put(USERS if isinstance(file, UserFile) else KEYS, encode(file))

    def put(self, name: str, data: bytes) -> None:
        """Write a file whole, readable by its owner alone.

        Raises:
            NotWritten: the disk refused.
        """
        with whole_file(self.directory / name) as file:
            file.write(data)
            _give_to_owner(file.fileno(), of=self.directory)

    def drop_drafts(self) -> None:
        """Remove what a process that was killed had begun to write; for who holds the lock."""
        drop_drafts(self.directory)

    def table(self, name: str) -> dict[str, str]:
        """A file of names and texts; empty where there is none or it is none: nothing depends on it."""
        try:
            return msgspec.json.decode(self._read(name) or b"{}", type=dict[str, str])
        except (Damaged, msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def put_table(self, name: str, table: dict[str, str]) -> None:
        """Write such a file.

        Raises:
            NotWritten: the disk refused.
        """
        self.put(name, msgspec.json.encode(table, order="sorted"))

    def drop(self, name: str) -> None:
        """Remove a file if it is there.

        Raises:
            NotWritten: it is, and cannot be removed.
        """
        path = self.directory / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NotWritten(
                f"{path} cannot be removed: {error.strerror}", hint="remove it by hand"
            ) from error


class Changing:
    """The right to change the files, until the block ends. The system lets go when the process ends."""

    def __init__(self, shelf: Shelf) -> None:
        self._path = shelf.directory / LOCK
        self._fd = -1

    def take(self, *, wait: bool) -> bool:
        """Take it; False when another process has it, and `wait` is not asked for.

        Raises:
            NotWritten: there is no such folder, or it is not ours.
        """
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                _give_to_owner(self._fd, of=self._path.parent)
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            raise NotWritten(
                f"{self._path} cannot be written: {error.strerror}",
                hint="run this as the user the gateway runs as",
            ) from error
        return True

    def release(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Changing:
        self.take(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _give_to_owner(made: Path | int, *, of: Path) -> None:
    """What root makes belongs to whom the folder belongs, or the gateway could not read it."""
    if os.geteuid() == 0:
        owner = of.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
