"""When a snapshot is taken, and writing it beside the gateway's work: at intervals, on command, at the end.

The engine is looked at between two commits, so that a snapshot is of exactly one place in the journal; what
comes after happens in a thread. Nothing that fails here disturbs the gateway: it is told and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec
import structlog

from connectors.base import Clock
from gateway.config.schema import SnapshotSettings
from gateway.errors import GatewayError
from gateway.journal.values import Cursor, JournalPosition
from gateway.snapshots.folder import Limits, SnapshotFolder, in_order, since
from gateway.snapshots.form import Content, Header, Kind
from statemodel.records import Recorded
from statemodel.snapshot import EngineSnapshot

log = structlog.get_logger(__name__)

#: Name of the folder below the data directory.
FOLDER: Final = "snapshots"
#: A file of this name in it asks for a snapshot: whoever may write there may ask.
REQUEST: Final = "take-one-now"
#: How often it is looked for such a file.
_LOOK_S: Final = 1.0
#: So much after the newest snapshot, one more is taken for the next start to be quick, at most so often; of
#: these only the newest is kept.
TAIL_BATCHES: Final = 2_000
TAIL_EVERY_S: Final = 60.0
#: A snapshot that could not be written is tried again after this.
RETRY: Final = timedelta(minutes=5)
#: The pipeline commits at least at every heartbeat; one that does not in twice that time, and in this, is not
#: at work.
_MOMENT_S: Final = 60.0

Reason = Literal["every", "tail", "command", "stop", "upgrade", "configuration"]


class Source(Protocol):
    """The part of the journal a snapshot needs."""

    @property
    def position(self) -> JournalPosition:
        """What is held."""
        ...

    async def last_transitions(self) -> Mapping[str, Recorded]:
        """The newest transition of each equipment."""
        ...

    async def alive(self) -> Mapping[str, datetime]:
        """The last proof of life of each connection."""
        ...

    async def cursor(self, sink: str) -> Cursor:
        """How far a sink has read."""
        ...


class Identity(msgspec.Struct, frozen=True):
    """What a snapshot says of the gateway it was taken of. `models`: name to SHA-256."""

    gateway: str
    version: str
    configuration: str
    models: Mapping[str, str]
    sinks: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True):
    """How it stands. `failed` is why the last attempt came to nothing, empty when it did not."""

    newest: str = ""
    newest_at: datetime | None = None
    count: int = 0
    bytes: int = 0
    taken: int = 0
    failures: int = 0
    failed: str = ""
    resumed: str = ""


class Keeper:
    """Takes snapshots of one engine. `run` is its one task; `committed` is called by the pipeline."""

    def __init__(
        self,
        data_dir: Path,
        *,
        identity: Identity,
        settings: SnapshotSettings,
        journal: Source,
        clock: Clock,
        heartbeat: timedelta,
    ) -> None:
        self.folder = SnapshotFolder(data_dir / FOLDER, settings.encryption_key)
        self.status = Status()
        self.engine: Callable[[], EngineSnapshot] = lambda: EngineSnapshot(0, {})
        self._identity, self._settings, self._journal, self._clock = identity, settings, journal, clock
        self._moment: asyncio.Future[tuple[EngineSnapshot, JournalPosition]] | None = None
        self._parent: tuple[Header, str, Content] | None = None
        self._children = 0
        #: The journal's last batch when the newest was taken, and when one was last taken for its sake.
        self._batch, self._tail_s = journal.position.last_batch, clock.monotonic()
        self._turn = asyncio.Lock()
        self._moment_s_max = max(_MOMENT_S, 2 * heartbeat.total_seconds())

    def exchange(self, identity: Identity, settings: SnapshotSettings) -> None:
        """Another configuration holds from now on: the next snapshot is a full one, and says so."""
        self._identity, self._parent = identity, None
        if settings.encryption_key != self._settings.encryption_key:
            self.folder = SnapshotFolder(self.folder.directory.parent / FOLDER, settings.encryption_key)
        self._settings = settings

    def committed(self) -> None:
        """The engine and the journal are at the same place; costs nothing unless a snapshot is wanted."""
        moment = self._moment
        if moment is not None and not moment.done():
            moment.set_result((self.engine(), self._journal.position))

    async def run(self) -> None:
        """Take snapshots for ever, unless they are switched off."""
        if not self._settings.enabled:
            return
        await self._look()
        while True:
            every = min(RETRY, self._settings.every) if self.status.failed else self._settings.every
            due_s = self._clock.monotonic() + every.total_seconds()
            reason: Reason | None = None
            while reason is None:
                await self._clock.sleep(min(_LOOK_S, max(0.0, due_s - self._clock.monotonic())))
                reason = self._reason(due_s)
                if reason == "tail":
                    await self.take("tail")
                    reason = None
            await self.take(reason)

    async def take(self, reason: Reason) -> Header | None:
        """Take one now; None when it came to nothing, and `status.failed` says why."""
        async with self._turn:
            self._moment = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._moment_s_max):
                    engine, position = await self._moment
            except TimeoutError:
                within = f"{self._moment_s_max:g} s"
                self._failed(f"nothing was committed within {within}: there is no moment to take it at")
                return None
            finally:
                self._moment = None
            return await self._write(engine, position, reason)

    async def finish(self) -> None:
        """The last one: when everything has been recorded and nothing moves any more."""
        if self._settings.enabled:
            self.committed()  # for one that waits for a moment: there is none after this
            async with self._turn:
                await self._write(self.engine(), self._journal.position, "stop")

    async def keep_what_was(self, engine: EngineSnapshot, was: Header, reason: Reason) -> None:
        """Write a full snapshot of what another version, or another configuration, left behind."""
        self._parent = None
        identity = Identity(was.gateway, was.version, was.configuration, was.models, self._identity.sinks)
        async with self._turn:
            await self._write(engine, self._journal.position, reason, identity)
        self._parent = None

    # -- inside

    def _reason(self, due_s: float) -> Reason | None:
        """Why one is to be taken now, if it is."""
        now_s = self._clock.monotonic()
        if now_s >= due_s:
            return "every"
        if self._asked():
            return "command"
        behind = self._journal.position.last_batch - self._batch
        if behind < TAIL_BATCHES or now_s < self._tail_s + TAIL_EVERY_S or self.status.failed:
            return None
        self._tail_s = now_s
        return "tail"

    def _asked(self) -> bool:
        """Whether somebody asks for one; asked once, answered once."""
        request = self.folder.directory / REQUEST
        with suppress(OSError):
            if request.exists():
                request.unlink()
                return True
        return False

    async def _write(
        self, engine: EngineSnapshot, position: JournalPosition, reason: Reason, of: Identity | None = None
    ) -> Header | None:
        identity, now = of or self._identity, self._clock.now()
        try:
            last = await self._journal.last_transitions()
            alive = await self._journal.alive()
            cursors = {sink: await self._journal.cursor(sink) for sink in identity.sinks}
            told = {name: item.json for name, item in last.items()}
            header, sum_, content = await asyncio.to_thread(
                self._write_now, engine, position, reason, identity, now, (told, dict(alive), cursors)
            )
        except GatewayError as error:
            self._failed(f"{error.reason}; {error.hint}" if error.hint else error.reason)
            return None
        except OSError as error:  # of looking at what lies there, and of removing what is too old
            self._failed(f"{self.folder.directory} cannot be used: {error.strerror or error}")
            return None
        self._batch = header.batch
        if reason == "tail":
            pass  # it goes with the next one, so nothing builds on it
        elif header.kind == "full":
            self._parent, self._children = (header, sum_, content), 0
        else:
            self._children += 1
        self.status = msgspec.structs.replace(self.status, taken=self.status.taken + 1, failed="")
        await self._look()
        log.info(
            "snapshot taken", name=header.name, kind=header.kind, reason=reason, bytes=header.packed_bytes
        )
        return header

    def _write_now(
        self,
        engine: EngineSnapshot,
        position: JournalPosition,
        reason: Reason,
        identity: Identity,
        now: datetime,
        journal: tuple[dict[str, bytes], dict[str, datetime], dict[str, Cursor]],
    ) -> tuple[Header, str, Content]:
        """In a thread: encode, write, read back, drop what is too old; also gives the whole content."""
        encode = msgspec.msgpack.Encoder().encode
        whole = Content(
            engine.version, {name: encode(kept) for name, kept in engine.equipment.items()}, *journal
        )
        parent = self._parent
        kind: Kind = "full"
        if reason == "every" and parent is not None and self._children + 1 < self._settings.full_every:
            try:
                kind = "incremental" if self.folder.sum_of(parent[0].name) == parent[1] else "full"
            except GatewayError:
                kind = "full"  # somebody has removed or harmed its parent
        content = since(parent[2], whole) if kind == "incremental" and parent is not None else whole
        header = Header(
            name=self.folder.name_at(now, kind),
            kind=kind,
            reason=reason,
            at=now,
            gateway=identity.gateway,
            stream=position.stream,
            seq=position.last_seq,
            batch=position.last_batch,
            version=identity.version,
            configuration=identity.configuration,
            models=identity.models,
            equipment=len(content.equipment),
            parent=parent[0].name if kind == "incremental" and parent is not None else "",
            parent_sum=parent[1] if kind == "incremental" and parent is not None else "",
        )
        written, sum_ = self.folder.write(header, content)
        self.folder.drop_tails(but=written.name)
        settings = self._settings
        self.folder.prune(Limits(settings.keep_count, settings.keep_age, settings.bytes_max), now)
        return written, sum_, whole

    def _failed(self, reason: str) -> None:
        if reason != self.status.failed:
            log.error("no snapshot could be taken; the gateway goes on", reason=reason)
        self.status = msgspec.structs.replace(self.status, failures=self.status.failures + 1, failed=reason)

    async def _look(self) -> None:
        """Bring the figures up to date."""
        entries = await asyncio.to_thread(self.folder.entries)
        ordered = in_order(entries, self._journal.position.stream)
        newest = next((entry.header for entry in reversed(ordered) if entry.header is not None), None)
        self.status = msgspec.structs.replace(
            self.status,
            newest="" if newest is None else newest.name,
            newest_at=None if newest is None else newest.at,
            count=len(entries),
            bytes=sum(entry.bytes for entry in entries),
        )
