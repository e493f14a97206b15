"""What the journal needs of a file system besides SQLite: a lock, a reserve, durable names."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from gateway.errors import JournalInUse, StartFailed

#: Space set aside so that a journal on a full disk can still be opened, read and emptied.
BALLAST_BYTES = 16 * 1024 * 1024
#: The note of what is newest, see `head`.
HEAD = "head"


def prepare(directory: Path) -> None:
    """Make the directory, for us alone.

    Raises:
        StartFailed: it cannot be made or written to.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "not allowed to read and write there")
    except OSError as error:
        raise StartFailed(
            f"the journal folder {directory} cannot be used: {error.strerror}",
            hint="check that gateway.data_dir exists and belongs to the user the gateway runs as",
        ) from error


class Lock:
    """Holds a journal for one process. The system lets go when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Take it.

        Raises:
            JournalInUse: another process has it; says which.
            StartFailed: its file cannot be written.
        """
        self.path = directory / "lock"
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartFailed(
                f"the lock of the journal, {self.path}, cannot be written: {error.strerror}",
                hint="it must be a plain file of the user the gateway runs as; remove it if no gateway runs",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise JournalInUse(
                f"the journal in {directory} is in use by the process with id {holder}",
                hint="stop that gateway first, or give this one a data_dir of its own",
            ) from error
        with suppress(OSError):  # on a full disk nobody learns who holds it, and it holds all the same
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._fd)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file, all or nothing: under another name first, durable, then renamed.

    Raises:
        OSError: the disk refuses; an older file of this name is as it was.
    """
    draft = path.with_name(path.name + ".draft")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(path)
    sync_directory(path.parent)


def settle(path: Path, *, bytes_max: int | None = None) -> None:
    """Make what a file holds durable, whoever wrote it; with `bytes_max` no more than that.

    Raises:
        OSError: the disk refuses.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if bytes_max is not None:
            os.ftruncate(fd, bytes_max)
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(directory: Path) -> int:
    """Space left on the disk for a process without privileges."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def is_there(path: Path) -> bool:
    """Whether a file can be seen; no when nobody may look."""
    return os.path.exists(path)  # noqa: PTH110 - unlike Path.exists it raises nothing


def size_bytes(path: Path) -> int:
    """Size of a file; 0 when it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def ballast_bytes(directory: Path) -> int:
    """What is left of the reserve; a link in its place is none."""
    return reserve_bytes(str(directory / "ballast"))


def reserve_bytes(path: str) -> int:
    """The same, by the path of the reserve itself: asked with every append, and no path is made anew."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def set_ballast_aside(directory: Path) -> None:
    """Take the reserve, or make it whole again, while there is ample room."""
    path = directory / "ballast"
    if ballast_bytes(directory) == BALLAST_BYTES or free_bytes(directory) < 4 * BALLAST_BYTES:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # nothing fails for want of a reserve
    try:
        os.posix_fallocate(fd, 0, BALLAST_BYTES)
    except OSError:
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def spend_ballast(directory: Path, wanted: int) -> bool:
    """Shorten the reserve by what is wanted, so that nobody else gets the rest; whether there was any."""
    held = ballast_bytes(directory)
    if not held:
        return False
    path = directory / "ballast"
    if held <= wanted:
        path.unlink(missing_ok=True)
    else:
        os.truncate(path, held - wanted)
    return True


def give_up_ballast(directory: Path) -> None:
    """Spend of the reserve when the disk is full: what is read and freed next needs a little room."""
    if (short := BALLAST_BYTES // 4 - free_bytes(directory)) > 0:
        spend_ballast(directory, short)
