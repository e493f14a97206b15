"""What waits for the pipeline and what it counts, and whom it tells: values and protocols, no work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from connectors.settings import ConnectionSettings
from statemodel.engine import Engine
from statemodel.records import Recorded
from statemodel.types import (
    AuditAnchor,
    CommandTold,
    Correction,
    DeviceEvent,
    Event,
    Gap,
    Recordable,
    SampleBatch,
    TagSample,
    Transition,
)


class Reread(msgspec.Struct, frozen=True):
    """A group with stale tags, or with a heartbeat that is due, was read completely at `at`, and what it had
    to say is ahead in the queue."""

    connection: str
    group: str
    at: datetime


class Asked(msgspec.Struct, frozen=True):
    """An event somebody waits for: `done` gets it as it was recorded. It is about no connection."""

    event: Correction | CommandTold | AuditAnchor
    at: datetime
    done: asyncio.Future[Recorded]


class Mark(msgspec.Struct, frozen=True):
    """Somebody waits until all before it is durable and told."""

    at: datetime
    done: asyncio.Future[None]


class Turn(msgspec.Struct, frozen=True):
    """What the pipeline goes on with from one instant: the engine, and the connections that differ.

    `gone` are connections that are read no more, or otherwise than before; `come` those that are new, or read
    otherwise. `farewells` is what has to be recorded of equipment that `engine` does not have any more.
    `taken` is called when all of it holds; it must not fail.
    """

    engine: Engine
    gone: Collection[str]
    come: Sequence[ConnectionSettings]
    farewells: Sequence[Transition]
    taken: Callable[[], None]


class Exchanged(msgspec.Struct, frozen=True):
    """From here on another configuration holds. `turn` is asked at its place in the queue, with everything
    before it durable; what it raises goes to who waits, and nothing has changed then."""

    at: datetime
    turn: Callable[[datetime], Turn]
    done: asyncio.Future[None]


#: What waits for the pipeline, and what time itself adds.
Item = Event | Gap | DeviceEvent | Reread | Asked | Mark | Exchanged


class EventLog(Protocol):
    """The part of the journal the pipeline needs."""

    async def append(
        self,
        events: Sequence[Recordable],
        batches: Sequence[SampleBatch] = ...,
        alive: Mapping[str, datetime | None] = ...,
    ) -> Sequence[Recorded]:
        """Number and keep; returns when it is durable. `alive` None: the connection is known to be down."""
        ...


class Listener(Protocol):
    """Whoever shows what is true now."""

    def samples(self, samples: Sequence[TagSample]) -> None:
        """Newest values, recorded or not."""
        ...

    def announce(self, recorded: Sequence[Recorded]) -> None:
        """Events that are now durable, in order."""
        ...


class Counts:
    """What has passed, for metrics and loss accounting."""

    def __init__(self) -> None:
        self.samples = 0
        self.bad_samples = 0
        self.passed = 0
        self.made = 0
        self.not_recorded = 0
        self.recorded = 0
        self.transitions = 0
        self.rejections = 0
        self.corrections = 0
        self.commits = 0
        self.device_events = 0
        self.repeated_events = 0
