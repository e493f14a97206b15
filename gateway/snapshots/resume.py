"""Going on from a snapshot: the engine as it was, brought up to the journal's end by what was recorded since.

The journal stays the truth. Equipment that does not arrive by itself in exactly the state, at the instant and
with the count that the journal has of it, goes on from the journal alone, as if there were no snapshot: its
model or tags have changed, or what moved it is not recorded. What nobody has seen since the process ended is
not known; that is said afterwards, by the losses every restart records. Awaits the journal, nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from gateway.journal.values import JournalPosition
from gateway.snapshots.folder import Snapshot
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.machine import NO_COMMUNICATION
from statemodel.records import Recorded
from statemodel.replay import Entry, in_order
from statemodel.snapshot import SNAPSHOT_VERSION, EngineSnapshot, Identities, KeptEquipment
from statemodel.types import Event, SampleBatch, SourceLost, SourceRestored, Tick, Transition

#: More than this after a snapshot is not worth the wait at the start.
TAIL_SAMPLES_MAX: Final = 1_000_000
TAIL_EVENTS_MAX: Final = 50_000
_PAGE_EVENTS, _PAGE_BATCHES, _PAGE_SAMPLES = 2_000, 2_000, 20_000

_KEPT: Final = msgspec.msgpack.Decoder(KeptEquipment)


class Log(Protocol):
    """The part of the journal that is needed."""

    @property
    def position(self) -> JournalPosition:
        """What is held."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order."""
        ...

    async def read_batches(
        self, after: int, limit: int, *, samples_max: int = 100_000
    ) -> Sequence[tuple[int, SampleBatch]]:
        """Batches with `number > after`, in order."""
        ...


class Resumed(msgspec.Struct, frozen=True):
    """What the engine begins with: `engine` is None when the journal alone has to do, and `reason` says why.

    `left` names equipment that goes on from the journal alone, `events` and `samples` count what was applied.
    """

    engine: EngineSnapshot | None
    reason: str = ""
    name: str = ""
    left: tuple[str, ...] = ()
    events: int = 0
    samples: int = 0


async def resume(
    snapshot: Snapshot,
    specs: Sequence[EquipmentSpec],
    memories: Mapping[str, EquipmentMemory],
    log: Log,
    at: datetime,
) -> Resumed:
    """The engine of a snapshot, brought up to the end of the journal.

    `memories` is what the journal says of each equipment; `at` is now.
    """
    header, name = snapshot.header, snapshot.header.name
    if snapshot.content.engine_version != SNAPSHOT_VERSION:
        return Resumed(None, "another version of the gateway wrote it in a form of its own", name)
    kept = unchanged(snapshot.content.equipment, specs)
    if isinstance(kept, str):
        return Resumed(None, kept, name)
    chosen = [spec for spec in specs if spec.name in kept]
    inputs = {tag for spec in chosen for tag in spec.inputs.values()}
    tail = await _read_tail(log, header.seq, header.batch, inputs)
    if isinstance(tail, str):
        return Resumed(None, tail, name)
    events, batches = tail
    engine = Engine(chosen, at=at, memory=memories, snapshot=EngineSnapshot(SNAPSHOT_VERSION, kept))
    for event in _events(in_order(batches, events), _newest(kept)):
        engine.step(event)
    found = engine.snapshot().equipment
    true = {n: k for n, k in found.items() if k.memory == memories.get(n, kept[n].memory)}
    return Resumed(
        EngineSnapshot(SNAPSHOT_VERSION, true),
        "",
        name,
        tuple(sorted(spec.name for spec in specs if spec.name not in true)),
        len(events),
        sum(len(batch.samples) for batch in batches),
    )


def unchanged(
    equipment: Mapping[str, bytes], specs: Sequence[EquipmentSpec]
) -> dict[str, KeptEquipment] | str:
    """The equipment of a snapshot whose model and tags are still the same; or why none can be read."""
    identities = Identities()
    kept: dict[str, KeptEquipment] = {}
    for spec in specs:
        data = equipment.get(spec.name)
        if data is None:
            continue
        try:
            one = _KEPT.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return f"what it holds of {spec.name} cannot be read: {error}"
        if one.identity == identities.of(spec):
            kept[spec.name] = one
    return kept


async def _read_tail(
    log: Log, seq: int, batch: int, inputs: Collection[str]
) -> tuple[list[Recorded], list[SampleBatch]] | str:
    """What the journal holds after a snapshot; or why it is not to be had."""
    position = log.position
    if position.first_seq > seq + 1 or position.first_batch > batch + 1:
        return "the journal does not reach back to it any more"
    if position.last_seq - seq > TAIL_EVENTS_MAX:
        return f"{position.last_seq - seq:,} events were recorded after it, which is too long ago"
    events: list[Recorded] = []
    while seq < position.last_seq:
        page = await log.read(seq, _PAGE_EVENTS)
        if [item.seq for item in page] != list(range(seq + 1, seq + 1 + len(page))) or not page:
            return f"the journal cannot give event {seq + 1 + len(page)}"
        events += page
        seq = page[-1].seq
    batches: list[SampleBatch] = []
    samples = 0
    while batch < position.last_batch:
        found = await log.read_batches(batch, _PAGE_BATCHES, samples_max=_PAGE_SAMPLES)
        if [number for number, _ in found] != list(range(batch + 1, batch + 1 + len(found))) or not found:
            return f"the journal cannot give batch {batch + 1}"
        samples += sum(len(item.samples) for _, item in found)
        if samples > TAIL_SAMPLES_MAX:
            return f"more than {TAIL_SAMPLES_MAX:,} samples were recorded after it, which is too long ago"
        # Of the others, those that mark the place of a loss among the batches.
        batches += [
            item
            for _, item in found
            if any(s.tag in inputs or s.substatus == NO_COMMUNICATION for s in item.samples)
        ]
        batch = found[-1][0]
    return events, batches


def _newest(kept: Mapping[str, KeptEquipment]) -> dict[str, datetime]:
    """When the newest sample of each tag that a snapshot has seen was received."""
    newest: dict[str, datetime] = {}
    for one in kept.values():
        for tag, sample in one.samples().items():
            newest[tag] = max(sample.received_at, newest.get(tag, sample.received_at))
    return newest


def _events(entries: Iterable[Entry], newest: Mapping[str, datetime]) -> Iterator[Event]:
    """What the engine is fed: samples it has not seen, losses, and time where a transition shows it passed.

    History may hold a sample back and record it later (a swinging door): the engine has seen that one.
    """
    for entry in entries:
        if isinstance(entry, SampleBatch):
            fresh = tuple(s for s in entry.samples if s.received_at >= newest.get(s.tag, s.received_at))
            if fresh:
                yield SampleBatch(entry.connection, entry.received_at, fresh, entry.source_time)
        elif isinstance(entry.event, SourceLost | SourceRestored):
            if entry.recorded_at > entry.event.at:
                yield Tick(entry.recorded_at)
            yield entry.event
        elif isinstance(entry.event, Transition) and entry.event.at <= entry.recorded_at:
            # One dated ahead, by a device whose clock runs fast, does not show that time has passed.
            yield Tick(entry.event.at)
