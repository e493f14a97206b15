"""Configurations that ran, each with who wanted it and why, under `data_dir/revisions`.

One file a revision, written whole. One that is to run begins as `NUMBER.next` beside the finished ones: from
the moment it has that name the new configuration is what counts, and whoever finds it after a crash goes on
where the writing ended (see `placing`). Knows nothing of what the files mean; secrets stand in them as
references only, since no configuration with a secret in the clear gets as far as this.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from api.configuring import Revision, RevisionInfo
from gateway.changing.canonical import hash_of
from gateway.errors import GatewayError, StartFailed
from gateway.journal.files import sync_directory
from gateway.snapshots.durable import drop_drafts, whole_file
from gateway.snapshots.failures import NotWritten

#: Revisions kept, and what all of them may take on the disk; the two newest are kept in any case.
KEEP_MAX = 200
KEEP_BYTES_MAX = 200_000_000
_FORM = 1
_DONE, _NEXT = ".json", ".next"


class _Kept(msgspec.Struct):
    """A revision as it lies on the disk. `before` tells of one that is being written which bytes (SHA-256)
    stood in its place, None where there was no file."""

    form: int
    info: RevisionInfo
    files: dict[str, str]
    before: dict[str, str | None] = {}


class Pending(msgspec.Struct, frozen=True):
    """A revision that was being written when the process ended."""

    revision: Revision
    before: Mapping[str, str | None]


class Revisions:
    """The revisions in one folder. One process writes at a time: the one that holds the journal."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "revisions"
        self._known: dict[int, RevisionInfo] = {}
        #: Files that are no sound revision, for the log.
        self.unreadable: tuple[str, ...] = ()

    def open(self) -> None:
        """Make the folder, for us alone, and see what is there.

        Raises:
            StartFailed: it cannot be used.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if stat.S_IMODE(self.folder.stat().st_mode) & 0o077:
                self.folder.chmod(0o700)
            drop_drafts(self.folder)
            found = [self._read(path) for path in sorted(self.folder.glob(f"*{_DONE}"))]
        except OSError as error:
            raise StartFailed(
                f"the folder {self.folder} cannot be used: {error.strerror or error}",
                hint="it must belong to the user the gateway runs as",
            ) from error
        self._known = {kept.info.number: kept.info for kept in found if isinstance(kept, _Kept)}
        self.unreadable = tuple(kept for kept in found if isinstance(kept, str))

    def infos(self) -> tuple[RevisionInfo, ...]:
        """All of them, the newest first."""
        return tuple(self._known[number] for number in sorted(self._known, reverse=True))

    def newest(self) -> RevisionInfo | None:
        """The one that runs, or ran last."""
        return self._known[max(self._known)] if self._known else None

    def next_number(self) -> int:
        """The number the next one gets."""
        return max(self._known, default=0) + 1

    def read(self, number: int) -> Revision | None:
        """One of them with its files; None when there is none, or it is damaged."""
        if number not in self._known:
            return None
        kept = self._read(self._path(number, _DONE))
        return Revision(kept.info, kept.files) if isinstance(kept, _Kept) else None

    # -- writing -----------------------------------------------------------------------------------

    def begin(self, revision: Revision, before: Mapping[str, str | None]) -> None:
        """Put a revision down durably as the one that counts from now on.

        Raises:
            NotWritten: the disk refused; nothing has changed.
        """
        kept = _Kept(_FORM, revision.info, dict(revision.files), dict(before))
        try:
            with whole_file(self._path(revision.info.number, _NEXT)) as file:
                file.write(msgspec.json.encode(kept))
        except NotWritten as failed:  # it may have its name all the same, and only the folder not be synced
            self.give_up(revision.info, failed)
            raise

    def finish(self, info: RevisionInfo) -> None:
        """The files of the revision begun last are all in their place."""
        with suppress(OSError):  # it counts already; the next start gives it its name
            self._path(info.number, _NEXT).rename(self._path(info.number, _DONE))
            sync_directory(self.folder)
        self._known[info.number] = info
        self._drop_old()

    def give_up(self, info: RevisionInfo, why: GatewayError) -> None:
        """The revision begun last does not come about.

        Raises:
            NotWritten: nor can it be taken away, so that the next start would take it up; it says `why` too.
        """
        note = self._path(info.number, _NEXT)
        try:
            note.unlink(missing_ok=True)
            sync_directory(self.folder)
        except OSError as error:
            raise NotWritten(
                f"{why.reason}; and {note} cannot be removed: {error.strerror or error}",
                hint=f"see to the disk, and remove {note} before the next start if it is still there: "
                "that start would run the new configuration",
            ) from error

    def add(self, revision: Revision) -> None:
        """Keep a revision whose files are in their place already.

        Raises:
            NotWritten: the disk refused; nothing has changed.
        """
        self.begin(revision, {})
        self.finish(revision.info)

    def pending(self) -> Pending | None:
        """The revision that was being written when the process ended, if one was."""
        done = max((path.stem for path in self.folder.glob(f"*{_DONE}")), default="")
        for path in sorted(self.folder.glob(f"*{_NEXT}"), reverse=True):
            kept = self._read(path)
            if isinstance(kept, _Kept) and path.stem > done:  # what came after it counts more
                return Pending(Revision(kept.info, kept.files), kept.before)
        return None

    # -- within ------------------------------------------------------------------------------------

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:06d}{ending}"

    def _read(self, path: Path) -> _Kept | str:
        """A revision, or why its file is none."""
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"{path.name}: {error}"
        if kept.form != _FORM:
            return f"{path.name}: written by another version"
        if hash_of(kept.files) != kept.info.hash or path.stem != f"{kept.info.number:06d}":
            return f"{path.name}: its files are not those it was written with"
        return kept

    def _drop_old(self) -> None:
        sizes = {number: _size(self._path(number, _DONE)) for number in self._known}
        left = sorted(self._known)
        while len(left) > 2 and (
            len(left) > KEEP_MAX or sum(sizes[number] for number in left) > KEEP_BYTES_MAX
        ):
            number = left.pop(0)
            with suppress(OSError):  # the next change, or start, finds it again
                self._path(number, _DONE).unlink(missing_ok=True)
                del self._known[number]


def _size(path: Path) -> int:
    """Its bytes; 0 where it is not there or the disk does not tell."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
