"""The row of segments as one journal: numbering, rotation, freeing. See `shelf` for reading across files.

Everything here is synchronous and belongs to the journal's one thread. It does not know of tasks or of
what an event means; it decides what is durable and when a file may go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog

from connectors.base import Clock
from gateway.config.schema import JournalSettings
from gateway.errors import JournalFailed
from gateway.journal import files, head
from gateway.journal.bounds import Needs, bounds, is_wanted
from gateway.journal.losses import KEPT, KEPT_SINCE, Loss, Losses
from gateway.journal.reading import Carried, Origin, SegmentId
from gateway.journal.room import Room
from gateway.journal.segment import Block, Segment
from gateway.journal.shelf import Shelf
from gateway.journal.values import Cursor, Damage, JournalPosition, JournalStats, JournalWatcher
from statemodel.records import Recorded, tell
from statemodel.types import Recordable, SampleBatch, Transition

log = structlog.get_logger(__name__)

_DAMAGE_KEPT = 100
_GONE = "look whether its disk is still mounted and bring the folder back; then start the gateway again"
RESTART = "end the gateway and start it again: it reads what is on the disk and goes on from there"


class Appended(msgspec.Struct, frozen=True):
    """What one append made durable: all events, and the batches there was room for."""

    recorded: list[Recorded]
    batches: Sequence[SampleBatch]
    position: JournalPosition


class Store(Shelf):
    """All segments of one journal. See `recovery` for how it is opened."""

    def __init__(
        self,
        directory: Path,
        *,
        origin: Origin,
        ids: Sequence[SegmentId],
        newest: Segment,
        carried: Carried,
        position: JournalPosition,
        settings: JournalSettings,
        clock: Clock,
    ) -> None:
        super().__init__(directory, ids, newest, position)
        self.clock, self.settings = clock, settings
        self.stream, self.gateway = position.stream, origin.gateway
        self.last, self.alive = dict(carried.last), dict(carried.alive)
        self.cursors = dict(carried.cursors)
        self.required: dict[str, Needs] = {}
        self.stats = JournalStats(0, settings.bytes_max, 0, origin.created_at, 0, 0, 0, 0, "", (), {})
        self._created_at = origin.created_at
        self._sizes = {i: files.size_bytes(directory / i.name) for i in self.ids[:-1]}
        self._origins: dict[SegmentId, datetime] = {}
        self.kept = dict(carried.kept)
        self._pending: dict[str, Cursor] = {}
        self._pending_kept: dict[str, bytes] = {}
        self._watchers: list[JournalWatcher] = []
        self._counts = [0, 0, 0, 0]
        self._failure = self._hint = ""
        self._room = Room(directory, settings.bytes_max)
        self._losses = Losses(carried.kept.get(KEPT), carried.kept.get(KEPT_SINCE))
        self._unbounded: list[tuple[SegmentId, Damage]] = []
        self._waits_for_room = False
        # A quarter, so that there are always finished segments to free.
        self._segment_bytes = min(settings.segment_bytes, settings.bytes_max // 4)
        self._refresh()

    # -- writing

    def append(
        self,
        events: Sequence[Recordable],
        batches: Sequence[SampleBatch],
        alive: Mapping[str, datetime | None],
    ) -> Appended | str:
        """Number, encode and commit, with whatever cursors wait to be kept; or say why there is no room.

        Where there is room for events only, batches are left out, counted in this very transaction, and told
        later (see `losses`).
        """
        self.check()
        at, seq, number = self.clock.now(), self.position.last_seq, self.position.last_batch
        recorded = [
            tell(event, gateway=self.gateway, stream=self.stream, seq=seq + i, recorded_at=at)
            for i, event in enumerate(events, 1)
        ]
        block, shed, left_out = self._newest.encode(seq + 1, recorded, number + 1, batches), "", batches
        wanted = len(block.event_payload)
        with self._writing("looking for room"):
            if batches:
                shed = self._make_room(block.size_bytes, self._room.lacks_for_samples)
            reason = "" if batches and not shed else self._make_room(wanted, self._room.lacks_for_events)
        if reason:
            return self._is_full(reason)
        if shed:
            batches, block = (), block.without_batches()
        before = self._losses.to_keep_since() if shed or self._losses.waiting else b""
        if shed:
            self._losses.take_shed(left_out, shed)
        if self._losses.told(events) or shed:
            self.keep(KEPT_SINCE, self._losses.to_keep_since())
        marks = {name: proof for name, proof in alive.items() if self.alive.get(name) != proof}
        with self._writing("a commit"):
            if refused := self._commit(block, marks):
                if before:
                    self._losses.take_back(before)
                    self.keep(KEPT_SINCE, before)
                return self._is_full(refused)
        # These numbers are given, whatever fails from here on.
        self.position = msgspec.structs.replace(
            self.position, last_seq=seq + len(recorded), last_batch=number + len(batches)
        )
        if batches:
            self._losses.end_shedding()
        if (shed, "") != (self.stats.shedding, self.stats.full) and (batches or shed):
            self._refresh(full="", shedding=shed)
        self._pending, self._pending_kept = {}, {}
        for name, proof in marks.items():
            if proof is None:
                self.alive.pop(name, None)
            else:
                self.alive[name] = proof
        self.last.update((r.equipment, r) for r in recorded if isinstance(r.event, Transition))
        counts = self._counts
        counts[0] += len(recorded)
        counts[1] += len(batches)
        counts[2] += sum(len(batch.samples) for batch in batches)
        counts[3] += 1
        for watcher in self._watchers:
            watcher.appended(number + 1, batches)
        with self._writing("folding in the log"):
            self._newest.fold()
        if self._newest.size_bytes() >= self._segment_bytes:
            self.rotate()
            self.trim()
        return Appended(recorded, batches, self.position)

    def _commit(self, block: Block, marks: Mapping[str, datetime | None]) -> str:
        """One durable transaction, or why the disk has no room for it: then it is certainly not there.

        That is known only when there was no room to write. When the disk refuses to sync, nothing is known.
        """
        try:
            self._newest.write(block, marks, self._pending, self._pending_kept)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._newest.undo()
            return f"the disk under {self.directory} is full"
        return ""

    def _is_full(self, reason: str) -> str:
        if reason != self.stats.full:
            self._refresh(full=reason)
        return reason

    def waiting(self) -> Sequence[Loss]:
        """Losses that nobody has been told of. May be asked from any thread."""
        return self._losses.waiting

    def advance(self, sink: str, cursor: Cursor) -> None:
        """Note how far a sink has read; kept with the next commit or by `keep_house`."""
        now = self.cursors.get(sink, Cursor()).beyond(cursor)
        if now != self.cursors.get(sink):
            self.cursors[sink] = self._pending[sink] = now

    def keep(self, name: str, body: bytes) -> None:
        """Keep some bytes under a name; durable with the next commit or by `keep_house`."""
        if self.kept.get(name) != body:
            self.kept[name] = self._pending_kept[name] = body

    def keep_now(self, name: str, body: bytes) -> None:
        """The same, durable at once. Where the disk has no room it is durable later, as by `keep`."""
        self.keep(name, body)
        with self._writing("keeping something"):
            self._keep_cursors(in_hurry=True)

    def watch(self, watcher: JournalWatcher) -> None:
        """From now on a watcher hears of every batch, and what it knows is kept before it would be lost."""
        self._watchers.append(watcher)
        self.keep_watched()

    def keep_watched(self) -> None:
        """Keep what the watchers know now."""
        for watcher in self._watchers:
            self.keep(watcher.name, watcher.to_keep())

    def _keep_before_freeing(self, following: SegmentId) -> None:
        """What a watcher would have to read again does not go before what it knows is durable."""
        if any(watcher.held_from() < following.first_batch - 1 for watcher in self._watchers):
            self.keep_watched()
        if self._pending_kept:
            with self._writing("keeping what is counted"):
                self._keep_cursors(in_hurry=True)

    def require(self, sink: str, needs: Needs) -> None:
        """From now on nothing is freed that this sink has not read."""
        self.required[sink] = needs

    def release(self, sink: str) -> None:
        """Nothing waits for this sink any more."""
        self.required.pop(sink, None)

    def keep_house(self) -> None:
        """What must happen now and then: keep cursors, begin a segment by age, free, keep the reserve.

        What needs room while there is none is left for later.
        """
        with self._writing("keeping house"):
            if not files.is_there(self._newest.path):
                raise FileNotFoundError(2, "it was removed", str(self._newest.path))
            self._look_at_losses()
            self._keep_cursors()
            if self.clock.now() - self._created_at >= self.settings.segment_age:
                self.rotate()
            self.trim()
            files.set_ballast_aside(self.directory)
        self._refresh(shedding=self._lacks_for_samples(self._used(), 0))

    def _look_at_losses(self) -> None:
        """Say from when to when what was met as damaged lasted, and note when there is room again."""
        if self._losses.shedding and not self._lacks_for_samples(self._used(), 0):
            self._losses.end_shedding()
        unbounded, self._unbounded = self._unbounded, []
        for id_, damage in unbounded:
            if is_wanted(damage, self.required, self.cursors):
                at, until = bounds(self, id_, damage, self.clock.now())
                self._losses.take_damage((id_.name, damage.seq, damage.batch), at, until, damage.reason)
        self._losses.forget({id_.name for id_ in self.ids})
        if self._losses.changed:
            self.keep(KEPT, self._losses.to_keep())
            self.keep(KEPT_SINCE, self._losses.to_keep_since())

    def _keep_cursors(self, *, in_hurry: bool = False) -> None:
        """They are advice, a sink knows better: without room they wait, and a lost one costs nothing.

        In a hurry the reserve of the disk may be used: something is about to be freed.
        """
        if not self._pending and not self._pending_kept:
            return
        reason = "" if in_hurry else self._room.lacks_disk(sum(map(len, self._pending_kept.values())))
        if not reason:
            try:
                self._newest.write(None, {}, self._pending, self._pending_kept)
                self._pending, self._pending_kept = {}, {}
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                self._newest.undo()
                reason = str(error)
        if reason and not self._waits_for_room:
            log.warning("the journal keeps its cursors later, when there is room", reason=reason)
        self._waits_for_room = bool(reason)

    def rotate(self) -> None:
        """Finish the newest segment and begin another, unless it is empty or the disk has no room for it."""
        position, old = self.position, self.ids[-1]
        if (old.first_seq, old.first_batch) == (position.last_seq + 1, position.last_batch + 1):
            return
        with self._writing("looking for room"):
            if self._room.lacks_disk(self._newest.log_bytes()):
                return
        id_ = SegmentId(old.number + 1, position.last_seq + 1, position.last_batch + 1)
        origin = Origin(self.gateway, self.stream, self.clock.now())
        self.keep_watched()
        with self._writing("beginning a segment"):
            chain = self._newest.head()
            self._newest.finish()
            self._sizes[old] = files.size_bytes(self._newest.path)
            carried = Carried(self.last, self.alive, self.cursors, self.kept)
            self._newest = Segment.begin(self.directory, id_, origin, carried, chain)
        self._pending, self._pending_kept = {}, {}
        self._origins[old] = self._created_at
        self.ids.append(id_)
        self._created_at = origin.created_at
        with self._writing("noting a segment"):
            head.note(self.directory, id_.number, position)
        self._refresh()

    def trim(self, *, hurry: bool = False) -> bool:
        """Free the oldest segments every required sink has passed; in a hurry also those still to be kept."""
        freed = 0
        while len(self.ids) > freed + 1:
            oldest, following = self.ids[freed], self.ids[freed + 1]
            if not self._passed(following):
                break
            ended_at = self.begun_at(following)
            if not hurry and self.clock.now() - ended_at < self.settings.keep:
                break
            self._keep_before_freeing(following)
            freed += 1
            self._forget(oldest)
        if freed:
            del self.ids[:freed]
            first = self.ids[0]
            self.position = msgspec.structs.replace(
                self.position, first_seq=first.first_seq, first_batch=first.first_batch
            )
            self._refresh()
        return freed > 0

    def close(self) -> None:
        """Keep what waits and fold the newest segment in, as far as there is room. Never fails: what was
        committed is safe. After a failure nothing more is written.
        """
        if not self._failure:
            try:
                self._keep_cursors()
            except (sqlite3.Error, OSError) as error:
                log.warning("the journal could not keep its cursors when closing", reason=str(error))
        for finished in self._open.values():
            finished.close()
        try:
            self._newest.close()
            if not self._failure and not files.is_there(
                self._newest.path.with_name(f"{self.ids[-1].name}-wal")
            ):
                head.note(self.directory, self.ids[-1].number, self.position, closed=True)
        except (sqlite3.Error, OSError) as error:
            log.warning("the journal did not close cleanly; what was committed is safe", reason=str(error))

    # -- inside

    def check(self) -> None:
        """Refuse everything once a write has failed.

        Raises:
            JournalFailed: one has.
        """
        if self._failure:
            raise JournalFailed(self._failure, hint=self._hint)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        self.check()
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._fail(what, error)

    def _fail(self, what: str, error: Exception) -> NoReturn:
        self._failure = (
            f"{what} of the journal in {self.directory} failed: {error}; whether it is on the disk is unknown"
        )
        self._hint = RESTART if files.is_there(self._newest.path) else _GONE
        raise JournalFailed(self._failure, hint=self._hint) from error

    def note(self, id_: SegmentId, reason: str, *, seq: int = 0, batch: int = 0, lost: bool = True) -> None:
        """Tell that a part cannot be read: once, in the log, in the figures, and as a loss if it is one."""
        key, path = (id_.name, seq, batch), str(self.directory / id_.name)
        if key in self._damaged or len(self._damaged) >= _DAMAGE_KEPT:
            return
        self._damaged[key] = damage = Damage(path, reason, seq, batch)
        if lost and not self._losses.is_told(key):
            self._unbounded.append((id_, damage))
        log.error("a part of the journal cannot be read", path=path, seq=seq, batch=batch, reason=reason)
        self._refresh()

    def _passed(self, following: SegmentId) -> bool:
        """Whether every required sink has read all before this segment."""
        for sink, needs in self.required.items():
            cursor = self.cursors.get(sink, Cursor())
            if needs.events and cursor.seq < following.first_seq - 1:
                return False
            if needs.batches and cursor.batch < following.first_batch - 1:
                return False
        return True

    def begun_at(self, id_: SegmentId) -> datetime:
        """When a segment was begun."""
        if id_ == self.ids[-1]:
            return self._created_at
        if id_ not in self._origins:
            begun_at = self._created_at  # of a file that cannot say, we assume the most careful
            with self._reading(id_) as opened:
                if opened is not None:
                    begun_at = opened.origin().created_at
            self._origins[id_] = begun_at
        return self._origins[id_]

    def _forget(self, id_: SegmentId) -> None:
        if opened := self._open.pop(id_, None):
            opened.close()
        with self._writing("freeing a segment"):
            (self.directory / id_.name).unlink(missing_ok=True)
            files.sync_directory(self.directory)  # before the next one goes, or the power could leave a hole
        self._sizes.pop(id_, None)
        self._origins.pop(id_, None)

    def _make_room(self, wanted: int, lacks: Callable[[int, int], str]) -> str:
        """Free what may be freed until there is room; the reason why there is none, or empty."""
        while reason := lacks(self._used(), wanted):
            if not self.trim(hurry=True):
                break
        return reason

    def _lacks_for_samples(self, used: int, wanted: int) -> str:
        return self._room.lacks_for_samples(used, wanted, again=self._losses.shedding)

    def _used(self) -> int:
        return sum(self._sizes.values()) + self._newest.size_bytes()

    def _refresh(self, *, full: str | None = None, shedding: str | None = None) -> None:
        """Figures for other threads, replaced as a whole."""
        events, batches, samples, commits = self._counts
        self.stats = JournalStats(
            bytes=self._used(),
            bytes_max=self.settings.bytes_max,
            segments=len(self.ids),
            oldest_at=self.begun_at(self.ids[0]),
            events=events,
            batches=batches,
            samples=samples,
            commits=commits,
            full=self.stats.full if full is None else full,
            damaged=tuple(self._damaged.values()),
            sinks=dict(self.cursors),
            cut_bytes=self.stats.cut_bytes,
            shedding=self.stats.shedding if shedding is None else shedding,
            shed=dict(self._losses.shed),
            anchor=self._newest.anchor(),
        )
