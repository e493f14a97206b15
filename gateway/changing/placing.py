"""Putting the files of a configuration in their place, several at once, so that a crash leaves no mixture.

All are first written beside the old ones, under other names and synced: that is where a full disk or a
missing right shows, while nothing has changed. Then the revision is put down (`Revisions.begin`), which
decides; then the names change. Whoever starts after a crash finds the revision and goes on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from api.configuring import Revision
from gateway.changing.canonical import canonical, meaning, on_disk
from gateway.changing.revisions import Revisions
from gateway.errors import GatewayError
from gateway.journal.files import sync_directory

PART = ".part"


class NotPlaced(GatewayError):
    """A file cannot be written where it belongs; nothing has changed."""


class Placing:
    """The files of one configuration on their way to their places. `stage`, then `commit` or `drop`."""

    def __init__(self, main: Path, files: Mapping[str, str]) -> None:
        self._main = main
        self._files = files
        self._drafts: dict[str, tuple[Path, Path]] = {}
        #: What stood in the place of each file: SHA-256 of its bytes, None where there was none.
        self.before: dict[str, str | None] = {}

    def stage(self) -> None:
        """Write every file that differs beside the old one.

        Raises:
            NotPlaced: one cannot be written.
        """
        for name, text in self._files.items():
            place = on_disk(name, self._main)
            try:
                present = _bytes(place)
                if present is not None and meaning(present) == canonical(text):
                    continue
                self.before[name] = None if present is None else digest(present)
                # A link is followed: what it leads to is the file, here and for the next start.
                target = Path(os.path.realpath(place))
                target.parent.mkdir(parents=True, exist_ok=True)
                self._drafts[name] = _draft(target, text.encode()), target
            except OSError as error:
                self.drop()
                raise NotPlaced(
                    f"{place} cannot be written: {error.strerror or error}",
                    hint="let the user the gateway runs as write in the folder of its configuration, or "
                    "change the files there yourself and have them read again",
                ) from error

    @property
    def idle(self) -> bool:
        """Whether every file is in its place already."""
        return not self._drafts

    def commit(self, revisions: Revisions, revision: Revision) -> None:
        """Let the revision count, and give the files their names.

        Raises:
            NotWritten, NotPlaced: the revision does not count; the old files are in their places.
        """
        try:
            revisions.begin(revision, self.before)
        except GatewayError:
            self.drop()
            raise
        old: dict[str, bytes | None] = {}
        place = self._main
        try:
            for name, (_, place) in self._drafts.items():
                old[name] = _bytes(place)
            for draft, place in self._drafts.values():
                draft.rename(place)
                sync_directory(place.parent)
        except OSError as error:
            failed = NotPlaced(f"{place} cannot be replaced: {error.strerror or error}")
            if lost := self._put_back(old):
                failed = NotPlaced(
                    f"{failed.reason}; nor put back: {', '.join(map(str, lost))}",
                    hint="see to the disk, and put them back from the newest revision: andon config show",
                )
            revisions.give_up(revision.info, failed)
            raise failed from error
        revisions.finish(revision.info)

    def drop(self) -> None:
        """Forget what was written beside the old files."""
        for draft, _ in self._drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _put_back(self, old: Mapping[str, bytes | None]) -> list[Path]:
        """Let every file be again what it was; gives those that are not."""
        self.drop()
        lost = []
        for name, raw in old.items():
            _, target = self._drafts[name]
            try:
                if _bytes(target) == raw:
                    continue
                if raw is None:
                    target.unlink(missing_ok=True)
                else:
                    _draft(target, raw).rename(target)
                sync_directory(target.parent)
            except OSError:
                lost.append(target)
        return lost


Recovered = Literal["completed", "edited"]


def go_on(main: Path, revisions: Revisions) -> tuple[Recovered, Revision] | None:
    """Finish what a process that was killed had begun: all files of the revision that counts, in place.

    `edited`: somebody has changed a file since, so all are left as they are. None: there was nothing to do.

    Raises:
        NotPlaced: a file cannot be written.
    """
    found = revisions.pending()
    if found is None:
        return None
    revision = found.revision
    for name in revision.files:
        place = on_disk(name, main)
        try:
            _part(Path(os.path.realpath(place))).unlink(missing_ok=True)
            present = _bytes(place)
        except OSError as error:
            raise NotPlaced(
                f"{place} cannot be read: {error.strerror or error}",
                hint="a change was cut off, and it belongs to it; see to the disk and its rights",
            ) from error
        known = (
            name not in found.before or (None if present is None else digest(present)) == found.before[name]
        )
        if not known and (present is None or meaning(present) != canonical(revision.files[name])):
            revisions.finish(revision.info)
            return "edited", revision
    rest = Placing(main, {name: revision.files[name] for name in found.before})
    rest.stage()
    rest.commit(revisions, revision)
    return "completed", revision


def digest(raw: bytes) -> str:
    """SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}{PART}")


def _draft(target: Path, raw: bytes) -> Path:
    """The bytes in a file beside the target, synced, with the owner and rights of the target."""
    draft = _part(target)
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    with os.fdopen(fd, "wb") as file:
        with suppress(FileNotFoundError):
            present = target.stat()
            with suppress(PermissionError):
                os.fchown(fd, present.st_uid, present.st_gid)
            os.fchmod(fd, present.st_mode & 0o777)
        file.write(raw)
        file.flush()
        os.fsync(fd)
    return draft
