"""Files that are there whole or not at all: written under another name, synced, renamed, the folder synced.

Knows nothing of what they hold.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gateway.journal.files import sync_directory
from gateway.snapshots.failures import NotWritten

#: End of the name of a file that is still being written.
PART = ".part"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def whole_file(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when the block ends well and is gone when it does not.

    Raises:
        NotWritten: the disk refused; what stood under the name before still does.
    """
    draft = path.with_name(f".{path.name}{PART}")
    try:
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(fd, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            sync_directory(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise NotWritten(
            f"{path} cannot be written: {error.strerror or error}",
            hint="is there room on the disk, and may this user write there?",
        ) from error


def drop_drafts(directory: Path) -> None:
    """Remove what a process that was killed had begun to write."""
    for draft in directory.glob(f".*{PART}"):
        draft.unlink(missing_ok=True)


def sync_tree(root: Path) -> None:
    """Make a folder that was just filled durable: its files were synced by whoever wrote them."""
    for folder, _, _ in os.walk(root, topdown=False):
        sync_directory(Path(folder))


def swap(new: Path, old: Path) -> bool:
    """Let two folders change names in one step; False where the file system cannot (nothing is changed).

    Raises:
        OSError: it refused for another reason.
    """
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    if exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code))
