"""Taking a gateway out of service: all that it made below its data directory goes, and what stays is named.

Only names that are the gateway's own are touched, since a data directory may be any folder. Files are
removed and not written over: what a disk or its snapshots still hold is beyond this. What lets somebody in
goes first, so that a wipe that dies in the middle has not left the keys behind.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config.load import read_toml
from gateway.embedded_postgres import dsn_of_running
from gateway.errors import GatewayError, JournalInUse
from gateway.journal.files import Lock, sync_directory
from gateway.snapshots.contents import Contents

#: What a gateway makes in its data directory, in the order in which it goes; the journal has the lock.
OURS: Final = (
    "access",
    "audit",
    "audit-set-aside-*",
    "opcua",
    "commands",
    "revisions",
    "snapshots",
    "published*.json",
    "database.dump",
    "postgres",
    "postgres-log",
    "postgres-socket",
    "postgres-start.log",
    "postgres.lock",
    ".published*.part",
    "journal",
)


class WipeFailed(GatewayError):
    """Something could not be removed; what was removed before is gone."""


class Wiped(msgspec.Struct, frozen=True):
    """What was removed, by name, and in sentences what is left."""

    gateway: str
    data_dir: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


def ours(data_dir: Path) -> list[Path]:
    """What there is of the gateway's own, in the order in which it goes."""
    there = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    found: dict[Path, None] = {}
    for pattern in OURS:
        found.update((path, None) for path in there if fnmatch(path.name, pattern))
    return list(found)


def wipe(contents: Contents) -> Wiped:
    """Remove all of it, while no gateway runs.

    Raises:
        JournalInUse: a gateway, or the database it started, runs there; nothing was touched.
        StartFailed: the lock cannot be written; nothing was touched.
        WipeFailed: something cannot be removed.
    """
    data_dir = contents.data_dir
    if not data_dir.is_dir():
        return Wiped(contents.gateway, str(data_dir), (), tuple(_left(contents, ())))
    if dsn_of_running(data_dir) is not None:
        raise JournalInUse(
            f"the embedded database in {data_dir / 'postgres'} seems to run",
            hint="stop the gateway first; after a crash start and stop it once more. Nothing was touched",
        )
    with suppress(OSError):  # where that is refused the lock says so
        (data_dir / "journal").mkdir(mode=0o700, exist_ok=True)
    try:
        lock = Lock(data_dir / "journal")
    except JournalInUse as error:
        raise JournalInUse(error.reason, hint="stop that gateway first; nothing was touched") from error
    try:
        names = []
        for path in ours(data_dir):
            try:
                _remove(path)
            except OSError as error:
                raise WipeFailed(
                    f"{error.filename or path} cannot be removed: {error.strerror}",
                    hint="do it again as the user the gateway runs as; what was removed before is gone",
                ) from error
            names.append(path.name)
        sync_directory(data_dir)
    finally:
        lock.release()
    left = tuple(_left(contents, names))
    with suppress(OSError):  # somebody's files are in it, or it is a mount
        data_dir.rmdir()
    return Wiped(contents.gateway, str(data_dir), tuple(names), left)


def _remove(path: Path) -> None:
    """A file, or a folder with all in it. Where a link was put in its place, what it leads to as well."""
    if path.is_symlink():
        if (target := path.resolve()).exists():
            _remove(target)
        path.unlink()
        return
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for inner in path.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink()
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:  # a volume of its own: it is empty now
            raise


def _left(contents: Contents, removed: Collection[str]) -> Iterator[str]:
    """What is still there, and who has to see to it."""
    data_dir = contents.data_dir
    if data_dir.is_dir():
        own = set(ours(data_dir))
        for path in sorted(data_dir.iterdir()):
            if path not in own:
                yield f"{path}, which is not the gateway's"
    yield f"{contents.configuration} and the files it names, keys and passwords among them"
    if contents.historian == "elsewhere":
        yield f'in the database of [historian]: what the gateway "{contents.gateway}" wrote there'
    read = read_toml(contents.configuration)
    data: Mapping[str, Any] = read[0] if isinstance(read, tuple) else {}
    brokers = data.get("mqtt", [])
    for broker in brokers if isinstance(brokers, list) else [brokers]:
        if isinstance(broker, dict) and broker.get("broker") != "embedded":
            name = f' "{broker["name"]}"' if "name" in broker else ""
            yield f"at the broker of [mqtt]{name}: the topics it retains"
    yield f"backups: those in {data_dir.parent / 'backups'}, and wherever else some were written"
    if "opcua" in removed:
        yield "at OPC UA servers: the trust in this gateway's certificate"
    if "journal" in removed:
        yield "on the disk: files are removed, not written over; encrypt or destroy it where that matters"
