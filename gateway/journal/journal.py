"""The one ordered, durable log that every sink reads at its own cursor: the part that awaits.

One thread owns all files (see `store`); this facade hands it work, keeps the newest records in memory and
wakes who waits for more. It does not know who the sinks are nor what the events mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ParamSpec, TypeVar

import structlog

from connectors.base import Clock
from gateway.config.schema import JournalSettings
from gateway.errors import JournalFailed
from gateway.journal import files
from gateway.journal.bounds import Needs
from gateway.journal.grouping import Ask, Outcome, answer, commit, next_group
from gateway.journal.losses import Loss
from gateway.journal.pages import Pages
from gateway.journal.recovery import open_store
from gateway.journal.store import Appended, Store
from gateway.journal.tail import Tail
from gateway.journal.values import Cursor, Damage, JournalPosition, JournalStats, JournalWatcher
from gateway.journal.worker import Worker
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

    def __init__(self, store: Store, lock: files.Lock, worker: Worker, clock: Clock) -> None:
        self.stream, self.directory = store.stream, store.directory
        self._store, self._lock, self._worker, self._clock = store, lock, worker, clock
        self._position = store.position
        self._events: Tail[Recorded] = Tail(_TAIL_EVENTS)
        self._batches: Tail[SampleBatch] = Tail(_TAIL_SAMPLES)
        self._events.extend(self._position.last_seq + 1, (), ())
        self._batches.extend(self._position.last_batch + 1, (), ())
        #: Number of the last transition of each equipment that moved since the journal was opened.
        self._moved: dict[str, int] = {}
        self._pages = Pages()
        self._news = asyncio.Event()
        #: Appends that wait for the commit under way, or for room.
        self._waiting: deque[Ask] = deque()
        self._under_way: Sequence[Ask] = ()
        self._full = ""
        self._for_room: asyncio.Task[None] | None = None
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
        worker = Worker("journal")

        def start() -> tuple[files.Lock, Store]:
            files.prepare(directory)
            lock = files.Lock(directory)
            try:
                return lock, open_store(directory, gateway=gateway, settings=settings, clock=clock)
            except BaseException:
                lock.release()
                raise

        try:
            lock, store = await worker.call(start)
        except BaseException:
            worker.stop()
            raise
        return cls(store, lock, worker, clock)

    async def close(self) -> None:
        """Finish what was begun, keep the cursors, let go of the lock. Twice is the same as once."""
        if self._closed:
            return
        self._closed = True
        tasks = [self._house] if self._for_room is None else [self._house, self._for_room]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answer(self._waiting, JournalFailed("the journal is closed"))
        self._waiting.clear()
        try:
            await self._worker.call(self._store.close)  # after the commit under way
        finally:
            self._worker.stop()
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
        Waits when there is no room for those either (see `stats().full`): that is the back-pressure. Calls
        that wait at the same time become durable together, numbered in the order of the calls. Once the
        commit has begun, cancelling the caller does not stop it. `alive` maps connections to their last
        proof of life, or to None when they are known to be down.

        Raises:
            JournalFailed: the disk refused; the outcome is unknown and the journal takes nothing any more.
        """
        self._check_open()
        ask = Ask(events, batches, alive, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        if not self._under_way and not self._full:
            self._begin_commit()
        return await ask.done

    def _begin_commit(self) -> None:
        """Commit what waits, all of it together."""
        self._under_way = next_group(self._waiting)
        if self._under_way:
            self._worker.submit(partial(commit, self._store, self._under_way), self._committed)
        else:  # those who waited have gone
            self._has_room()

    def _committed(self, outcomes: Sequence[Outcome] | None, error: BaseException | None) -> None:
        """Begin the next commit, then tell who waited for this one."""
        if outcomes is None:
            outcomes = [(self._under_way, JournalFailed(f"a commit of the journal failed: {error!r}"))]
        self._under_way = ()
        full = ""
        put_back: list[Ask] = []
        for group, done in outcomes:
            if isinstance(done, str):
                full = done
                put_back += group
            elif isinstance(done, Appended):
                self._take_in(done)
        self._waiting.extendleft(reversed(put_back))
        if self._closed:
            answer(self._waiting, JournalFailed("the journal is closed"))
            self._waiting.clear()
        elif full:
            self._has_no_room(full)
        else:
            self._has_room()
            self._begin_commit()
        for group, done in outcomes:
            if not isinstance(done, str):
                answer(group, done)
        self._tell_news()

    def _take_in(self, done: Appended) -> None:
        position = done.position
        self._events.extend(
            position.last_seq + 1 - len(done.recorded), done.recorded, [1] * len(done.recorded)
        )
        self._moved.update((item.equipment, item.seq) for item in done.recorded if item.type == "transition")
        weights = [1 + len(batch.samples) for batch in done.batches]
        self._batches.extend(position.last_batch + 1 - len(done.batches), done.batches, weights)
        self._position = position

    def _has_no_room(self, reason: str) -> None:
        """Look again soon. What is appended meanwhile waits behind."""
        if not self._full:
            log.error("the journal is full; nothing more is taken until there is room", reason=reason)
        self._full = reason
        self._for_room = asyncio.create_task(self._look_again(), name="journal-room")

    def _has_room(self) -> None:
        if self._full:
            self._full = ""
            log.info("the journal has room again")

    async def _look_again(self) -> None:
        await self._clock.sleep(_ROOM_S)
        self._begin_commit()

    async def advance(self, sink: str, cursor: Cursor) -> None:
        """Note how far a sink has read. Kept with the next commit or within a second; never goes back."""
        await self._call(self._store.advance, sink, cursor)

    def require(self, sink: str, *, events: bool, batches: bool) -> None:
        """From now on nothing is freed that this sink has not read."""
        self._worker.submit(partial(self._store.require, sink, Needs(events, batches)), _nobody_waits)

    def release(self, sink: str) -> None:
        """A sink is no more: what it has not read is freed like everything else. Its cursor is kept."""
        self._worker.submit(partial(self._store.release, sink), _nobody_waits)

    async def keep(self, name: str, body: bytes, *, now: bool = False) -> None:
        """Keep some bytes under a name, in place of those kept before. Durable with the next commit or within
        a second, with `now` when this returns (unless the disk is full); carried from segment to segment, and
        into a new stream when the name begins as `anew.LASTING`. Meant for a few small things: each is
        written whole.
        """
        await self._call(self._store.keep_now if now else self._store.keep, name, body)

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
                await self._call(self._store.keep_house)
            except JournalFailed as error:
                log.critical("the journal failed", reason=error.reason, hint=error.hint)
                self._tell_news()
                return

    # -- reading

    @property
    def position(self) -> JournalPosition:
        """What is held. What was freed is gone from here before `stats` tell of it."""
        return _with_first(self._position, self._store.position)

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
        """Transitions of one equipment with `seq > after` and `from <= at < to`, in order; from memory when
        the same was asked before and nothing has changed since."""
        self._check_open()
        question = (equipment, after, from_, to, limit)
        stand = (self._moved.get(equipment), self.position.first_seq)
        known = self._pages.find(question, stand)
        if known is not None:
            return known
        found = await self._call(self._store.transitions, *question)
        if not self._store.damaged_count:  # what cannot be read is tried again each time
            self._pages.keep(question, stand, found)
        return found

    async def transition_before(self, equipment: str, at: datetime) -> Recorded | None:
        """The newest transition of one equipment at or before an instant, if the journal still knows it."""
        return await self._call(self._store.transition_before, equipment, at)

    async def around(
        self, equipment: str, from_: datetime, to: datetime, limit: int
    ) -> tuple[Recorded | None, Sequence[Recorded] | None]:
        """The newest transition of one equipment at or before an instant, if the journal still knows it, and
        those with `from < at < to`, in order: nothing is freed between the two. None in their place where
        some of them may have been freed."""
        return await self._call(self._store.around, equipment, from_, to, limit)

    async def transition_up_to(self, equipment: str, seq: int) -> Recorded | None:
        """The transition of one equipment with the highest number up to one that is still known."""
        return await self._call(self._store.transition_up_to, equipment, seq)

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
        return await self._worker.call(partial(work, *args, **kwargs))


def _nobody_waits(_: None, error: BaseException | None) -> None:
    if error is not None:
        raise error


def _with_first(position: JournalPosition, held: JournalPosition) -> JournalPosition:
    """A position with the beginning of a newer one. What nobody was told yet may be freed already: still a
    journal never begins more than one beyond its end."""
    first_seq = min(held.first_seq, position.last_seq + 1)
    first_batch = min(held.first_batch, position.last_batch + 1)
    if (first_seq, first_batch) == (position.first_seq, position.first_batch):
        return position
    return JournalPosition(position.stream, first_seq, position.last_seq, first_batch, position.last_batch)
