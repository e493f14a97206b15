"""Making a backup of a whole gateway, whether it runs or not, and judging one that was made.

The journal is read from outside (see `gateway.journal.copied`); everything else is plain files. The backup
gets its name only when it has been read back and every file in it is what was written.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from gateway.control import ledger
from gateway.errors import GatewayError
from gateway.journal.copied import copy_of_newest
from gateway.journal.survey import look
from gateway.snapshots.archive import (
    MANIFEST,
    READ_BYTES,
    SUFFIX,
    FileTold,
    Head,
    Manifest,
    check_sum,
    differences,
    members,
    read_all,
    read_head,
    read_manifest,
)
from gateway.snapshots.contents import Contents, Source, contents_of
from gateway.snapshots.database import DUMP, dump, has_database
from gateway.snapshots.durable import PART, whole_file
from gateway.snapshots.failures import FileRefused, NotWritten, TargetRefused
from gateway.snapshots.packing import ArchiveWriter

#: How the name of a backup ends that somebody chose; any other new name is taken for a folder.
_ENDING = ".zst"
#: No backup takes so long: what is older was left by one that was killed.
_DRAFT_AGE_S = 86_400.0
#: Read when it is opened, before the files it vouches for: a head must not be newer than its records.
_BEFORE_THEIR_RECORDS = frozenset(("data/audit/head", "data/audit/checkpoint"))


class Made(msgspec.Struct, frozen=True):
    """A backup that was made and verified."""

    file: str
    bytes: int
    head: Head
    left_out: tuple[str, ...]


class Listed(msgspec.Struct, frozen=True):
    """A file that looks like a backup; what is wrong with its head, if something is."""

    file: str
    bytes: int
    head: Head | None
    problem: str = ""


@dataclass(frozen=True)
class _Open:
    """A file that is open and will be copied as long as it is now."""

    source: Source
    file: BinaryIO
    size: int
    mode: int


def make(
    config: Path,
    to: Path | None,
    *,
    secret: str | None,
    with_secrets: bool,
    version: str,
    now: datetime,
    with_database: bool = True,
) -> Made:
    """Write a backup of the gateway of a configuration. Not for a running event loop.

    Raises:
        StartFailed: the embedded database cannot be dumped.
        ConfigurationRefused: the configuration cannot be read.
        JournalForeign, JournalDamaged, TooBusy: its journal cannot be read.
        TargetRefused: something that is no backup has the name.
        NotWritten: the disk refused, or a file changed meanwhile; there is no backup then.
    """
    contents = contents_of(config, keys=bool(secret) or with_secrets, secrets=with_secrets)
    target = to or default_name(contents, now)
    if target.is_dir() or (not target.exists() and target.suffix != _ENDING):
        target = target / default_name(contents, now).name
    _refuse_to_replace(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_drafts(target, contents.gateway, now)
        scratch = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PART, dir=target.parent)
    except OSError as error:
        raise NotWritten(
            f"{target} cannot be written: {error.strerror}", hint="choose another --to"
        ) from error
    try:
        with ExitStack() as stack:
            # The database first: what it does not have yet is then in the journal.
            _database_of(contents, Path(scratch), wanted=with_database)
            _ledger_of(contents, Path(scratch))
            stream, seq, batch = _journal_of(contents, Path(scratch))
            opened = _open_all(contents, stack)
            head = Head(
                at=now,
                gateway=contents.gateway,
                version=version,
                configuration=contents.configuration.name,
                stream=stream,
                seq=seq,
                batch=batch,
                files=len(opened),
                bytes=sum(item.size for item in opened),
                secrets=any(item.source.secret for item in opened),
            )
            with whole_file(target) as file:
                _write(file, head, opened, contents, secret)
                file.flush()
                os.fsync(file.fileno())
                _verify_draft(target, secret)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Made(str(target), target.stat().st_size, read_head(target), tuple(contents.left_out))


def _clear_drafts(target: Path, gateway: str, now: datetime) -> None:
    """Remove what backups left that were killed: of the same name, and of this gateway once none that old
    can still be under way."""
    for draft in target.parent.glob(f".*{PART}"):
        if draft.name.startswith(f".{target.name}") or (
            draft.name.startswith(f".{gateway}-2")
            and SUFFIX in draft.name
            and now.timestamp() - draft.lstat().st_mtime > _DRAFT_AGE_S
        ):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def default_name(contents: Contents, now: datetime) -> Path:
    """Where a backup goes that nobody named: beside the data directory, not in it."""
    folder = contents.data_dir.parent / "backups"
    return folder / f"{contents.gateway}-{now.strftime('%Y%m%dT%H%M%SZ')}{SUFFIX}"


def _refuse_to_replace(target: Path) -> None:
    if not target.exists():
        return
    try:
        read_head(target)
    except FileRefused as error:
        raise TargetRefused(
            f"{target} is there already, and is no backup",
            hint=f"name a folder with --to, or a file that ends in {SUFFIX}",
        ) from error


def _database_of(contents: Contents, scratch: Path, *, wanted: bool) -> None:
    if contents.historian == "embedded" and wanted and has_database(contents.data_dir):
        asyncio.run(dump(contents.data_dir, scratch / DUMP))
        contents.sources.append(Source(f"data/{DUMP}", scratch / DUMP))
    elif contents.historian:
        contents.left_out.append("the database: docs/backup.md says how to back it up")


def _ledger_of(contents: Contents, scratch: Path) -> None:
    """The ledger of commands, as it is at one instant: a key in it must not be carried out again."""
    copy = scratch / ledger.PLACE.name
    try:
        if ledger.copy_ledger(contents.data_dir, copy):
            contents.sources.append(Source(f"data/{ledger.PLACE.as_posix()}", copy))
    except ledger.LedgerFailed as error:
        contents.left_out.append(f"the ledger of commands: {error.reason}")


def _journal_of(contents: Contents, scratch: Path) -> tuple[str, int, int]:
    """Add the journal's segments, of the newest a copy; stream, last event and last batch."""
    directory = contents.data_dir / "journal"
    copied = copy_of_newest(directory, scratch)
    if copied is None:
        contents.left_out.append(f"the journal: there is none in {directory}")
        return "", 0, 0
    ids, newest = copied
    # What the gateway frees from here on is gone from the backup too, oldest first: the row stays whole.
    for id_ in ids[:-1]:
        contents.sources.append(Source(f"data/journal/{id_.name}", directory / id_.name))
    position = look(scratch)
    # Looking at the copy leaves nothing in it that was not there: it is copied again for that.
    assert position is not None, "the newest segment was copied just now"
    for path in (newest, newest.with_name(newest.name + "-wal")):
        if path.exists():
            contents.sources.append(Source(f"data/journal/{path.name}", path))
    return position.position.stream, position.position.last_seq, position.position.last_batch


def _open_all(contents: Contents, stack: ExitStack) -> list[_Open]:
    """Open every file, so that one that is removed meanwhile can still be read."""
    opened: list[_Open] = []
    for source in contents.sources:
        try:
            file: BinaryIO = stack.enter_context(source.path.open("rb"))
            state = os.fstat(file.fileno())
            if source.name in _BEFORE_THEIR_RECORDS:
                file = stack.enter_context(io.BytesIO(file.read(state.st_size)))
        except FileNotFoundError:
            if source.name.startswith("data/journal/journal-"):
                opened = [item for item in opened if not item.source.name.startswith("data/journal/journal-")]
            contents.left_out.append(f"{source.path}, which went away meanwhile")
            continue
        except OSError as error:
            raise NotWritten(
                f"{source.path} cannot be read: {error.strerror}",
                hint="make the backup as the user the gateway runs as, or as root",
            ) from error
        opened.append(_Open(source, file, state.st_size, state.st_mode & 0o777))
    return opened


def _write(
    file: BinaryIO, head: Head, opened: list[_Open], contents: Contents, secret: str | None
) -> Manifest:
    writer = ArchiveWriter(file, head, secret)
    for item in opened:
        writer.add(item.source.name, item.file, item.size, mode=item.mode, origin=item.source.origin)
    return writer.close(tuple(contents.left_out), contents.data_dir_text)


def _verify_draft(target: Path, secret: str | None) -> None:
    draft = target.with_name(f".{target.name}{PART}")
    try:
        verify(draft, secret)
    except GatewayError as error:
        raise NotWritten(
            f"{target} was written, and what was read back is not that: {error.reason}",
            hint="is the disk failing?",
        ) from error


# Judging ----------------------------------------------------------------------------------------------------


def verify(path: Path, secret: str | None) -> tuple[Head, Manifest | None]:
    """Read a backup to its end and judge every file in it; writes nothing.

    Without its key an encrypted one is judged as a whole, by its sum, and has no manifest.

    Raises:
        FileRefused: it is not what was written.
        KeyRefused: the key is another.
    """
    head = check_sum(path)
    if head.seal is not None and not secret:
        return head, None
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    for member in members(path, secret):
        if member.name == MANIFEST:
            manifest = read_manifest(read_all(member.source), path)
            continue
        digest = hashlib.sha256()
        while data := member.source.read(READ_BYTES):
            digest.update(data)
        found[member.name] = (member.bytes, digest.hexdigest())
    return head, complete(manifest, found, path)


def complete(manifest: Manifest | None, found: dict[str, tuple[int, str]], path: Path) -> Manifest:
    """The manifest of a backup whose files are what it says.

    Raises:
        FileRefused: they are not.
    """
    if manifest is None:
        raise FileRefused(f"{path} has no manifest", hint="use another backup")
    if wrong := differences(manifest, found):
        raise FileRefused(f"{path}: {'; '.join(wrong[:3])}", hint="use another backup")
    return manifest


def told_of(manifest: Manifest, name: str) -> FileTold | None:
    """What the manifest says of one file."""
    return next((file for file in manifest.files if file.name == name), None)


def listing(folder: Path) -> list[Listed]:
    """The backups in a folder, oldest first, by their heads alone."""
    found: list[Listed] = []
    for path in sorted(folder.glob(f"*{_ENDING}")):
        size = path.stat().st_size
        try:
            found.append(Listed(str(path), size, read_head(path)))
        except FileRefused as error:
            if path.name.endswith(SUFFIX):  # of any other name it is somebody else's
                found.append(Listed(str(path), size, None, error.reason))
    return sorted(found, key=lambda item: "" if item.head is None else str(item.head.at))
