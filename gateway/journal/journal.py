"""The one ordered, durable log that every sink reads at its own cursor: the part that awaits.

One thread owns all files (see `store`); this facade hands it work, keeps the newest records in memory and
wakes who waits for more. It does not know who the sinks are nor what the events mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import ParamSpec, TypeVar

import structlog

from connectors.base import Clock
from gateway.config.schema import JournalSettings
from gateway.errors import JournalFailed
from gateway.journal import files
from gateway.journal.bounds import Needs
from gateway.journal.losses import Loss
from gateway.journal.recovery import open_store
from gateway.journal.store import Appended, Store
from gateway.journal.tail import Tail
from gateway.journal.values import Cursor, Damage, JournalPosition, JournalStats, JournalWatcher
from statemodel.records import Recorded
from statemodel.types import Recordable, SampleBatch

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Records kept in memory.
_TAIL_EVENTS, _TAIL_SAMPLES = 2_000, 50_000
#: How often cursors are kept, segments begun by age and freed, when nothing else causes it.
_HOUSE_S = 1.0
#: How often a full journal looks whether there is room again.
_ROOM_S = 0.25
_NOBODY: Mapping[str, datetime | None] = MappingProxyType({})


class Journal:
    """A journal that is open and ours. Made by `open`; every method belongs to the loop that opened it."""

    def __init__(self, store: Store, lock: files.Lock, executor: ThreadPoolExecutor, clock: Clock) -> None:
        self.stream, self.directory = store.stream, store.directory
        self._store, self._lock, self._executor, self._clock = store, lock, executor, clock
        self._position = store.position
        self._events: Tail[Recorded] = Tail(_TAIL_EVENTS)
        self._batches: Tail[SampleBatch] = Tail(_TAIL_SAMPLES)
        self._events.extend(self._position.last_seq + 1, (), ())
        self._batches.extend(self._position.last_batch + 1, (), ())
        self._order = asyncio.Lock()
        self._news = asyncio.Event()
        self._commits: set[asyncio.Task[Appended | str]] = set()
        self._closed = False
        self._house = asyncio.create_task(self._keep_house(), name="journal-house")

    @classmethod
    async def open(cls, directory: Path, *, gateway: str, settings: JournalSettings, clock: Clock) -> Journal:
        """Open the journal in a directory, or begin one there.

        Raises:
            StartFailed: the directory cannot be used.
            JournalInUse: another process has it open.
            JournalForeign: it belongs to another gateway or a newer version; nothing was touched.
            JournalDamaged: its newest part cannot be trusted.
        """
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, thread_name_prefix="journal")

        def start() -> tuple[files.Lock, Store]:
            files.prepare(directory)
            lock = files.Lock(directory)
            try:
                return lock, open_store(directory, gateway=gateway, settings=settings, clock=clock)
            except BaseException:
                lock.release()
                raise

        try:
            lock, store = await loop.run_in_executor(executor, start)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(store, lock, executor, clock)

    async def close(self) -> None:
        """Finish what was begun, keep the cursors, let go of the lock. Twice is the same as once."""
        if self._closed:
            return
        self._closed = True
        self._house.cancel()
        await asyncio.gather(self._house, *self._commits, return_exceptions=True)
        try:
            await self._in_thread(self._store.close)
        finally:
            self._executor.shutdown(wait=False)
            self._lock.release()
            self._tell_news()

    # -- writing

    async def append(
        self,
        events: Sequence[Recordable],
        batches: Sequence[SampleBatch] = (),
        alive: Mapping[str, datetime | None] = _NOBODY,
    ) -> Sequence[Recorded]:
        """Number events and batches and make all of it durable at once; return the events as recorded.

        When room runs low, batches are left out, counted by tag and told as gaps; events are taken on.
        Waits when there is no room for those either (see `stats().full`): that is the back-pressure. Once
        the commit has begun, cancelling the caller does not stop it. `alive` maps connections to their last
        proof of life, or to None when they are known to be down.

        Raises:
            JournalFailed: the disk refused; the outcome is unknown and the journal takes nothing any more.
        """
        full = ""
        async with self._order:
            while True:
                self._check_open()
                commit = asyncio.create_task(self._commit(events, batches, alive))
                self._commits.add(commit)
                commit.add_done_callback(self._commits.discard)
                done = await asyncio.shield(commit)
                if isinstance(done, Appended):
                    break
                if not full:
                    log.error("the journal is full; nothing more is taken until there is room", reason=done)
                full = done
                await self._clock.sleep(_ROOM_S)
        if full:
            log.info("the journal has room again")
        return done.recorded

    async def _commit(
        self,
        events: Sequence[Recordable],
        batches: Sequence[SampleBatch],
        alive: Mapping[str, datetime | None],
    ) -> Appended | str:
        try:
            done = await self._call(self._store.append, events, batches, alive)
        except JournalFailed:
            self._tell_news()
            raise
        if isinstance(done, Appended):
            position = done.position
            self._events.extend(position.last_seq + 1 - len(events), done.recorded, [1] * len(events))
            weights = [1 + len(batch.samples) for batch in done.batches]
            self._batches.extend(position.last_batch + 1 - len(done.batches), done.batches, weights)
            self._position = position
            self._tell_news()
        return done

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """Note how far a sink has read. Kept with the next commit or within a second; never goes back."""
        await self._call(self._store.advance, sink, cursor)

    def require(self, sink: str, *, events: bool, batches: bool) -> None:
        """From now on nothing is freed that this sink has not read."""
        self._executor.submit(self._store.require, sink, Needs(events, batches))

    async def keep(self, name: str, body: bytes) -> None:
        """Keep some bytes under a name, in place of those kept before. Durable with the next commit or within
        a second; carried from segment to segment. Meant for a few small things: each is written whole.
        """
        await self._call(self._store.keep, name, body)

    async def kept(self, name: str) -> bytes | None:
        """What was kept last under a name."""
        return await self._call(lambda: self._store.kept.get(name))

    async def watch(self, watcher: JournalWatcher) -> None:
        """From now on somebody hears of every batch that is durable; nothing may be appended meanwhile.

        What it knows is kept when a segment begins, and before one is freed that it would have to read again.
        """
        await self._call(self._store.watch, watcher)

    async def keep_watched(self) -> None:
        """Keep what the watchers know now, as `keep` does."""
        await self._call(self._store.keep_watched)

    async def _keep_house(self) -> None:
        while True:
            await self._clock.sleep(_HOUSE_S)
            try:
                held = await self._call(self._store.keep_house)
            except JournalFailed as error:
                log.critical("the journal failed", reason=error.reason, hint=error.hint)
                self._tell_news()
                return
            self._position = _with_first(self._position, held)

    # -- reading

    @property
    def position(self) -> JournalPosition:
        """What is held."""
        return self._position

    def stats(self) -> JournalStats:
        """Figures as of the last second."""
        return self._store.stats

    def untold(self) -> Sequence[Loss]:
        """What was lost here and no event has told yet; told by appending what `losses.gaps` makes of it."""
        return self._store.waiting()

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order; from memory when they are recent.

        A damaged event is left out (and told in `stats().damaged`): its number is missing in the answer.
        """
        recent = self._events.after(after, limit)
        if recent is not None:
            return [item for _, item in recent]
        return await self._call(self._store.read, after, limit)

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order, until `limit` batches or enough samples."""
        recent = self._batches.after(after, limit, samples_max)
        if recent is not None:
            return recent
        return await self._call(self._store.read_batches, after, limit, samples_max)

    async def transitions(
        self, equipment: str, *, after: int, from_: datetime | None, to: datetime | None, limit: int
    ) -> Sequence[Recorded]:
        """Transitions of one equipment with `seq > after` and `from <= at < to`, in order."""
        return await self._call(self._store.transitions, equipment, after, from_, to, limit)

    async def transition_before(self, equipment: str, at: datetime) -> Recorded | None:
        """The newest transition of one equipment at or before an instant, if the journal still knows it."""
        return await self._call(self._store.transition_before, equipment, at)

    async def last_transitions(self) -> Mapping[str, Recorded]:
        """The newest transition of each equipment, however long ago."""
        return await self._call(lambda: dict(self._store.last))

    async def alive(self) -> Mapping[str, datetime]:
        """The last proof of life of each connection, as of the last commit."""
        return await self._call(lambda: dict(self._store.alive))

    async def cursor(self, sink: str) -> Cursor:
        """How far a sink has read; the beginning for one never heard of."""
        return await self._call(lambda: self._store.cursors.get(sink, Cursor()))

    async def wait_beyond(self, seq: int, batch: int) -> None:
        """Return when there is an event after `seq` or a batch after `batch`.

        Raises:
            JournalFailed: there never will be.
        """
        while self._position.last_seq <= seq and self._position.last_batch <= batch:
            news = self._news
            self._check_open()
            await news.wait()

    async def verify(self) -> Sequence[Damage]:
        """Read every record of every segment and say what is wrong. Appends go on in between."""
        found: list[Damage] = []
        index = 0
        while (damage := await self._call(self._store.damage_in, index)) is not None:
            found += damage
            index += 1
        return found

    # -- inside

    def _tell_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _check_open(self) -> None:
        if self._closed:
            raise JournalFailed("the journal is closed")
        self._store.check()

    async def _call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        self._check_open()
        return await self._in_thread(work, *args, **kwargs)

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))


def _with_first(position: JournalPosition, held: JournalPosition) -> JournalPosition:
    return JournalPosition(
        position.stream, held.first_seq, position.last_seq, held.first_batch, position.last_batch
    )
