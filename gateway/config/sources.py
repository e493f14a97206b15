"""Where the files of a configuration come from: the disk, or a set that was handed over and lies in memory.

The judge reads all its files through one of these, and with `Read` it is known afterwards which bytes it
judged: a revision holds exactly those. What is in a set is found by its name alone; nothing that stands in it
leads to the disk.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.config.problems import relative


class Files(Protocol):
    """Where files are read from."""

    def read(self, path: Path) -> bytes:
        """All bytes of a file.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        ...

    def size(self, path: Path) -> int:
        """Its length in bytes, before it is read.

        Raises:
            OSError: as `read`.
        """
        ...

    def shown(self, path: Path) -> str:
        """What people call it."""
        ...


class DiskFiles:
    """The files of this machine."""

    def read(self, path: Path) -> bytes:
        """All bytes of a file."""
        return path.read_bytes()

    def size(self, path: Path) -> int:
        """Its length in bytes."""
        return path.stat().st_size

    def shown(self, path: Path) -> str:
        """Its path, relative to where people stand when that is shorter."""
        return relative(path)


DISK = DiskFiles()


class PlainFiles(DiskFiles):
    """The files of this machine for a gateway that runs: what would be waited for, such as a pipe nobody
    writes to, or never ends, is not read."""

    def read(self, path: Path) -> bytes:
        """All bytes of a file."""
        self.size(path)
        return super().read(path)

    def size(self, path: Path) -> int:
        """Its length in bytes."""
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
        return found.st_size


PLAIN = PlainFiles()


@dataclass(frozen=True)
class SentFiles:
    """Files in memory, by their names relative to the folder of the configuration file `main`.

    The configuration file itself has the name `main_name` among them, whatever it is called on the disk.
    """

    main: Path
    main_name: str
    files: Mapping[str, bytes]

    def read(self, path: Path) -> bytes:
        """All bytes of a file of the set."""
        name = self.shown(path)
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "it is not among the files that were sent", name)
        return self.files[name]

    def size(self, path: Path) -> int:
        """Its length in bytes."""
        return len(self.read(path))

    def shown(self, path: Path) -> str:
        """Its name in the set."""
        return self.main_name if path == self.main else name_of(path, self.main.parent)


@dataclass
class Read:
    """Reads through another, and keeps what was read by its name relative to the folder of `main`."""

    inner: Files
    main: Path
    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, path: Path) -> bytes:
        """All bytes of a file, the same each time."""
        name = name_of(path, self.main.parent)
        if name not in self.files:
            self.files[name] = self.inner.read(path)
        return self.files[name]

    def size(self, path: Path) -> int:
        """Its length in bytes."""
        return self.inner.size(path)

    def shown(self, path: Path) -> str:
        """What people call it."""
        return self.inner.shown(path)


def name_of(path: Path, folder: Path) -> str:
    """The name of a file seen from a folder, `/` between levels; what lies elsewhere begins with `..`."""
    return posixpath.normpath(Path(os.path.relpath(path, folder)).as_posix())


@dataclass
class Watched:
    """Reads through another, and knows afterwards where it looked, also in vain. Calls files by their names
    seen from the folder of `main`."""

    inner: Files
    main: Path
    paths: list[Path] = field(default_factory=list)

    def read(self, path: Path) -> bytes:
        """All bytes of a file."""
        self.paths.append(path)
        return self.inner.read(path)

    def size(self, path: Path) -> int:
        """Its length in bytes."""
        self.paths.append(path)
        return self.inner.size(path)

    def shown(self, path: Path) -> str:
        """What people call it."""
        return name_of(path, self.main.parent)
