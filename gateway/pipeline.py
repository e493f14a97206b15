"""The way of the data inside the process: filter, step, append, announce. One task owns all of it.

Events come in through a bounded queue, so a full journal slows the connectors and nothing is dropped in
between. While one commit is on its way to the disk, what arrives meanwhile becomes the next: commits group
themselves under load. Whatever moves a state is committed at once; samples that move none wait a moment for
each other, because a commit costs the disk as much for one as for a hundred. Nobody hears of an event the
journal does not hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from connectors.base import Clock
from connectors.settings import ConnectionSettings
from gateway.errors import GatewayError
from gateway.filters import no_communication
from gateway.repeats import Repeats
from gateway.reporting import Report
from gateway.sieve import Sieve
from gateway.waiting import Asked, Counts, EventLog, Exchanged, Item, Listener, Mark, Reread, Turn
from statemodel.engine import Engine
from statemodel.records import Recorded
from statemodel.types import (
    AuditAnchor,
    CommandTold,
    Correction,
    DeviceEvent,
    Event,
    Gap,
    Late,
    Quality,
    Recordable,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    Tick,
)

#: Events waiting for the pipeline; beyond it the connectors wait.
QUEUE_EVENTS_MAX = 2000
#: Most events in one commit, so that a burst does not delay the first of it for long.
COMMIT_EVENTS_MAX = 256
#: How long samples that moved no state wait for others to share a commit with, in seconds.
LINGER_S = 0.02
#: So many samples are a commit of their own.
LINGER_SAMPLES_MAX = 1000


_BAD = Quality.BAD


class Pipeline:
    """From events to durable, announced transitions."""

    def __init__(
        self,
        *,
        engine: Engine,
        log: EventLog,
        connections: Sequence[ConnectionSettings],
        listeners: Sequence[Listener],
        clock: Clock,
        heartbeat: timedelta,
        alive: Mapping[str, datetime],
        came_round: Callable[[], None],
        repeats: Repeats | None = None,
        untold: Callable[[], Sequence[Gap]] = tuple,
        committed: Callable[[], None] = lambda: None,
        late: Callable[[Sequence[Late]], None] = lambda _: None,
        topics: Sequence[Callable[[Sequence[TagSample]], None]] = (),
        hearers: Sequence[Callable[[Sequence[Recorded]], None]] = (),
    ) -> None:
        """`listeners` are told every change at once, `topics` as each tag's report times say; `hearers`
        hear of what is recorded alone.

        `repeats` knows the events of devices that are on record; without it none are. `untold` gives the
        losses the journal has to tell of, until they are on record. `committed` is called
        whenever the journal holds exactly what the engine has been through, `late` when the engine has met
        samples of a time it had judged already.
        """
        self._engine = engine
        self._log = log
        self._sieve = Sieve(connections)
        self._topics = tuple(topics)
        #: When a group with stale tags, or a heartbeat that is due, was first read again.
        self._first_reading: dict[str, datetime] = {}
        self._listeners = tuple(listeners)
        self._hearers = (*(listener.announce for listener in listeners), *hearers)
        self._clock = clock
        self._heartbeat_s = heartbeat.total_seconds()
        #: None, put last, ends the work.
        self._queue: asyncio.Queue[Item | None] = asyncio.Queue(QUEUE_EVENTS_MAX)
        self._finished = False
        self._waiting = dict.fromkeys(self._sieve.connections, 0)
        self._alive: dict[str, datetime | None] = dict(alive)
        #: What the next commit holds, and whose proofs of life belong to it.
        self._records: list[Recordable] = []
        self._asked: list[tuple[int, asyncio.Future[Recorded]]] = []
        self._marks: list[asyncio.Future[None]] = []
        self._batches: list[SampleBatch] = []
        self._proved: set[str] = set()
        self._recorded_before = 0
        #: Monotonic times: when what is held has to be committed, and when all proofs of life have.
        self._commit_by_s = float("inf")
        self._heartbeat_by_s = clock.monotonic() + self._heartbeat_s
        self._came_round = came_round
        self._repeats = repeats or Repeats()
        self._untold = untold
        self._committed = committed
        self._late = late
        self._wake_at: datetime | None = None
        self.counts = Counts()

    async def offer(self, event: SampleBatch | SourceLost | SourceRestored | Gap | DeviceEvent) -> None:
        """Hand in what happened. Waits while the pipeline is behind. Of a connection that has been taken out
        nothing is taken in any more."""
        if event.connection not in self._waiting:
            return
        self._waiting[event.connection] += 1
        try:
            await self._queue.put(event)
        except asyncio.CancelledError:
            if event.connection in self._waiting:
                self._waiting[event.connection] -= 1
            raise

    async def record(self, event: Correction | CommandTold | AuditAnchor) -> Recorded:
        """Record what somebody asks for, in order with everything else; returns it once it is durable.

        Waits while the pipeline is behind. It is recorded also when the caller stops waiting.
        """
        done: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        await self._queue.put(Asked(event, self._clock.now(), done))
        return await done

    async def caught_up(self) -> None:
        """Return when everything that was handed in before is durable and told. Waits while it is behind."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(Mark(self._clock.now(), done))
        await done

    async def exchange(self, turn: Callable[[datetime], Turn]) -> None:
        """Go on with another configuration from a place in the queue on: all before it is judged, recorded
        and told by the present one, all behind it by the next. Returns when what the exchange itself moves is
        durable and told. It is made also when the caller stops waiting.

        Raises:
            ValueError, LookupError, GatewayError: what `turn` has raised; nothing has changed then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(Exchanged(self._clock.now(), turn, done))
        await done

    def publish_to(self, topics: Sequence[Callable[[Sequence[TagSample]], None]]) -> None:
        """From now on these are told of each tag as its report times say."""
        self._topics = tuple(topics)

    def seen(self, connection: str, at: datetime) -> None:
        """A connection proved that it lives. Counts only when nothing it said before is still waiting here,
        so that the durable proof of life never runs ahead of the durable events."""
        if self._waiting.get(connection) == 0:
            self._alive[connection] = max(at, self._alive.get(connection) or at)

    def read(self, connection: str, group: str, at: datetime) -> None:
        """A group has been read completely, with or without news: its tags are not stale.

        Those that were are taken at their last word again, but only at the second reading: by then all the
        first had to say is in the queue ahead, and a newer value is not overtaken by the proof of an old one.
        The same goes for those whose last word is to be told again now and then.
        """
        if connection not in self._waiting:
            return
        key = f"{connection}/{group}"
        stale, beat = self._sieve.stale.read(key, at), self._sieve.reporter.read(key, at)
        if not stale and not beat:
            self._first_reading.pop(key, None)
        elif key not in self._first_reading:
            self._first_reading[key] = at
        elif not self._queue.full():
            self._waiting[connection] += 1
            self._queue.put_nowait(Reread(connection, key, self._first_reading.pop(key)))

    def ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Ranges of tags (full ids) the device gave, ahead of the first sample of its session."""
        self._sieve.set_ranges(ranges)

    @property
    def backlog(self) -> int:
        """Events waiting."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Work until `finish`. Failures of the journal come through: the process must stop on them."""
        while not self._finished:
            await self._work(await self._next())
            self._came_round()

    async def finish(self, last_words: Iterable[Gap | SourceLost]) -> None:
        """Once no connector runs any more: work off what waits, record what ends with the process, end."""
        for words in last_words:
            await self.offer(words)
        await self._queue.put(None)

    async def _next(self) -> list[Item]:
        """What has arrived, or a tick when time itself is due, or nothing when it is time for a commit."""
        if not self._queue.empty():
            return self._arrived(self._queue.get_nowait())
        pause_s = max(0.0, min(self._commit_by_s, self._heartbeat_by_s) - self._clock.monotonic())
        wakes = (self._wake_at, self._sieve.wake_at())
        wake_at = min((at for at in wakes if at is not None), default=None)
        if wake_at is not None:
            pause_s = min(pause_s, max(0.0, (wake_at - self._clock.now()).total_seconds()))
        try:
            async with asyncio.timeout(pause_s):
                first = await self._queue.get()
        except TimeoutError:
            now = self._clock.now()
            return [Tick(now)] if wake_at is not None and now >= wake_at else []
        return self._arrived(first)

    def _arrived(self, first: Item | None) -> list[Item]:
        """An event and those behind it."""
        events: list[Item] = []
        event = first
        while event is not None:
            events.append(event)
            if len(events) >= COMMIT_EVENTS_MAX or self._queue.empty():
                return events
            event = self._queue.get_nowait()
        self._finished = True
        return events

    async def _work(self, events: Sequence[Item]) -> None:
        """Filter and step each event; commit what has come together when it is time, then tell."""
        for event in events:
            if isinstance(event, Exchanged):
                await self._exchange(event)
                continue
            if not isinstance(event, Tick | Asked | Mark) and event.connection not in self._waiting:
                continue  # said while its connection was being taken out
            records, batches = self._records, self._batches
            now = event.received_at if isinstance(event, SampleBatch | DeviceEvent) else event.at
            self._distrust(now, records, batches)
            if isinstance(event, SampleBatch):
                self._prove(event)
                self._take_batch(event, records, batches)
            elif isinstance(event, Reread):
                proved = self._sieve.stale.fresh(event.group, event.at)
                fresh = SampleBatch(event.connection, event.at, proved)
                self._sieve.stale.note(fresh)
                self._take_batch(fresh, records, batches)
                self._tell(
                    event.connection,
                    event.at,
                    self._sieve.reporter.proved(event.group, event.at, event.at),
                    batches,
                )
            elif isinstance(event, Gap):
                records.append(event)
            elif isinstance(event, DeviceEvent):
                self._take_device_event(event, records)
            elif isinstance(event, Mark):
                self._marks.append(event.done)
            elif isinstance(event, Asked):
                self._asked.append((len(records), event.done))
                records.append(event.event)
                self.counts.corrections += 1
            else:
                self._take(event, records, batches)
            if not isinstance(event, Tick | Asked | Mark):
                self._waiting[event.connection] = max(0, self._waiting[event.connection] - 1)
        if not events or self._finished or self._records or self._marks or self._has_waited():
            await self._commit()

    async def _exchange(self, wanted: Exchanged) -> None:
        """All before this is durable first, so that what fails later leaves nothing half told."""
        await self._commit()
        try:
            turn = wanted.turn(wanted.at)
        except (ValueError, LookupError, GatewayError) as error:
            if not wanted.done.done():
                wanted.done.set_exception(error)
            return
        self._sieve.exchange(turn.gone, turn.come)
        for name in turn.gone:
            del self._waiting[name]
            self._alive.pop(name, None)
            for key in [key for key in self._first_reading if key.partition("/")[0] == name]:
                del self._first_reading[key]
        for connection in turn.come:
            self._waiting[connection.name] = 0
        self._engine = turn.engine
        turn.taken()
        self._records.extend(turn.farewells)
        self.counts.transitions += len(turn.farewells)
        self._step(Tick(wanted.at), self._records)  # equipment that means something else now says so
        await self._commit()
        if not wanted.done.done():
            wanted.done.set_result(None)

    def _has_waited(self) -> bool:
        """Whether samples have waited long enough for others, or all proofs of life for a commit."""
        now_s = self._clock.monotonic()
        if self._batches and self._commit_by_s > now_s + LINGER_S:
            self._commit_by_s = now_s + LINGER_S
        return (
            self.counts.recorded - self._recorded_before >= LINGER_SAMPLES_MAX
            or len(self._batches) >= COMMIT_EVENTS_MAX
            or now_s >= min(self._commit_by_s, self._heartbeat_by_s)
        )

    async def _commit(self) -> None:
        """Make durable what is held, with the proofs of life that belong to it; now and then with all."""
        now_s, alive = self._clock.monotonic(), self._alive
        records, batches = self._records, self._batches
        if now_s >= self._heartbeat_by_s or self._finished or not (records or batches):
            self._heartbeat_by_s = now_s + self._heartbeat_s
            proofs = dict(alive)
        else:
            proofs = {name: alive[name] for name in self._proved}
        asked, self._asked = self._asked, []
        marks, self._marks = self._marks, []
        self._records, self._batches, self._commit_by_s = [], [], float("inf")
        self._proved.clear()
        self._recorded_before = self.counts.recorded
        records.extend(self._untold())
        recorded = await self._log.append(records, batches, proofs)
        self.counts.commits += 1
        self._committed()
        if recorded:
            for hear in self._hearers:
                hear(recorded)
        for place, done in asked:
            if not done.done():
                done.set_result(recorded[place])
        for mark in marks:
            if not mark.done():
                mark.set_result(None)

    def _distrust(self, now: datetime, records: list[Recordable], batches: list[SampleBatch]) -> None:
        """What nobody has proved in time is bad before anything later is looked at."""
        due = self._sieve.stale.wake_at()
        if due is not None and due <= now:
            for batch in self._sieve.stale.overdue(now):
                self._take_batch(batch, records, batches)
        for batch in self._sieve.filter.due(now):
            self.counts.passed += len(batch.samples)  # it had been taken for no news
            self._step(batch, records)
            self._keep(batch, batch, batches)
        for connection, report in self._sieve.reporter.due(now).items():
            self._tell(connection, now, report, batches)

    def _prove(self, batch: SampleBatch) -> None:
        """A batch from the device: its connection lives, and its tags are not stale."""
        self._sieve.stale.note(batch)
        self._proved.add(batch.connection)
        self._alive[batch.connection] = max(
            batch.received_at, self._alive.get(batch.connection) or batch.received_at
        )

    def _take_device_event(self, event: DeviceEvent, records: list[Recordable]) -> None:
        """What a device says of itself moves no state; it is recorded, once."""
        self._proved.add(event.connection)
        self._alive[event.connection] = max(
            event.received_at, self._alive.get(event.connection) or event.received_at
        )
        if self._repeats.is_new(event):
            records.append(event)
            self.counts.device_events += 1
        else:
            self.counts.repeated_events += 1

    def _take_batch(self, batch: SampleBatch, records: list[Recordable], batches: list[SampleBatch]) -> None:
        if not batch.samples:
            return
        passed = self._sieve.filter.apply(batch)
        self.counts.samples += len(batch.samples)
        self.counts.passed += len(passed.samples)
        self.counts.bad_samples += len([None for sample in passed.samples if sample.quality is _BAD])
        if passed.samples:
            self._step(passed, records)
        self._keep(batch, passed, batches)

    def _take(
        self,
        event: Tick | SourceLost | SourceRestored,
        records: list[Recordable],
        batches: list[SampleBatch],
    ) -> None:
        if not isinstance(event, Tick):
            records.append(event)
        self._step(event, records)
        if isinstance(event, SourceLost):
            # Down connections have no proof of life: a restart must not report their loss again.
            self._alive[event.connection] = None
            self._proved.add(event.connection)
            self._sieve.filter.forget(event.connection)
            self._sieve.stale.forget(event.connection)
            self._tell(
                event.connection, event.at, self._sieve.reporter.end(event.connection, event.at), batches
            )
            lost = no_communication(self._sieve.connections[event.connection], event.at)
            for listener in self._listeners:
                listener.samples(lost.samples)
            self._publish(lost.samples)
            self.counts.made += len(lost.samples)
            self._record(lost, batches)

    def _step(self, event: Event, records: list[Recordable]) -> None:
        outcome = self._engine.step(event)
        self._wake_at = outcome.wake_at
        if outcome.late:
            self._late(outcome.late)
        records.extend(outcome.transitions)
        records.extend(outcome.rejections)
        self.counts.transitions += len(outcome.transitions)
        self.counts.rejections += len(outcome.rejections)

    def _keep(self, batch: SampleBatch, passed: SampleBatch, batches: list[SampleBatch]) -> None:
        """Tell of a batch of which `passed` is news, and write down what is to be recorded of it."""
        if passed.samples:
            for listener in self._listeners:
                listener.samples(passed.samples)
        report = self._sieve.reporter.take(batch, passed)
        if report is not None:
            self._tell(batch.connection, batch.received_at, report, batches)
        elif passed.samples:
            self._publish(passed.samples)
            self._record(passed, batches)

    def _tell(self, connection: str, at: datetime, report: Report, batches: list[SampleBatch]) -> None:
        """Tell what the rules of a connection's tags let through at this instant."""
        self._publish(report.topics)
        if report.history:
            source_time = self._sieve.connections[connection].time == "source"
            self._record(SampleBatch(connection, at, tuple(report.history), source_time), batches)

    def _publish(self, samples: Sequence[TagSample]) -> None:
        if samples:
            for publish in self._topics:
                publish(samples)

    def _record(self, batch: SampleBatch, batches: list[SampleBatch]) -> None:
        kept = batch
        if self._sieve.unrecorded:
            samples = tuple(sample for sample in batch.samples if sample.tag not in self._sieve.unrecorded)
            if len(samples) != len(batch.samples):
                kept = SampleBatch(batch.connection, batch.received_at, samples, batch.source_time)
                self.counts.not_recorded += len(batch.samples) - len(samples)
        if kept.samples:
            batches.append(kept)
            self.counts.recorded += len(kept.samples)
