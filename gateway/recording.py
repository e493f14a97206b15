"""What was recorded, as replay takes it: read from the journal's folder, or from a file of JSON lines.

The folder is only read (see `gateway.journal.copied`), and may belong to a running gateway. It knows nothing
of models.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import GatewayError, JournalDamaged, JournalForeign
from gateway.journal.codec import Unreadable
from gateway.journal.copied import copy_of_newest
from gateway.journal.reading import Reader, SegmentId
from gateway.journal.segment import Segment
from statemodel.records import TYPE_OF, Recorded, read_told
from statemodel.replay import Entry, Recording, in_order
from statemodel.types import SampleBatch

#: Types of lines besides those of events.
_HEAD, _BATCH = "recording", "batch"
_WRITE = "write such a file with `andon history EQUIPMENT --samples`"


class NoRecording(GatewayError):
    """There is nothing recorded where it was looked for."""


class RecordingUnreadable(GatewayError):
    """A file is not a recording."""

    exit_code = 2


@dataclass
class Found:
    """A recording, and what of it could not be read."""

    recording: Recording
    damaged: list[str] = field(default_factory=list)


# The journal ------------------------------------------------------------------------------------------------


def read_journal(directory: Path, gateway: str, tags: Collection[str] | None = None) -> Found:
    """Everything the journal in a folder holds: samples of some tags (all when None) and every event.

    Raises:
        NoRecording: there is no journal, or nothing in it.
        JournalForeign: it belongs to another gateway, or a newer version wrote it.
        JournalDamaged: its newest part cannot be read at all.
    """
    with tempfile.TemporaryDirectory(prefix="andon-recording-") as scratch:
        copied = copy_of_newest(directory, Path(scratch))
        if copied is None:
            raise NoRecording(
                f"there is no journal in {directory}",
                hint="check gateway.data_dir, or name a file with --recording",
            )
        ids, newest = copied
        reader = _Reader(gateway, None if tags is None else frozenset(tags))
        for id_ in ids[:-1]:
            try:
                reader.read(Segment.open_finished(directory / id_.name), id_)
            except sqlite3.Error as error:
                reader.damaged.append(f"{directory / id_.name}: {error}")
        try:
            reader.read(Segment.open_newest(newest), ids[-1])
        except (sqlite3.Error, Unreadable) as error:
            raise JournalDamaged(
                f"the newest part of the journal, {directory / ids[-1].name}, is damaged: {error}",
                hint="replay from a file that `andon history --samples` wrote, or from a backup",
            ) from error
    return Found(reader.recording(ids[0], directory), reader.damaged)


class _Reader:
    """Collects what segments hold, oldest first."""

    def __init__(self, gateway: str, tags: frozenset[str] | None) -> None:
        self._gateway, self._tags = gateway, tags
        self._carried: list[Recorded] = []
        self._begun_at: datetime | None = None
        self._events: list[Recorded] = []
        self._batches: list[SampleBatch] = []
        self._alive: Mapping[str, datetime] = {}
        self.damaged: list[str] = []

    def read(self, opened: Reader, id_: SegmentId) -> None:
        try:
            origin, carried = opened.origin(), opened.carried()
            if origin.gateway != self._gateway:
                raise JournalForeign(
                    f'the journal belongs to gateway "{origin.gateway}", not to "{self._gateway}"',
                    hint="name the configuration of that gateway",
                )
            if self._begun_at is None:
                self._begun_at = origin.created_at
                self._carried = _begun_with(carried.last, id_.first_seq)
            for event in opened.events(0, -1):
                if isinstance(event, Recorded):
                    self._events.append(event)
                else:
                    self.damaged.append(f"{opened.path.name}: event {event[0]}: {event[1]}")
            for number, batch in opened.batches(0, -1):
                if isinstance(batch, SampleBatch):
                    kept = _with_tags(batch, self._tags)
                    self._batches += [kept] if kept.samples else []
                else:
                    self.damaged.append(f"{opened.path.name}: batch {number}: {batch}")
            self._alive = carried.alive
        finally:
            opened.close()

    def recording(self, first: SegmentId, directory: Path) -> Recording:
        begun_at = self._begun_at
        if begun_at is None or not (self._events or self._batches or self._carried):
            raise NoRecording(
                f"nothing is recorded in {directory} yet", hint="let the gateway run for a while first"
            )
        entries = (*self._carried, *in_order(self._batches, self._events))
        times = [e.received_at if isinstance(e, SampleBatch) else e.recorded_at for e in entries]
        return Recording(
            gateway=self._gateway,
            begin_at=begun_at,
            end_at=max([begun_at, *times, *self._alive.values()]),
            first_seq=first.first_seq,
            whole=first.first_seq == 1 and first.first_batch == 1,
            entries=entries,
        )


def _begun_with(last: Mapping[str, Recorded], first_seq: int) -> list[Recorded]:
    """The transitions in force before an event number, in order."""
    return sorted((r for r in last.values() if r.seq < first_seq), key=lambda recorded: recorded.seq)


# Files ------------------------------------------------------------------------------------------------------


def write_lines(recording: Recording) -> Iterator[bytes]:
    """A recording as JSON lines, to be read back by `read_lines`: a head, then batches and events in order.

    Events are the bytes every consumer gets.
    """
    yield msgspec.json.encode(
        _Head(recording.gateway, recording.begin_at, recording.end_at, recording.first_seq, recording.whole)
    )
    for entry in recording.entries:
        if isinstance(entry, Recorded):
            yield entry.json
        else:
            yield msgspec.json.encode({"type": _BATCH, **msgspec.structs.asdict(entry)})


class _Head(msgspec.Struct, frozen=True, tag_field="type", tag=_HEAD):
    gateway: str
    begin_at: datetime
    end_at: datetime
    first_seq: int
    whole: bool


class _Kind(msgspec.Struct, frozen=True):
    type: str


_kind = msgspec.json.Decoder(_Kind).decode
_head_of = msgspec.json.Decoder(_Head).decode
_batch_of = msgspec.json.Decoder(SampleBatch).decode


def read_lines(path: Path, tags: Collection[str] | None = None) -> Found:
    """A recording that `write_lines` made: samples of some tags (all when None) and every event.

    Raises:
        RecordingUnreadable: the file cannot be read, or is not one; the message names the line.
    """
    head: _Head | None = None
    entries: list[Entry] = []
    wanted = None if tags is None else frozenset(tags)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if head is None:
                        head = _head_of(line)
                    elif line.strip():
                        entries += _entries_of(line.strip(), wanted)
                except msgspec.MsgspecError as error:
                    raise RecordingUnreadable(f"{path}:{number}: {error}", hint=_WRITE) from error
    except OSError as error:
        raise RecordingUnreadable(
            f"{path}: cannot be read: {error.strerror}", hint="check the path"
        ) from error
    if head is None:
        raise RecordingUnreadable(f"{path}: is empty", hint=_WRITE)
    return Found(
        Recording(head.gateway, head.begin_at, head.end_at, head.first_seq, head.whole, tuple(entries))
    )


def _entries_of(line: bytes, tags: frozenset[str] | None) -> Sequence[Entry]:
    kind = _kind(line).type
    if kind == _BATCH:
        batch = _with_tags(_batch_of(line), tags)
        return [batch] if batch.samples else []
    if kind not in TYPE_OF.values():
        raise msgspec.ValidationError(f'"{kind}" is no type of event')
    return [read_told(line, kind)]


def _with_tags(batch: SampleBatch, tags: frozenset[str] | None) -> SampleBatch:
    if tags is None or all(sample.tag in tags for sample in batch.samples):
        return batch
    samples = tuple(sample for sample in batch.samples if sample.tag in tags)
    return msgspec.structs.replace(batch, samples=samples)


def only(recording: Recording, equipment: Collection[str], connections: Collection[str]) -> Recording:
    """A recording with the events of some equipment and connections alone."""
    return msgspec.structs.replace(
        recording,
        entries=tuple(e for e in recording.entries if _concerns(e, equipment, connections)),
    )


def _concerns(entry: Entry, equipment: Collection[str], connections: Collection[str]) -> bool:
    if isinstance(entry, SampleBatch):
        return True
    if entry.equipment:
        return entry.equipment in equipment
    connection: Any = getattr(entry.event, "connection", None)
    return connection in connections
