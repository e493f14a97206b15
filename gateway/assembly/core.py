"""The way of the data: the engine, what is true now, late samples, and the pipeline that joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connectors.base import Clock
from gateway.assembly.record import Record
from gateway.config.load import Loaded
from gateway.configured import TagFeed
from gateway.health import HealthReport
from gateway.history import JoinedHistory
from gateway.journal import words
from gateway.journal.losses import gaps
from gateway.late import LateSamples
from gateway.live import Live
from gateway.pipeline import Pipeline
from gateway.publish.availability import Links
from statemodel.engine import Engine
from statemodel.records import Recorded


@dataclass
class Core:
    """What steps, knows and tells. `engine` is exchanged with the configuration; the others follow it."""

    engine: Engine
    live: Live
    late: LateSamples
    pipeline: Pipeline


def build_engine(loaded: Loaded, record: Record, clock: Clock) -> Engine:
    """The engine, going on from the snapshot and the journal."""
    return Engine(loaded.equipment, at=clock.now(), memory=record.memories, snapshot=record.snapshots.found)


def build_live(loaded: Loaded, record: Record, engine: Engine, history: JoinedHistory) -> Live:
    """What is true now, as far as the journal says."""
    return Live(
        gateway=loaded.configuration.gateway.id,
        connections=loaded.configuration.connections,
        equipment=loaded.equipment,
        memories={memory.equipment: memory for memory in engine.memories()},
        last=record.last,
        source=history,
    )


def build_late(
    loaded: Loaded, record: Record, engine: Engine, history: JoinedHistory, clock: Clock
) -> LateSamples:
    """The judge of late samples. Its `record` has to be set before it runs."""
    return LateSamples(
        loaded.equipment,
        loaded.configuration.connections,
        engine=engine,
        journal=record.journal,
        history=history,
        clock=clock,
        mode=loaded.configuration.gateway.late,
    )


def build_pipeline(
    loaded: Loaded,
    record: Record,
    clock: Clock,
    *,
    engine: Engine,
    live: Live,
    late: LateSamples,
    health: HealthReport,
    hearers: Sequence[Callable[[Sequence[Recorded]], None]],
    feeds: Sequence[TagFeed],
) -> Pipeline:
    """The one way from samples to what is recorded and told."""
    journal, settings = record.journal, loaded.configuration

    def committed() -> None:
        record.snapshots.keeper.committed()
        late.committed()

    pipeline = Pipeline(
        engine=engine,
        log=journal,
        connections=settings.connections,
        listeners=(live,),
        hearers=(*hearers, late.heard),
        topics=tuple(feed.samples for feed in feeds),
        clock=clock,
        heartbeat=settings.gateway.journal.heartbeat,
        alive=record.alive,
        came_round=health.came_round,
        repeats=record.repeats,
        untold=lambda: gaps(journal.untold(), [*live.supervised]),
        committed=committed,
        late=late.late,
    )
    late.record = pipeline.record
    return pipeline


def standstill(record: Record, links: Links) -> Callable[[], str | None]:
    """Why states that are shown stand still, for `Live.standstill`: the journal takes nothing more."""

    def reason() -> str | None:
        if links.is_recording:
            return None
        full = words.full(record.journal.stats())
        return f"not known since the journal {full}" if full else None

    return reason


def watch_journal(health: HealthReport, record: Record) -> None:
    """Let health say how the journal and the snapshots are."""
    journal = record.journal
    health.snapshots = record.snapshots.trouble
    health.journal_full = lambda: words.full(journal.stats())
    health.journal_damage = lambda: words.trouble(journal.stats())
