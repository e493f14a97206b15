"""The folder of snapshots: writing, listing, reading a chain, and which may go. Synchronous; no clock.

It does not know what the equipment in a snapshot means.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from gateway.snapshots.durable import drop_drafts, whole_file
from gateway.snapshots.failures import FileRefused, KeyRefused, NotWritten
from gateway.snapshots.form import HEADER_BYTES_MAX, Content, Header, check, pack, read_header, sum_of, unpack

SUFFIX: Final = ".snap"
#: Larger files are none of ours.
FILE_BYTES_MAX: Final = 1_000_000_000


class Entry(msgspec.Struct, frozen=True):
    """A file in the folder: its header, or what is wrong with it."""

    file: str
    bytes: int
    header: Header | None
    problem: str = ""


class Limits(msgspec.Struct, frozen=True):
    """How many, how old, how large in all."""

    count: int
    age: timedelta
    bytes: int


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot put together from its chain: always whole."""

    header: Header
    content: Content


class SnapshotFolder:
    """All snapshots of one gateway."""

    def __init__(self, directory: Path, secret: str | None = None) -> None:
        self.directory, self._secret = directory, secret

    def name_at(self, at: datetime, kind: str) -> str:
        """A name nobody has yet, in order of time."""
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name, number = f"{stamp}Z-{kind}", 1
        while (self.directory / (name + SUFFIX)).exists():
            number += 1
            name = f"{stamp}Z-{number}-{kind}"
        return name

    def write(self, header: Header, content: Content) -> tuple[Header, str]:
        """Make a snapshot durable and read it back; its header and its sum.

        Raises:
            NotWritten: the disk refused, or what was read back is not what was written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            drop_drafts(self.directory)
        except OSError as error:
            raise NotWritten(
                f"{self.directory} cannot be used: {error.strerror}", hint="may this user write there?"
            ) from error
        path = self.directory / (header.name + SUFFIX)
        data = pack(header, content, self._secret)
        with whole_file(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            if hashlib.sha256(file.read()).digest() != hashlib.sha256(data).digest():
                raise NotWritten(f"{path} does not hold what was written to it", hint="is the disk failing?")
        return read_header(data, str(path))[0], sum_of(data)

    def entries(self) -> Sequence[Entry]:
        """What lies there, oldest first; headers only, so this is quick and proves nothing."""
        found = [self._entry(path) for path in self._paths()]
        return sorted(found, key=lambda e: ("", e.file) if e.header is None else (str(e.header.at), e.file))

    def verify(self) -> Sequence[Entry]:
        """As `entries`, with every file read to its end and every chain judged."""
        judged = []
        for entry in self.entries():
            problem = entry.problem
            if entry.header is not None:
                try:
                    self.load(entry.header.name)
                except (FileRefused, KeyRefused) as error:
                    problem = error.reason
            judged.append(msgspec.structs.replace(entry, problem=problem))
        return judged

    def load(self, name: str) -> Snapshot:
        """One snapshot, whole: of an incremental one together with its parent.

        Raises:
            FileRefused, KeyRefused: it, or its parent, cannot be used.
        """
        header, content, _ = self._read(name)
        if header.name != name:
            raise FileRefused(
                f"{self._path(name)} holds the snapshot {header.name}", hint="give it its own name back"
            )
        if header.kind == "full":
            return Snapshot(header, content)
        parent, base, found = self._read(header.parent)
        if parent.kind != "full" or found != header.parent_sum:
            raise FileRefused(
                f"{self._path(header.parent)} is not the snapshot that {name} builds on",
                hint="use another snapshot",
            )
        return Snapshot(header, merged(base, content))

    def newest(
        self, *, gateway: str, stream: str = "", last_seq: int = -1, last_batch: int = -1
    ) -> tuple[Snapshot | None, list[str]]:
        """The newest that can be used, and what was wrong with newer ones.

        With a stream: of that one, and not beyond these numbers, which the journal does not have.
        """
        problems: list[str] = []
        for entry in reversed(in_order(self.entries(), stream)):
            header = entry.header
            if header is None:
                problems.append(entry.problem)
                continue
            if header.gateway != gateway or (stream and header.stream != stream):
                continue
            if stream and (header.seq > last_seq or header.batch > last_batch):
                problems.append(f"{entry.file} is of event {header.seq}, and the journal ends at {last_seq}")
                continue
            try:
                return self.load(header.name), problems
            except (FileRefused, KeyRefused) as error:
                problems.append(error.reason)
        return None, problems

    def sum_of(self, name: str) -> str:
        """The sum of a sound file.

        Raises:
            FileRefused: it is not sound.
        """
        data = self._bytes(name)
        check(data, str(self._path(name)))
        return sum_of(data)

    def prune(self, limits: Limits, now: datetime) -> list[str]:
        """Remove what is too many, too old, too much; the newest sound full one stays. Names removed."""
        found = [(entry.header.at, entry) for entry in self.entries() if entry.header is not None]
        # One dated ahead was taken before the clock was put right: it is older than all others.
        entries = [entry for at, entry in found if at > now] + [entry for at, entry in found if at <= now]
        gone = doomed(entries, limits, now, self._sound_full(entries))
        for entry in gone:
            (self.directory / entry.file).unlink(missing_ok=True)
        return [entry.file for entry in gone]

    def drop_tails(self, *, but: str) -> None:
        """Remove those that were only to make the next start quick, now that there is a newer one."""
        for entry in self.entries():
            header = entry.header
            if header is not None and header.reason == "tail" and header.name != but:
                (self.directory / entry.file).unlink(missing_ok=True)

    # -- inside

    def _sound_full(self, entries: Sequence[Entry]) -> str:
        for entry in reversed(entries):
            if entry.header is not None and entry.header.kind == "full":
                try:
                    self.sum_of(entry.header.name)
                except FileRefused:
                    continue
                return entry.header.name
        return ""

    def _paths(self) -> Sequence[Path]:
        try:
            return sorted(path for path in self.directory.iterdir() if path.suffix == SUFFIX)
        except OSError:
            return []

    def _path(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise FileRefused(f'"{name}" is no name of a snapshot', hint="see `andon snapshot list`")
        return self.directory / (name + SUFFIX)

    def _entry(self, path: Path) -> Entry:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                header, _ = read_header(file.read(HEADER_BYTES_MAX + 64), str(path))
        except OSError as error:
            return Entry(path.name, 0, None, f"{path} cannot be read: {error.strerror}")
        except FileRefused as error:
            return Entry(path.name, size, None, error.reason)
        return Entry(path.name, size, header)

    def _bytes(self, name: str) -> bytes:
        path = self._path(name)
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise FileRefused(f"{path} is larger than any snapshot", hint="is it the right file?")
            return path.read_bytes()
        except OSError as error:
            raise FileRefused(
                f"{path} cannot be read: {error.strerror}", hint="see `andon snapshot list`"
            ) from error

    def _read(self, name: str) -> tuple[Header, Content, str]:
        data = self._bytes(name)
        header, content = unpack(data, str(self._path(name)), self._secret)
        return header, content, sum_of(data)


def in_order(entries: Sequence[Entry], stream: str) -> Sequence[Entry]:
    """Entries oldest first; those of a stream, if one is named, come last, by how far of it they have seen.

    A clock may have been wrong when one was taken; the numbers of a stream only ever rise.
    """

    def place(entry: Entry) -> tuple[bool, int, int]:
        header = entry.header
        own = header is not None and bool(stream) and header.stream == stream
        return (own, header.seq, header.batch) if own and header is not None else (False, 0, 0)

    return sorted(entries, key=place)


def merged(full: Content, later: Content) -> Content:
    """A full snapshot and what has changed since, as one."""
    gone = frozenset(later.gone)
    return Content(
        later.engine_version,
        {**{k: v for k, v in full.equipment.items() if k not in gone}, **later.equipment},
        {**{k: v for k, v in full.last.items() if k not in gone}, **later.last},
        later.alive,
        later.cursors,
    )


def since(full: Content, whole: Content) -> Content:
    """What of a whole content differs from that of a full snapshot."""
    return Content(
        whole.engine_version,
        _other(full.equipment, whole.equipment),
        _other(full.last, whole.last),
        whole.alive,
        whole.cursors,
        tuple(sorted((full.equipment.keys() | full.last.keys()) - whole.equipment.keys())),
    )


def _other(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in now.items() if before.get(name) != data}


def doomed(entries: Sequence[Entry], limits: Limits, now: datetime, sound_full: str) -> Sequence[Entry]:
    """Which of these (oldest first, all with headers) have to go, oldest chain first, leaves before roots."""
    known = [(entry, entry.header) for entry in entries if entry.header is not None]
    if not known:
        return []
    newest = known[-1][1]
    kept: Collection[str] = {sound_full, newest.name, newest.parent}
    children: dict[str, int] = {}
    for _, header in known:
        if header.kind == "incremental":
            children[header.parent] = children.get(header.parent, 0) + 1
    fulls = {header.name: place for place, (_, header) in enumerate(known) if header.kind == "full"}
    order = sorted(
        range(len(known)),
        key=lambda i: (fulls.get(known[i][1].parent or known[i][1].name, -1), not known[i][1].parent, i),
    )
    count, size = len(known), sum(entry.bytes for entry, _ in known)
    gone: list[Entry] = []
    for place in order:
        entry, header = known[place]
        over = count > limits.count or size > limits.bytes or header.at < now - limits.age
        if not over or header.name in kept or children.get(header.name):
            continue
        gone.append(entry)
        count, size = count - 1, size - entry.bytes
        if header.parent:
            children[header.parent] -= 1
    return gone
