"""A journal, a database and a reconciler over both, with trouble made by hand. None of it under test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.reconciliation import Reconciliation
from gateway.clock import SystemClock
from gateway.config.schema import ReconcileSettings
from gateway.historian import EquipmentMeta, Historian
from gateway.historian.connection import Readers
from gateway.journal import Journal
from gateway.reconcile.database import Database as Held
from gateway.reconcile.parts import EventsPart, MemoryPart, Part, SamplesPart, SequencePart, StatesPart
from gateway.reconcile.reconciler import Reconciler
from statemodel.engine import EquipmentMemory
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import SampleBatch, TagSample, Transition
from tests.gateway.historian.databases import Database, drained, historian_settings, running
from tests.gateway.journal.builders import START, batch, opened, transition

NAMES = ("filler-1", "capper-1", "oven-1")
EQUIPMENT = {name: EquipmentMeta(f"area/line/{name}", "packml") for name in NAMES}
SETTINGS = ReconcileSettings(settle=timedelta(milliseconds=50))


def moves(count: int, *, after: Mapping[str, int] | None = None) -> list[Transition]:
    """So many transitions, the equipment taking turns, each following from its last one."""
    made = dict(after or {})
    found = []
    for n in range(count):
        name = NAMES[n % len(NAMES)]
        made[name] = made.get(name, 0) + 1
        found.append(
            transition(made[name], name, at=START + timedelta(seconds=n + sum((after or {}).values())))
        )
    return found


class Site:
    """What the reconciler compares, and a hand in each of its places."""

    def __init__(
        self,
        journal: Journal,
        historian: Historian,
        database: Database,
        readers: Readers,
        end_writing: Callable[[], Awaitable[None]],
    ) -> None:
        #: Nothing goes to the database any more.
        self.end_writing = end_writing
        self.journal, self.historian, self.database = journal, historian, database
        self.live: dict[str, EquipmentState] = {}
        self.memories: dict[str, EquipmentMemory] = {}
        self._told: dict[str, int] = {}
        self._batches = 0
        held = Held(readers, "line-1", journal.stream)
        clock = SystemClock()
        self.parts: Sequence[Part] = (
            MemoryPart(journal, lambda: list(self.live.values()), lambda: list(self.memories.values())),
            StatesPart(journal, lambda: held),
            EventsPart(journal, lambda: held, clock, gentle=lambda: False),
            SequencePart(journal, lambda: held),
            SamplesPart(journal, lambda: held, clock, kept_s=None),
        )
        self.reconciler = Reconciler(self.parts, SETTINGS, clock)

    async def happen(self, count: int, *, samples: int = 0) -> Sequence[Recorded]:
        """So many transitions, and samples, in journal, memory and database."""
        events = moves(count, after=self._told)
        batches: list[SampleBatch] = []
        if samples:
            self._batches += 1
            batches = [batch(self._batches, samples)]
        told = await self.journal.append(events, batches)
        for recorded in told:
            assert isinstance(recorded.event, Transition)
            event = recorded.event
            self._told[event.equipment] = event.sequence
            self.live[event.equipment] = state_after(event, recorded.seq)
            self.memories[event.equipment] = EquipmentMemory(
                event.equipment, event.to_state, event.code, event.at, event.sequence
            )
        await drained(self.historian, self.journal)
        return told

    async def reconcile(self, *, repair: bool = False, full: bool = False) -> Reconciliation:
        return await self.reconciler.reconcile(repair=repair, full=full)


def kinds(report: Reconciliation) -> list[tuple[str, str]]:
    """Kind and place of each difference."""
    return [(found.kind, found.place) for found in report.differences]


@asynccontextmanager
async def site(database: Database, directory: Path, **journal_settings: Any) -> AsyncIterator[Site]:
    """All at work."""
    async with opened(directory, **journal_settings) as journal, AsyncExitStack() as writing:
        historian = await writing.enter_async_context(running(journal, database.dsn, equipment=EQUIPMENT))
        readers = Readers(database.dsn, historian_settings(database.dsn), "line-1")
        try:
            yield Site(journal, historian, database, readers, writing.aclose)
        finally:
            readers.drop()


def samples_of(batches: Sequence[SampleBatch]) -> list[TagSample]:
    """All samples of some batches."""
    return [sample for item in batches for sample in item.samples]
