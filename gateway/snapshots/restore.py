"""The way back: a backup unpacked beside its target, judged whole, then given the target's name in one step.

The restored journal begins a new stream. The old one may have gone on after the backup, and others have heard
of its numbers; they must not be told a second time as something else. What equipment must not forget is
carried over, and the old segments lie beside the new ones for `andon journal import`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from connectors.base import Clock
from gateway.errors import JournalInUse
from gateway.journal.anew import begin_anew
from gateway.journal.copied import segments_in
from gateway.journal.files import Lock, free_bytes, sync_directory
from gateway.snapshots.archive import (
    MANIFEST,
    READ_BYTES,
    Head,
    Manifest,
    Member,
    check_sum,
    members,
    read_all,
    read_manifest,
)
from gateway.snapshots.backup import complete
from gateway.snapshots.database import DUMP, load
from gateway.snapshots.durable import PART, swap, sync_tree
from gateway.snapshots.failures import FileRefused, KeyRefused, NotWritten, TargetRefused

#: Left free on the disk, for whatever else lives there.
_MARGIN_BYTES: Final = 64_000_000
_DATA: Final = ".data"
_USUAL: Final = "data"


class Restored(msgspec.Struct, frozen=True):
    """What was restored, where, and what a person does next."""

    directory: str
    configuration: str
    data_dir: str
    gateway: str
    files: int
    bytes: int
    old_stream: str
    stream: str
    set_aside: str
    replaced: str
    next_steps: tuple[str, ...]


def restore(path: Path, to: Path, *, secret: str | None, force: bool, clock: Clock) -> Restored:
    """Restore a backup into a folder. Not for a running event loop.

    Raises:
        TargetRefused: the folder holds something, and `force` is not set; or there is no room.
        JournalInUse: a gateway runs there.
        StartFailed: the embedded database in it cannot be loaded.
        FileRefused, KeyRefused: the backup cannot be used. The target is as it was, as it is with all others.
        NotWritten: the disk refused.
    """
    target = Path(os.path.abspath(to))  # noqa: PTH100 - a link at the end must not be followed
    head = _judge(path, target, secret, force=force)
    staging = target.with_name(f".{target.name}.restoring-{os.getpid()}{PART}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{target.name}.restoring-*{PART}"):
            shutil.rmtree(left)
        _check_room(head, path, target.parent)
        staging.mkdir(mode=0o700)
        try:
            manifest = _unpack(path, secret, staging)
            place = _settle(staging, manifest)
            _load_database(staging / place)
            stream, set_aside = _begin_anew(staging / place / "journal", head, clock)
            sync_tree(staging)
            replaced = _put_in_place(staging, target, place, clock)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise NotWritten(
            f"{target} cannot be written: {error.strerror or error}",
            hint="is there room on the disk, and may this user write there? what was there is as it was",
        ) from error
    data_dir = target / place
    aside = str(data_dir / "journal" / "set-aside" / set_aside) if set_aside else ""
    return Restored(
        directory=str(target),
        configuration=str(target / head.configuration),
        data_dir=str(data_dir),
        gateway=head.gateway,
        files=len(manifest.files),
        bytes=head.bytes,
        old_stream=head.stream,
        stream=stream,
        set_aside=aside,
        replaced=replaced,
        next_steps=tuple(_next_steps(head, manifest, target, place, aside)),
    )


def _judge(path: Path, target: Path, secret: str | None, *, force: bool) -> Head:
    """Everything that can be known before anything is touched."""
    head = check_sum(path)
    if head.seal is not None and not secret:
        raise KeyRefused(f"{path} is encrypted", hint="name its key: --key env:NAME or file:PATH")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetRefused(f"{target} is no folder", hint="name a new folder with --to")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise TargetRefused(
            f"{target} is not empty",
            hint="name a new folder with --to; with --force what is there is moved aside, not deleted",
        )
    return head


def _check_room(head: Head, path: Path, directory: Path) -> None:
    free = free_bytes(directory)
    if head.bytes + _MARGIN_BYTES > free:
        raise TargetRefused(
            f"{path} needs {head.bytes:,} bytes, and the disk under {directory} has {free:,} left",
            hint="make room, or name another --to",
        )


def _unpack(path: Path, secret: str | None, staging: Path) -> Manifest:
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    for member in members(path, secret):
        if member.name == MANIFEST:
            manifest = read_manifest(read_all(member.source), path)
        else:
            found[member.name] = _write(member, staging, path)
    return complete(manifest, found, path)


def _write(member: Member, staging: Path, path: Path) -> tuple[int, str]:
    """One file into the folder; its size and SHA-256."""
    root, _, rest = member.name.partition("/")
    place = staging / {"config": "", "data": _DATA, "outside": "outside"}[root] / rest
    digest = hashlib.sha256()
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise FileRefused(
            f'{path}: the file "{member.name}" in it lies where another one does',
            hint="no gateway wrote this; nothing of it was restored",
        ) from error
    with os.fdopen(fd, "wb") as file:
        while data := member.source.read(READ_BYTES):
            digest.update(data)
            file.write(data)
        file.flush()
        os.fchmod(fd, member.mode & 0o755)
        os.fsync(fd)
    return member.bytes, digest.hexdigest()


def _settle(staging: Path, manifest: Manifest) -> str:
    """Move the data directory to where the configuration will look for it, if that is inside; its place."""
    text = Path(manifest.data_dir)
    inside = not text.is_absolute() and ".." not in text.parts and text.parts
    place = text.as_posix() if inside else _USUAL
    if (staging / _DATA).exists():
        (staging / place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (staging / place).exists():
            raise FileRefused(
                f"the backup has a configuration file where its data directory {place} belongs",
                hint="no gateway wrote this; nothing of it was restored",
            )
        (staging / _DATA).rename(staging / place)
    return place


def _load_database(data_dir: Path) -> None:
    if (data_dir / DUMP).exists():
        asyncio.run(load(data_dir, data_dir / DUMP))
        (data_dir / DUMP).unlink()


def _begin_anew(journal: Path, head: Head, clock: Clock) -> tuple[str, str]:
    """Begin a new stream in a restored journal: its name, and that of the folder the old one lies in."""
    if not segments_in(journal):
        return "", ""
    begun = begin_anew(
        journal,
        gateway=head.gateway,
        clock=clock,
        reason=f"restored from the backup of {head.at:%Y-%m-%d %H:%M:%S} UTC",
        tell=False,  # where it lies now is gone in a moment; what to do is said when all is done
    )
    return begun.stream, begun.set_aside.name


def _put_in_place(staging: Path, target: Path, place: str, clock: Clock) -> str:
    """Give the restored folder its name; where what was there lies now, empty when there was nothing."""
    if not target.exists() or not any(target.iterdir()):
        staging.rename(target)
        sync_directory(target.parent)
        return ""
    aside = target.with_name(f"{target.name}.before-{clock.now():%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise TargetRefused(f"{aside} is there already", hint="move it away")
    with _held(target, place):
        _exchange(staging, target, aside)
        sync_directory(target.parent)
    return str(aside)


def _exchange(new: Path, target: Path, aside: Path) -> None:
    """Give a folder the name of another, which gets the name `aside`.

    Never does what was there have a name that is cleared away, by us or by the next restore: so the new
    folder is named `aside` first, and then the two change names in one step.
    """
    new.rename(aside)
    try:
        swapped = swap(aside, target)
    except OSError:
        aside.rename(new)
        raise
    if swapped:
        return
    aside.rename(new)
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise


@contextmanager
def _held(target: Path, place: str) -> Iterator[None]:
    """Keep a gateway from running there meanwhile, wherever below it has its data directory."""
    expected = (target / place / "journal", target / _USUAL / "journal")
    journals = {folder for folder in expected if folder.is_dir()}
    journals.update(lock.parent for lock in target.rglob("journal/lock") if lock.is_file())
    locks: list[Lock] = []
    try:
        for journal in sorted(journals):
            try:
                locks.append(Lock(journal))
            except JournalInUse as error:
                raise JournalInUse(
                    error.reason, hint="stop that gateway first; nothing was touched"
                ) from error
        yield
    finally:
        for lock in locks:
            lock.release()


def _next_steps(head: Head, manifest: Manifest, target: Path, place: str, aside: str) -> Iterator[str]:
    config = target / head.configuration
    for file in manifest.files:
        if file.origin and file.name.startswith("outside/"):
            yield f"put {target / file.name} back to {file.origin}, or change the configuration"
    for left in manifest.left_out:
        yield f"see to {left}"
    if Path(manifest.data_dir) != Path(place):
        yield (
            f'the configuration says data_dir = "{manifest.data_dir}": move {target / place} there, or set '
            f'data_dir = "{place}"'
        )
    if os.geteuid() == 0:
        yield f"give the files to the user the gateway runs as: chown -R USER: {target}"
    yield f"andon check {config}"
    yield f"andon run {config}"
    if aside:
        yield f"andon journal import {aside} {config}, once the database can be reached: what it never got"
