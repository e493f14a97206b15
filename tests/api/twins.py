"""In-memory twins of the ports: real records, numbered by the real encoder, without journal or database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec

from api.access import Access
from api.accounting import AccountsView, Balance, FlowAccount, SinkAccount, TagAccount
from api.corrections import KeyReused, NotRecorded, WantedCorrection
from api.ports import (
    ConnectionView,
    EquipmentView,
    HistoryUnavailable,
    Interval,
    Ports,
    StreamPosition,
    Surroundings,
    TagBuckets,
    TagSamples,
    TagView,
    TooOld,
)
from api.reconciliation import AlreadyRunning, ComparedPart, Reconciliation
from statemodel.corrected import CorrectionRefused, Stretch, in_force, overlay, painted
from statemodel.records import EquipmentState, Recorded, state_after, tell
from statemodel.tag_history import DatedSample, summed_up
from statemodel.types import (
    Cause,
    CauseInput,
    Conformance,
    CorrectedState,
    Correction,
    Quality,
    Recordable,
    Rejection,
    SourceLost,
    TagSample,
    Transition,
)
from tests.api.access_twin import EVERYTHING, AccessTwin

STREAM = "3f6c1f0e-8a55-4f0a-9d6e-0c7d4f6a1b2c"
START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
NAMES = ("filler-1", "oven-1", "capper-2")
#: The one machine that has a PLC of its own.
STATE_OF = {"oven-1": "oven-plc/temp"}
CYCLE = ("Idle", "Starting", "Execute", "Completing")


def make_transition(name: str, sequence: int, at: datetime, before: str, after: str) -> Transition:
    """A transition of one of the twins' machines."""
    sample = CauseInput(STATE_OF.get(name, "filler-plc/state"), sequence % 20, Quality.GOOD, at, at)
    return Transition(
        equipment=name,
        path=f"filling/line-1/{name}",
        model="packml",
        sequence=sequence,
        from_state=before,
        to_state=after,
        code=CYCLE.index(after),
        category="productive" if after == "Execute" else "standby",
        at=at,
        duration_s=60.0,
        conformance=Conformance.LEGAL,
        skipped=(),
        cause=Cause("code", (sample,), 'Größe "5" <ü>'),
    )


class Plant:
    """Everything the twins share: the log, and a clock that moves only when told."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []
        self.first_seq = 1
        self.now_at = START
        self.states: dict[str, EquipmentState] = {}
        self.sequences = dict.fromkeys(NAMES, 0)
        self.database_down: str | None = None
        self.unreadable: set[int] = set()
        self.ready = True
        self.alive = True
        self.grown = asyncio.Condition()
        self.readers = 0
        self.waiters = 0
        self.batch_max = 7
        for name in NAMES:
            self.states[name] = EquipmentState(
                name, f"filling/line-1/{name}", "packml", "Unknown", None, None, START, 0, 0, "no sample yet"
            )

    @property
    def last_seq(self) -> int:
        return len(self.log)

    def record(self, event: Recordable) -> Recorded:
        """Number an event, as the journal does."""
        recorded = tell(
            event, gateway="line-1", stream=STREAM, seq=self.last_seq + 1, recorded_at=self.now_at
        )
        self.log.append(recorded)
        if isinstance(event, Transition):
            self.states[event.equipment] = state_after(event, recorded.seq)
        return recorded

    def move(self, name: str, after_s: float = 60.0) -> Recorded:
        """Let time pass, then one machine take its next step."""
        self.now_at += timedelta(seconds=after_s)
        self.sequences[name] += 1
        count = self.sequences[name]
        before = self.states[name].state
        return self.record(make_transition(name, count, self.now_at, before, CYCLE[count % len(CYCLE)]))

    def refuse(self, name: str) -> Rejection:
        """A move the model of a machine forbids."""
        state = self.states[name]
        cause = Cause("code", ())
        return Rejection(name, state.path, "packml", state.state, "Held", self.now_at, "no such move", cause)

    async def announce(self) -> None:
        """Wake those who wait for events."""
        async with self.grown:
            self.grown.notify_all()

    def fill(self, count: int) -> None:
        """A mixed log of this many more events."""
        for index in range(count):
            name = NAMES[index % len(NAMES)]
            if index % 11 == 7:
                self.record(SourceLost("filler-plc", self.now_at, "no answer for 3 s"))
            elif index % 7 == 5:
                self.record(self.refuse(name))
            else:
                self.move(name)


class LiveTwin:
    """The live view over a plant."""

    gateway = "line-1"

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def position(self) -> StreamPosition:
        return StreamPosition(STREAM, self.plant.first_seq, self.plant.last_seq)

    def equipment(self) -> Sequence[EquipmentView]:
        return [self._view(name) for name in NAMES]

    def equipment_named(self, name: str) -> EquipmentView | None:
        return self._view(name) if name in NAMES else None

    def _view(self, name: str) -> EquipmentView:
        state = self.plant.states[name]
        return EquipmentView(
            name, state.path, "packml", {"state": STATE_OF.get(name, "filler-plc/state")}, state
        )

    def tags(self) -> Sequence[TagView]:
        good = TagSample("filler-plc/state", 3, Quality.GOOD, START, START)
        bad = TagSample("oven-plc/temp", None, Quality.BAD, None, START, "no_communication")
        return [
            TagView("filler-plc/state", "filler-plc", "state", "fast", "", good),
            TagView("filler-plc/speed", "filler-plc", "speed", "fast", "1/min", None),
            TagView("oven-plc/temp", "oven-plc", "temp", "all", "°C", bad),
        ]

    def tag(self, tag: str) -> TagView | None:
        return next((view for view in self.tags() if view.tag == tag), None)

    def tags_of(self, equipment: str) -> Sequence[str]:
        return ["oven-plc/temp"] if equipment == "oven-1" else ["filler-plc/state", "filler-plc/speed"]

    def connections(self) -> Sequence[ConnectionView]:
        return [self._connection("filler-plc", "opcua", "up"), self._connection("oven-plc", "modbus", "down")]

    def _connection(self, name: str, protocol: str, link: str) -> ConnectionView:
        return ConnectionView(
            name=name,
            protocol=protocol,
            endpoint="tcp://10.0.0.6:502",
            link=link,
            since=START,
            last_seen_at=START,
            last_error=None if link == "up" else "no answer for 3 s",
            last_error_at=None,
            retry_at=None,
            attempts=1,
            tags=2,
            cycles={"all": {"p50_s": 0.01}},
            bad_tags={},
        )

    async def moved_beyond(self, equipment: str, seq: int) -> None:
        plant = self.plant
        plant.waiters += 1
        try:
            async with plant.grown:
                await plant.grown.wait_for(lambda: plant.states[equipment].seq > seq)
        finally:
            plant.waiters -= 1

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        plant = self.plant
        at = plant.last_seq if after is None else after
        if at + 1 < plant.first_seq:
            raise TooOld(self.position())
        plant.readers += 1
        try:
            while True:
                batch = plant.log[at : at + plant.batch_max]
                at += len(batch)
                if not batch:
                    async with plant.grown:
                        if plant.last_seq == at:
                            await plant.grown.wait()
                yield batch
        finally:
            plant.readers -= 1


class HistoryTwin:
    """The record over a plant."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def _check(self) -> None:
        if self.plant.database_down:
            raise HistoryUnavailable(self.plant.database_down)

    def _of(self, equipment: str) -> list[tuple[Recorded, Transition]]:
        return [
            (recorded, recorded.event)
            for recorded in self.plant.log
            if isinstance(recorded.event, Transition) and recorded.equipment == equipment
        ]

    def _known(self, equipment: str, known_at: datetime | None) -> list[Recorded]:
        return [
            recorded
            for recorded in self.plant.log
            if isinstance(recorded.event, Correction)
            and recorded.equipment == equipment
            and (known_at is None or recorded.recorded_at <= known_at)
        ]

    async def corrections(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None = None
    ) -> Sequence[Recorded]:
        self._check()
        return [
            recorded
            for recorded in self._known(equipment, known_at)
            if isinstance(recorded.event, Correction)
            and recorded.event.until > from_
            and recorded.event.at < to
        ]

    async def state_at(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> EquipmentState | None:
        self._check()
        over = [
            one for one in painted(in_force(self._known(equipment, known_at))) if one.begin <= at < one.end
        ]
        if over:
            state = self.plant.states[equipment]
            return msgspec.structs.replace(state, state=over[0].state, seq=over[0].seq, corrected=True)
        past = [(recorded, event) for recorded, event in self._of(equipment) if event.at <= at]
        return state_after(past[-1][1], past[-1][0].seq) if past else None

    async def transitions(
        self, equipment: str, *, after: int, from_: datetime | None, to: datetime | None, limit: int
    ) -> Sequence[Recorded]:
        self._check()
        return [
            recorded
            for recorded, event in self._of(equipment)
            if recorded.seq > after and (from_ is None or from_ <= event.at) and (to is None or event.at < to)
        ][:limit]

    async def timeline(
        self, equipment: str, from_: datetime, to: datetime, limit: int, known_at: datetime | None = None
    ) -> Sequence[Interval]:
        self._check()
        if corrections := in_force(self._known(equipment, known_at)):
            begun = [
                Stretch(i.state, i.code, i.category, i.from_, i.to, STREAM, i.seq)
                for i in await self._told(equipment, from_, to, 1_000_000)
                if i.to is not None
            ]
            return [
                Interval(
                    s.state,
                    s.code,
                    s.category,
                    s.begin,
                    s.end,
                    (s.end - s.begin).total_seconds(),
                    s.seq,
                    s.corrected,
                )
                for s in overlay(begun, corrections)
            ][:limit]
        return await self._told(equipment, from_, to, limit)

    async def _told(self, equipment: str, from_: datetime, to: datetime, limit: int) -> Sequence[Interval]:
        told = self._of(equipment)
        spans: list[Interval] = []
        starts: list[tuple[datetime, str, int | None, str | None, int]] = [
            (START - timedelta(days=400), "Unknown", None, None, 0)
        ]
        starts += [(event.at, event.to_state, event.code, event.category, item.seq) for item, event in told]
        ends = [start[0] for start in starts[1:]] + [to]
        for (start, state, code, category, seq), end in zip(starts, ends, strict=True):
            first, last = max(start, from_), min(end, to)
            inside = first < last or (first == last == start == end and from_ <= start < to)
            if inside:
                spans.append(
                    Interval(state, code, category, first, last, (last - first).total_seconds(), seq)
                )
        return spans[:limit]

    async def event(self, seq: int) -> Recorded | None:
        self._check()
        if seq < self.plant.first_seq:
            raise TooOld(StreamPosition(STREAM, self.plant.first_seq, self.plant.last_seq))
        held = seq <= self.plant.last_seq and seq not in self.plant.unreadable
        return self.plant.log[seq - 1] if held else None

    async def transition_at(self, equipment: str, at: datetime) -> Recorded | None:
        self._check()
        past = [recorded for recorded, event in self._of(equipment) if event.at <= at]
        return past[-1] if past else None

    async def surroundings(self, transition: Recorded) -> Surroundings:
        mine = [recorded for recorded, _ in self._of(transition.equipment)]
        place = mine.index(transition)
        previous = mine[place - 1] if place else None
        following = mine[place + 1] if place + 1 < len(mine) else None
        before = following.seq if following else self.plant.last_seq + 1
        after = previous.seq if previous else 0
        refused = [r for r in self.plant.log if r.type == "rejection" and after < r.seq < before]
        return Surroundings(previous, following, refused, self.plant.database_down)


class TagHistoryTwin:
    """The record of one tag that counts up once a minute; of others nothing is recorded."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.incomplete: str | None = None

    def _all(self, tag: str) -> list[DatedSample]:
        if self.plant.database_down:
            raise HistoryUnavailable(self.plant.database_down)
        times = [START + timedelta(minutes=n // 2) for n in range(20)]  # two samples at each instant
        found = [DatedSample(at, n, Quality.GOOD, None, at) for n, at in enumerate(times)]
        return found if tag == "filler-plc/speed" else []

    async def samples(
        self, tag: str, from_: datetime, to: datetime, *, limit: int, skip: int = 0
    ) -> TagSamples:
        found = self._all(tag)
        before = [sample for sample in found if sample.at < from_]
        inside = [sample for sample in found if from_ <= sample.at < to]
        return TagSamples(before[-1] if before else None, inside[skip : skip + limit], self.incomplete)

    async def buckets(self, tag: str, bounds: Sequence[datetime]) -> TagBuckets:
        found = await self.samples(tag, bounds[0], bounds[-1], limit=1000)
        return TagBuckets(summed_up(found.before, found.items, bounds), self.incomplete)


class CorrectionsTwin:
    """Records what is wanted as it is; a key is remembered."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.full = ""
        self.by_key: dict[str, tuple[WantedCorrection, Recorded]] = {}

    async def correct(self, equipment: str, wanted: WantedCorrection, key: str | None) -> Recorded:
        if self.full:
            raise NotRecorded(self.full)
        if key in self.by_key:
            if self.by_key[key][0] != wanted:
                raise KeyReused
            return self.by_key[key][1]
        if wanted.state not in (None, *CYCLE):
            raise CorrectionRefused("state", "it is no state", "Use another.")
        begin, end = wanted.from_ or START, wanted.to or self.plant.now_at
        states = (CorrectedState(wanted.state or "", 1, "standby", begin, end),) if wanted.state else ()
        recorded = self.plant.record(
            Correction(
                equipment,
                f"filling/line-1/{equipment}",
                "packml",
                begin,
                end,
                states,
                wanted.reason,
                wanted.author,
                wanted.withdraws,
                key,
            )
        )
        if key is not None:
            self.by_key[key] = (wanted, recorded)
        return recorded


class ModelsTwin:
    """Two models."""

    def names(self) -> Sequence[str]:
        return ["packml", "oven"]

    def model(self, name: str) -> Mapping[str, Any] | None:
        return {"name": name, "states": [{"name": one} for one in CYCLE]} if name in self.names() else None


class HealthTwin:
    """Health as the plant says."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def live(self) -> bool:
        return self.plant.alive

    def report(self) -> Mapping[str, Any]:
        status = "ok" if self.plant.ready else "failing"
        return {"status": status, "ready": self.plant.ready, "journal": {"status": status}}


class MetricsTwin:
    """One gauge."""

    def render(self) -> tuple[bytes, str]:
        return b"andon_link_up 1\n", "text/plain; version=0.0.4"


class AccountsTwin:
    """Three tags, of one of which something was set aside; a fourth has left the configuration."""

    accounts: ClassVar[Mapping[str, TagAccount]] = {
        "filler-plc/gone": TagAccount(
            "filler-plc/gone", 4, 0, True, {"historian": Balance(4, 4, 0, 0, 0, 0)}
        ),
        "filler-plc/speed": TagAccount(
            "filler-plc/speed", 9, 2, True, {"historian": Balance(9, 5, 1, 3, 0, 0)}
        ),
        "filler-plc/state": TagAccount(
            "filler-plc/state", 7, 0, True, {"historian": Balance(7, 7, 0, 0, 0, 0)}
        ),
    }

    def view(self) -> AccountsView:
        samples, events = Balance(20, 16, 1, 3, 0, 0), Balance(60, 60, 0, 0, 0, 0)
        sinks = (SinkAccount("historian", True, events, samples, 0),)
        flow = FlowAccount(START, 31, 0, 5, 1, 1, 20, 2, 2)
        return AccountsView(STREAM, START, True, 0, 20, 2, 0, flow, sinks)

    def tag(self, tag: str) -> TagAccount:
        return self.accounts.get(tag) or TagAccount(tag, 0, 0, True, {})

    def tags(self) -> Sequence[TagAccount]:
        return list(self.accounts.values())


class ReconcilerTwin:
    """All agree, always; one at a time."""

    def __init__(self) -> None:
        self.busy = False
        self._reports: list[Reconciliation] = []

    async def reconcile(self, *, repair: bool, full: bool) -> Reconciliation:
        if self.busy:
            raise AlreadyRunning
        parts = [ComparedPart("memory", 6, None)]
        report = Reconciliation(START, START, "request", full, repair, True, parts, [], 0)
        self._reports.insert(0, report)
        return report

    def reports(self) -> Sequence[Reconciliation]:
        return self._reports


def make_ports(plant: Plant, access: Access | None = None) -> Ports:
    """All ports over one plant. Without `access` everybody may do everything."""
    return Ports(
        LiveTwin(plant),
        HistoryTwin(plant),
        TagHistoryTwin(plant),
        ModelsTwin(),
        HealthTwin(plant),
        MetricsTwin(),
        "9.8.7",
        AccountsTwin(),
        ReconcilerTwin(),
        CorrectionsTwin(plant),
        AccessTwin(anonymous=EVERYTHING) if access is None else access,
    )
