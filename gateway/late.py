"""Late samples: what a device tells afterwards corrects what was told meanwhile.

Watches for two things: a connection that was lost and taken up again with all that happened in between, and
samples older than the state they meet. A while later, off the way of the data, the equipment concerned is
judged again (`statemodel.late`) from a snapshot taken before, with the samples the journal holds since; where
that differs from what was told, one correction is recorded. Bounded everywhere; what cannot be judged for
certain stays as it was told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

import structlog

from api.ports import HistoryUnavailable, Interval
from connectors.base import Clock
from connectors.settings import ConnectionSettings
from gateway.history import JoinedHistory
from gateway.journal import Journal
from statemodel.corrected import INTERVALS_MAX, LATE_SAMPLES, Stretch
from statemodel.engine import Engine, EquipmentSpec
from statemodel.late import Taken, evidence, is_mark, judged_again, what_changes
from statemodel.machine import occurred_at
from statemodel.records import Recorded
from statemodel.snapshot import EngineSnapshot
from statemodel.types import (
    TAKEN_UP,
    Cause,
    Correction,
    Gap,
    Late,
    SampleBatch,
    SourceLost,
    SourceRestored,
)

log = structlog.get_logger("andon.late")

#: How often a snapshot to judge from is taken, and how many are kept.
ANCHOR_S: Final = 60.0
ANCHORS_MAX: Final = 4
#: A snapshot serves for what happened so much later: the last words before a loss may not have come.
_BEFORE: Final = timedelta(seconds=5)
#: How long after a return, or after the first late sample, an equipment is judged again.
RETURN_S: Final = 15.0
LATE_S: Final = 60.0
#: Pause before another try, and how many there are.
RETRY_S: Final = 15.0
TRIES_MAX: Final = 8
#: Longest time that is judged again, and most samples.
WINDOW_MAX: Final = timedelta(hours=4)
SAMPLES_MAX: Final = 200_000
_PAGE_BATCHES: Final = 2_000
_PAGE_SAMPLES: Final = 20_000
_LOSSES_MAX: Final = 100
_TOLD_MAX: Final = 5_000
#: The last of what was said is left to settle.
_MARGIN: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class _Anchor:
    """A snapshot of an equipment, and the last batch that had been taken in by then."""

    at: datetime
    batch: int
    snapshot: EngineSnapshot


@dataclass
class _Link:
    """What is known of a connection since the oldest anchor. `whole` are losses after which it told all."""

    lost_at: datetime | None = None
    #: Each with the last batch that had been taken in before it.
    losses: deque[tuple[SourceLost, int]] = field(default_factory=lambda: deque(maxlen=_LOSSES_MAX))
    whole: deque[tuple[SourceLost, datetime]] = field(default_factory=lambda: deque(maxlen=_LOSSES_MAX))
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=_LOSSES_MAX))


@dataclass
class _Job:
    """An equipment to be judged again: from when on, since when what came late came, and when it is due."""

    begin: datetime
    since: datetime
    due_s: float
    why: str
    is_return: bool
    tries: int = 0


class LateSamples:
    """Corrects what late samples show to have been told wrongly. `run` is its one task.

    `committed` and `heard` are called by the pipeline, in this order, when something is durable; `late` when
    the engine has met a late sample. All three only take notes.
    """

    def __init__(
        self,
        specs: Iterable[EquipmentSpec],
        connections: Sequence[ConnectionSettings],
        *,
        engine: Engine,
        journal: Journal,
        history: JoinedHistory,
        clock: Clock,
        mode: Literal["correct", "keep"],
    ) -> None:
        self._engine, self._journal, self._history, self._clock = engine, journal, history, clock
        #: Set before anything is recorded: see `Pipeline.record`.
        self.record: Callable[[Correction], Awaitable[Recorded]] | None = None
        self._specs = {} if mode == "keep" else {spec.name: spec for spec in judgeable(specs, connections)}
        self._anchors: dict[str, deque[_Anchor]] = {name: deque(maxlen=ANCHORS_MAX) for name in self._specs}
        self._links = {
            tag.partition("/")[0]: _Link() for spec in self._specs.values() for tag in spec.inputs.values()
        }
        self._jobs: dict[str, _Job] = {}
        self._judging = ""
        self._anchor_s = float("-inf")
        self._news = asyncio.Event()
        self.corrections = self.given_up = 0

    def exchange(
        self,
        specs: Iterable[EquipmentSpec],
        connections: Sequence[ConnectionSettings],
        *,
        engine: Engine,
        changed: Collection[str],
        mode: Literal["correct", "keep"],
    ) -> None:
        """Watch another configuration from now on. Equipment in `changed` is judged otherwise than before, so
        nothing that was noted of it serves any more."""
        self._engine = engine
        self._specs = {} if mode == "keep" else {spec.name: spec for spec in judgeable(specs, connections)}
        kept = self._specs.keys() - set(changed)
        self._anchors = {
            name: self._anchors[name] if name in kept and name in self._anchors else deque(maxlen=ANCHORS_MAX)
            for name in self._specs
        }
        fed = {tag.partition("/")[0] for spec in self._specs.values() for tag in spec.inputs.values()}
        self._links = {name: self._links.get(name) or _Link() for name in fed}
        self._jobs = {name: job for name, job in self._jobs.items() if name in kept}

    # -- notes, on the way of the data

    def committed(self) -> None:
        """All that the engine has taken in is durable: the moment for a snapshot."""
        now_s = self._clock.monotonic()
        if now_s < self._anchor_s + ANCHOR_S or not self._specs:
            return
        self._anchor_s = now_s
        now, batch = self._clock.now(), self._journal.position.last_batch
        for name, anchors in self._anchors.items():
            job = self._jobs.get(name)
            waits = name == self._judging or (job is not None and job.is_return)
            if not waits and not any(link.lost_at for link in self._links_of(name)):
                anchors.append(_Anchor(now, batch, self._engine.kept(name)))
        oldest = min((anchors[0].at for anchors in self._anchors.values() if anchors), default=now)
        for link in self._links.values():
            while link.losses and link.losses[0][0].at < oldest:
                link.losses.popleft()
            while link.whole and link.whole[0][1] < oldest:
                link.whole.popleft()
            while link.gaps and link.gaps[0].until < oldest:
                link.gaps.popleft()

    def heard(self, recorded: Sequence[Recorded]) -> None:
        """Events that are now durable."""
        for one in recorded:
            event = one.event
            if isinstance(event, SourceLost | SourceRestored | Gap):
                link = self._links.get(event.connection)
                if link is None:
                    continue
                if isinstance(event, Gap):
                    link.gaps.append(event)
                elif isinstance(event, SourceLost):
                    link.losses.append((event, self._journal.position.last_batch))
                    link.lost_at = event.at
                else:
                    self._restored(event, link)

    def late(self, found: Sequence[Late]) -> None:
        """Samples that would have been judged otherwise had they come in time."""
        for one in found:
            if one.equipment in self._specs:
                self._want(one.equipment, one.at, one.received_at, LATE_S, "samples came late")

    def _restored(self, event: SourceRestored, link: _Link) -> None:
        lost_at, link.lost_at = link.lost_at, None
        if lost_at is None or event.reason != TAKEN_UP or not link.losses:
            return
        link.whole.append((link.losses[-1][0], event.at))
        lost = f"lost from {lost_at.isoformat()} to {event.at.isoformat()}"
        why = f"{event.connection} was {lost} and has told since what happened"
        for name in self._specs:
            if link in self._links_of(name):
                self._want(name, lost_at, event.at, RETURN_S, why)

    def _want(self, name: str, begin: datetime, since: datetime, within_s: float, why: str) -> None:
        due_s = self._clock.monotonic() + within_s
        job = self._jobs.get(name)
        if job is None:
            self._jobs[name] = _Job(begin, since, due_s, why, within_s == RETURN_S)
        else:
            job.begin, job.since = min(job.begin, begin), min(job.since, since)
            if within_s == RETURN_S:
                job.due_s, job.why, job.is_return, job.tries = due_s, why, True, 0
        self._news.set()

    def _links_of(self, name: str) -> list[_Link]:
        spec = self._specs.get(name)
        tags = () if spec is None else spec.inputs.values()
        return [self._links[connection] for connection in dict.fromkeys(t.partition("/")[0] for t in tags)]

    # -- the work, beside it

    async def run(self) -> None:
        """Judge again what is due, one equipment after the other, for ever."""
        while True:
            self._news.clear()
            if not self._jobs:
                await self._news.wait()
                continue
            name, job = min(self._jobs.items(), key=lambda item: item[1].due_s)
            pause_s = job.due_s - self._clock.monotonic()
            if pause_s > 0:
                await self._clock.sleep(min(pause_s, RETRY_S))
                continue
            if any(link.lost_at for link in self._links_of(name)):
                job.due_s = self._clock.monotonic() + RETRY_S  # what it kept has not all been told yet
                if self._clock.now() - job.begin > WINDOW_MAX:
                    self._give_up(name, "the connection did not come back")
                continue
            self._judging = name
            del self._jobs[name]
            try:
                reason = await self._judge(name, job)
            except HistoryUnavailable as error:
                reason = error.reason
            self._judging = ""
            if reason:
                self._again(name, job, reason)

    def _again(self, name: str, job: _Job, reason: str) -> None:
        """Try once more, a few times; with what has come late meanwhile."""
        job.tries += 1
        if job.tries >= TRIES_MAX:
            self._give_up(name, reason)
            return
        if (other := self._jobs.get(name)) is not None:
            job.begin, job.since = min(job.begin, other.begin), min(job.since, other.since)
        job.due_s = self._clock.monotonic() + RETRY_S
        self._jobs[name] = job

    def _give_up(self, name: str, reason: str) -> None:
        self.given_up += 1
        self._jobs.pop(name, None)
        log.warning("late samples correct nothing", equipment=name, reason=reason)

    async def _judge(self, name: str, job: _Job) -> str:
        """Judge one equipment again and record what differs; why that is not possible yet, or empty."""
        spec, anchors = self._specs[name], self._anchors[name]
        anchor = next((one for one in reversed(anchors) if one.at + _BEFORE <= job.begin), None)
        anchor = anchor or (anchors[0] if anchors else None)
        if anchor is None:
            return "there is no snapshot from before"
        end = self._clock.now() - _MARGIN
        if end - anchor.at > WINDOW_MAX:
            self._give_up(name, f"they are about more than {WINDOW_MAX}")
            return ""
        numbered = await self._batches(anchor, frozenset(spec.inputs.values()))
        if numbered is None:
            self._give_up(name, f"there are more than {SAMPLES_MAX} samples")
            return ""
        batches = [batch for _, batch in numbered]
        taken = Taken(spec, anchor.snapshot, anchor.at, batches, self._losses(spec, numbered))
        late_at = _earliest(batches, job.since, anchor.at)
        begin = max(anchor.at, min(job.begin, late_at or job.begin))
        judged = await asyncio.to_thread(judged_again, taken, end)
        # Asked last: what a person has corrected meanwhile stays.
        told = _stretches(await self._history.timeline(name, begin, end, _TOLD_MAX))
        if not told or len(told) == _TOLD_MAX or told[0].begin > begin:
            self._give_up(name, "what was told of that time is not to be had")
            return ""
        if self._specs.get(name) is not spec:
            return ""  # another configuration holds by now: what it would have been told is of no use
        if judged[-1].state != told[-1].state:
            return f"it would now be in {judged[-1].state}, and it is in {told[-1].state}"
        changes = what_changes(told, judged, late_at)
        for start in range(0, len(changes), INTERVALS_MAX):
            some = changes[start : start + INTERVALS_MAX]
            await self._correct(
                Correction(
                    name,
                    spec.path,
                    spec.model.name,
                    some[0].from_,
                    some[-1].to,
                    tuple(some),
                    job.why,
                    LATE_SAMPLES,
                    cause=Cause("late_samples", evidence(taken, job.since), job.why),
                )
            )
        return ""

    async def _correct(self, correction: Correction) -> None:
        assert self.record is not None, "set before the pipeline runs"
        recorded = await self.record(correction)
        self.corrections += 1
        log.info(
            "late samples correct what was told",
            equipment=correction.equipment,
            seq=recorded.seq,
            begin=correction.at,
            end=correction.until,
            intervals=len(correction.intervals),
        )

    async def _batches(self, anchor: _Anchor, tags: frozenset[str]) -> list[tuple[int, SampleBatch]] | None:
        """What was taken in of some tags since an anchor, numbered; None when it is too much."""
        found: list[tuple[int, SampleBatch]] = []
        after, last, samples = anchor.batch, self._journal.position.last_batch, 0
        while after < last:
            page = await self._journal.read_batches(after, _PAGE_BATCHES, samples_max=_PAGE_SAMPLES)
            if not page:
                break
            for number, batch in page:
                after = number
                kept = tuple(sample for sample in batch.samples if sample.tag in tags)
                if kept:
                    samples += len(kept)
                    only = SampleBatch(batch.connection, batch.received_at, kept, batch.source_time)
                    found.append((number, only))
            if samples > SAMPLES_MAX:
                return None
        return found

    def _losses(self, spec: EquipmentSpec, batches: Sequence[tuple[int, SampleBatch]]) -> list[SourceLost]:
        """The losses that cost samples of an equipment. One is dated to the last proof of life, but samples
        that came before it was known were believed: it counts from after them."""
        tags = {"", *spec.inputs.values()}
        found: list[SourceLost] = []
        for link in self._links_of(spec.name):
            whole = [
                loss
                for loss, until in link.whole
                if not any(gap.tag in tags and gap.until > loss.at and gap.at < until for gap in link.gaps)
            ]
            for loss, last in link.losses:
                if loss in whole:
                    continue
                believed = [
                    batch.received_at
                    for number, batch in batches
                    if number <= last
                    and batch.connection == loss.connection
                    and not all(map(is_mark, batch.samples))
                ]
                found.append(SourceLost(loss.connection, max([loss.at, *believed]), loss.reason))
        return found


def judgeable(
    specs: Iterable[EquipmentSpec], connections: Sequence[ConnectionSettings]
) -> list[EquipmentSpec]:
    """Equipment that can be judged again: something of it is dated by its source, and all that decides its
    state is recorded as it came."""
    dated = {connection.name for connection in connections if connection.time == "source"}
    thinned = {
        connection.tag_id(tag)
        for connection in connections
        for tag in connection.tags()
        if not tag.record or tag.swing is not None or tag.report_min is not None
    }
    return [
        spec
        for spec in specs
        if any(tag.partition("/")[0] in dated for tag in spec.inputs.values())
        and thinned.isdisjoint(spec.inputs.values())
    ]


def _earliest(batches: Sequence[SampleBatch], since: datetime, begin: datetime) -> datetime | None:
    """The earliest instant that samples received since another tell of, at or after `begin`."""
    times = [
        at
        for batch in batches
        if batch.received_at >= since
        for sample in batch.samples
        if not is_mark(sample) and (at := occurred_at(sample, batch.source_time)) >= begin
    ]
    return min(times, default=None)


def _stretches(intervals: Sequence[Interval]) -> list[Stretch]:
    return [
        Stretch(i.state, i.code, i.category, i.from_, i.to, "", i.seq, i.corrected)
        for i in intervals
        if i.to is not None and i.to > i.from_
    ]
