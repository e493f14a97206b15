"""What the API needs from the gateway, said in its own words so that it need not import it.

Every list is in the order consumers see. Anything that does I/O is async; the live view is memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from api.access import Access
from api.accounting import Accounts
from api.auditing import Audit
from api.commanding import Commands
from api.compliance import Compliance
from api.configuring import Configuring
from api.corrections import Corrections
from api.reconciliation import Reconciler
from statemodel.records import EquipmentState, Recorded
from statemodel.tag_history import DatedSample, SampleBucket
from statemodel.types import TagSample


class StreamPosition(msgspec.Struct, frozen=True):
    """Where the one sequence stands: events `first_seq` to `last_seq` of `stream` can be read."""

    stream: str
    first_seq: int
    last_seq: int


class TagView(msgspec.Struct, frozen=True):
    """A tag with its latest sample, if there has been one."""

    tag: str
    connection: str
    name: str
    group: str
    unit: str
    latest: TagSample | None


class ConnectionView(msgspec.Struct, frozen=True):
    """A connection as people want to see it.

    `link` is `connecting`, `up`, `down` or `refused`. `cycles` has, for each group, the interval asked for
    and the figures of the last minute, in seconds. `bad_tags` maps the full tag id to the reason. `gaps`,
    `skipped_cycles`, `unexpected_failures` and the protocol's own `figures` count since the process began.
    `warnings` are sentences.
    """

    name: str
    protocol: str
    endpoint: str
    link: str
    since: datetime
    last_seen_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    retry_at: datetime | None
    attempts: int
    tags: int
    cycles: Mapping[str, Mapping[str, float]]
    bad_tags: Mapping[str, str]
    last_error_hint: str | None = None
    gaps: int = 0
    skipped_cycles: int = 0
    unexpected_failures: int = 0
    warnings: Mapping[str, str] = {}
    figures: Mapping[str, float] = {}


class EquipmentView(msgspec.Struct, frozen=True):
    """A configured equipment and the state it is in."""

    name: str
    path: str
    model: str
    inputs: Mapping[str, str]
    state: EquipmentState


class Interval(msgspec.Struct, frozen=True):
    """A stretch of time in one state. `to` is null while it lasts; `seq` is of its first transition.

    `corrected` says that a correction tells it and not a transition; then `seq` is that of the correction.
    """

    state: str
    code: int | None
    category: str | None
    from_: datetime = msgspec.field(name="from")
    to: datetime | None
    duration_s: float | None
    seq: int
    corrected: bool = False


class Surroundings(msgspec.Struct, frozen=True):
    """What is recorded around a transition of an equipment: its neighbours and the moves refused between.

    `incomplete` is None, or says in a sentence what of it could not be read.
    """

    previous: Recorded | None
    next: Recorded | None
    rejections: Sequence[Recorded]
    incomplete: str | None


class TagSamples(msgspec.Struct, frozen=True):
    """Recorded samples of a tag in order, and the newest one before them.

    `incomplete` is None, or says in words what may be missing.
    """

    before: DatedSample | None
    items: Sequence[DatedSample]
    incomplete: str | None


class TagBuckets(msgspec.Struct, frozen=True):
    """A tag summed up over stretches of time. `incomplete` as for `TagSamples`."""

    items: Sequence[SampleBucket]
    incomplete: str | None


class TooOld(Exception):
    """The asked-for sequence is no longer held anywhere; `position` says what is."""

    def __init__(self, position: StreamPosition) -> None:
        super().__init__(f"the first event still held is {position.first_seq}")
        self.position = position


class HistoryUnavailable(Exception):
    """The answer lies in the database and the database does not answer; `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LiveView(Protocol):
    """What is true now. Everything announced here is already journalled."""

    @property
    def gateway(self) -> str:
        """Id of this gateway."""
        ...

    def position(self) -> StreamPosition:
        """Where the sequence stands."""
        ...

    def equipment(self) -> Sequence[EquipmentView]:
        """All equipment, in the order of the configuration."""
        ...

    def equipment_named(self, name: str) -> EquipmentView | None:
        """One equipment, or None."""
        ...

    def tags(self) -> Sequence[TagView]:
        """All tags, in the order of the configuration."""
        ...

    def tag(self, tag: str) -> TagView | None:
        """One tag by its full id, or None."""
        ...

    def tags_of(self, equipment: str) -> Sequence[str]:
        """Full ids of the tags that belong to a configured equipment: its inputs and what is told with it."""
        ...

    def connections(self) -> Sequence[ConnectionView]:
        """All connections, in the order of the configuration."""
        ...

    def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        """Events after a sequence, in order, for ever; from now on when `after` is None.

        Every event is told, but for those between what was told and what is told next of which `wants` takes
        none: some of these may be left out, and the newest of them is told now and then.
        Nothing is told that `position` does not cover. A reader that falls too far behind reads on from the
        journal and database; it never slows anyone else.

        Raises:
            TooOld: at the first step, when `after` lies before what is held.
        """
        ...

    async def moved_beyond(self, equipment: str, seq: int) -> None:
        """Return when the state of an equipment is that of an event after `seq`, or it is not configured any
        more."""
        ...


class History(Protocol):
    """What was true. Joins the database and what the journal has not yet handed to it."""

    async def state_at(
        self, equipment: str, at: datetime, known_at: datetime | None = None
    ) -> EquipmentState | None:
        """The state at an instant, as it was known at another (None: now); None before the first
        transition."""
        ...

    async def corrections(
        self, equipment: str, from_: datetime, to: datetime, known_at: datetime | None = None
    ) -> Sequence[Recorded]:
        """The corrections that touch a range, and what withdraws them, recorded up to `known_at`, oldest
        first."""
        ...

    async def transitions(
        self,
        equipment: str,
        *,
        after: int,
        from_: datetime | None,
        to: datetime | None,
        limit: int,
    ) -> Sequence[Recorded]:
        """Transitions of one equipment with `seq > after` and `from <= at < to`, oldest first."""
        ...

    async def timeline(
        self, equipment: str, from_: datetime, to: datetime, limit: int, known_at: datetime | None = None
    ) -> Sequence[Interval]:
        """The states between two instants as they were known at a third (None: now), cut exactly at both,
        oldest first, without holes."""
        ...

    async def event(self, seq: int) -> Recorded | None:
        """The event of this number in the present stream; None when it cannot be read any more.

        Raises:
            TooOld: it lies before what is held.
        """
        ...

    async def transition_at(self, equipment: str, at: datetime) -> Recorded | None:
        """The transition that led to the state at an instant; None before the first."""
        ...

    async def surroundings(self, transition: Recorded) -> Surroundings:
        """What is recorded around a transition. Never fails: what cannot be read is left out and said."""
        ...


class TagHistory(Protocol):
    """What tags were worth. Both raise `HistoryUnavailable` when the database is needed and away."""

    async def samples(
        self, tag: str, from_: datetime, to: datetime, *, limit: int, skip: int = 0
    ) -> TagSamples:
        """The newest sample before `from_`, and those with `from_ <= at < to` in order, but for the first
        `skip`."""
        ...

    async def buckets(self, tag: str, bounds: Sequence[datetime]) -> TagBuckets:
        """The tag between each two neighbouring bounds."""
        ...


class Models(Protocol):
    """The state models in use and built in, as plain data ready for JSON."""

    def names(self) -> Sequence[str]:
        """Names, built-in ones first."""
        ...

    def model(self, name: str) -> Mapping[str, Any] | None:
        """States, transitions and rules of one model, or None."""
        ...


class Health(Protocol):
    """Whether the process does its work."""

    def live(self) -> bool:
        """The process runs and its loops move."""
        ...

    def report(self) -> Mapping[str, Any]:
        """`status` (`ok`, `degraded` or `failing`), `ready` (bool) and one entry per part with its reason."""
        ...


class Metrics(Protocol):
    """Prometheus text."""

    def render(self) -> tuple[bytes, str]:
        """Body and content type."""
        ...


class Ports(msgspec.Struct, frozen=True):
    """Everything the API is handed."""

    live: LiveView
    history: History
    tag_history: TagHistory
    models: Models
    health: Health
    metrics: Metrics
    version: str
    accounts: Accounts
    reconciler: Reconciler
    corrections: Corrections
    access: Access
    configuring: Configuring | None = None
    audit: Audit | None = None
    compliance: Compliance | None = None
    commands: Commands | None = None
