"""What is true now, in memory: newest values, states, links. Feeds REST and the streams; stores nothing.

Streams read the journal at their own position and are only woken from here, so a slow reader costs nobody
anything and nothing is shown that is not durable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from api.ports import ConnectionView, EquipmentView, StreamPosition, TagView
from connectors.settings import ConnectionSettings
from gateway.bell import Bell
from gateway.supervisor import Supervised
from statemodel.engine import EquipmentMemory, EquipmentSpec
from statemodel.records import EquipmentState, Recorded, state_after
from statemodel.types import UNKNOWN, Quality, TagSample, Transition

#: Events handed to a stream at once.
PAGE_EVENTS_MAX = 500
#: A stream that wants nothing of all that happens hears so often how far that is.
PASSED_S = 10.0


class EventSource(Protocol):
    """Where streams read: the journal, and behind it the database."""

    def position(self) -> StreamPosition:
        """What can be read."""
        ...

    async def events_after(self, seq: int, limit: int) -> Sequence[Recorded]:
        """Events after a sequence; raises `api.ports.TooOld`."""
        ...


class Live:
    """Implements `api.ports.LiveView` and `gateway.pipeline.Listener`."""

    def __init__(
        self,
        *,
        gateway: str,
        connections: Sequence[ConnectionSettings],
        equipment: Sequence[EquipmentSpec],
        memories: Mapping[str, EquipmentMemory],
        last: Mapping[str, Recorded],
        source: EventSource,
    ) -> None:
        self._gateway = gateway
        self._source = source
        self._specs = {spec.name: spec for spec in equipment}
        self._states = {
            spec.name: first_state(spec, memories[spec.name], last.get(spec.name)) for spec in equipment
        }
        self._why = {
            name: item.event.cause.text for name, item in last.items() if isinstance(item.event, Transition)
        }
        #: A snapshot must not claim a sequence whose states it does not show yet.
        self._announced_seq = self._before_newest = source.position().last_seq
        self._newest: Sequence[Recorded] = ()
        self._news: Bell[Recorded] = Bell(self._announced_seq)
        self._moves: dict[str, Bell[None]] = {}
        self._samples: dict[str, TagSample] = {}
        self._tags = _tags_of(connections)
        self.supervised: dict[str, Supervised] = {}
        #: Why nothing is recorded at the moment; None while it is.
        self.standstill: Callable[[], str | None] = lambda: None

    def exchange(
        self,
        connections: Sequence[ConnectionSettings],
        equipment: Sequence[EquipmentSpec],
        states: Mapping[str, EquipmentState],
        why: Mapping[str, str],
        gone: Collection[str],
    ) -> None:
        """Show another configuration from now on. `states` and `why` are those of equipment that was not
        shown before; of connections in `gone` nothing is known any more."""
        before = self._states
        self._specs = {spec.name: spec for spec in equipment}
        self._states = {
            spec.name: _shown_as(spec, before[spec.name]) if spec.name in before else states[spec.name]
            for spec in equipment
        }
        self._why = {name: text for name, text in {**why, **self._why}.items() if name in self._specs}
        self._tags = _tags_of(connections)
        self._samples = {
            tag: sample
            for tag, sample in self._samples.items()
            if tag in self._tags and tag.partition("/")[0] not in gone
        }
        for name, bell in self._moves.items():
            if name not in self._specs:
                bell.ring()

    def latest(self, tags: Iterable[str]) -> Mapping[str, TagSample]:
        """The newest sample of each of these tags (full ids) that has one."""
        return {tag: self._samples[tag] for tag in tags if tag in self._samples}

    # -- the pipeline tells --------------------------------------------------------------------

    def samples(self, samples: Sequence[TagSample]) -> None:
        """Newest values, recorded or not."""
        for sample in samples:
            self._samples[sample.tag] = sample

    def announce(self, recorded: Sequence[Recorded]) -> None:
        """Events that are now durable, in order."""
        if not recorded:
            return
        moved: dict[str, None] = {}
        for item in recorded:
            if isinstance(item.event, Transition) and item.equipment in self._specs:
                self._states[item.equipment] = state_after(item.event, item.seq)
                self._why[item.equipment] = item.event.cause.text
                moved[item.equipment] = None
        self._before_newest, self._newest = self._announced_seq, recorded
        self._announced_seq = recorded[-1].seq
        self._news.ring(self._before_newest, self._announced_seq, recorded)
        for name in moved:
            if name in self._moves:
                self._moves[name].ring()

    # -- others ask ----------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        """Id of this gateway."""
        return self._gateway

    def position(self) -> StreamPosition:
        """Where the sequence stands."""
        return msgspec.structs.replace(self._source.position(), last_seq=self._announced_seq)

    def state(self, equipment: str) -> EquipmentState:
        """The state of a configured equipment, with the reason when it is not known yet."""
        state = self._states[equipment]
        if state.state != UNKNOWN:
            return state
        # The transition says why it became unknown; people want to know why it still is.
        reason = self._missing_link(equipment) or state.reason or self._missing_value(equipment)
        return msgspec.structs.replace(state, reason=reason)

    def why(self, equipment: str) -> str:
        """One sentence on why the equipment is in its state; empty before the first transition."""
        return self._why.get(equipment, "")

    def states(self) -> Sequence[EquipmentState]:
        """The states of all equipment, in the order of the configuration."""
        return [self.state(name) for name in self._specs]

    def equipment(self) -> Sequence[EquipmentView]:
        """All equipment, in the order of the configuration."""
        return [view for name in self._specs if (view := self.equipment_named(name))]

    def equipment_named(self, name: str) -> EquipmentView | None:
        """One equipment, or None."""
        spec = self._specs.get(name)
        if spec is None:
            return None
        return EquipmentView(
            name=spec.name,
            path=spec.path,
            model=spec.model.name,
            inputs=spec.inputs,
            state=self._shown(name),
        )

    def _shown(self, equipment: str) -> EquipmentState:
        """The state as callers see it: marked as such while it may not be so any more."""
        state = self.state(equipment)
        reason = self.standstill()
        return state if reason is None else msgspec.structs.replace(state, reason=reason, stale=True)

    def tags(self) -> Sequence[TagView]:
        """All tags, in the order of the configuration."""
        return [view for tag in self._tags if (view := self.tag(tag))]

    def tag(self, tag: str) -> TagView | None:
        """One tag by its full id, or None."""
        if tag not in self._tags:
            return None
        connection, name, group, unit = self._tags[tag]
        return TagView(tag, connection, name, group, unit, self._samples.get(tag))

    def tags_of(self, equipment: str) -> Sequence[str]:
        """Full ids of the tags of a configured equipment; see `api.ports.LiveView.tags_of`."""
        return self._specs[equipment].shown

    def connections(self) -> Sequence[ConnectionView]:
        """All connections, in the order of the configuration."""
        bad: dict[str, dict[str, str]] = {}
        for tag, sample in self._samples.items():
            if sample.quality is Quality.BAD and sample.substatus != "no_communication":
                reason = sample.substatus.replace("_", " ") or "the device says so and no more"
                bad.setdefault(tag.partition("/")[0], {})[tag] = f"bad: {reason}"
        views = [supervised.view() for supervised in self.supervised.values()]
        return [
            msgspec.structs.replace(view, bad_tags={**bad[view.name], **view.bad_tags})
            if view.name in bad
            else view
            for view in views
        ]

    async def events(
        self, after: int | None, wants: Callable[[Recorded], bool] | None = None
    ) -> AsyncIterator[Sequence[Recorded]]:
        """Events after a sequence, in order, for ever; see `api.ports.LiveView.events`."""
        at = self._announced_seq if after is None else after
        while True:
            if at >= self._announced_seq:  # what is durable and not shown yet is not told either
                passed = await self._news.heard(wants, PASSED_S)
                if passed > at and self._newest and self._newest[-1].seq == passed:
                    yield self._newest[-1:]
                at = max(at, passed)
                continue
            events, last_seq = self._newest, self._announced_seq
            if at != self._before_newest:
                events = await self._source.events_after(at, PAGE_EVENTS_MAX)
            shown = [event for event in events if event.seq <= last_seq]
            at = shown[-1].seq if shown else last_seq  # nothing can be read of what is damaged
            if shown:
                yield shown

    async def moved_beyond(self, equipment: str, seq: int) -> None:
        """Return when the state of an equipment is of a later event; see `api.ports.LiveView`."""
        while (state := self._states.get(equipment)) is not None and state.seq <= seq:
            await self._moves.setdefault(equipment, Bell()).heard()

    def _missing_link(self, equipment: str) -> str | None:
        spec = self._specs[equipment]
        inputs = spec.inputs.values()
        for connection in dict.fromkeys(tag.partition("/")[0] for tag in inputs):
            supervised = self.supervised.get(connection)
            if supervised is not None and supervised.link != "up" and supervised.last_error:
                lost = " lost" if self._states[equipment].sequence else ""
                return f"{connection}{lost}: {supervised.last_error}"
        return None

    def _missing_value(self, equipment: str) -> str:
        missing = [tag for tag in self._specs[equipment].inputs.values() if tag not in self._samples]
        return f"no value yet from {', '.join(missing)}" if missing else "no usable value yet"


def _tags_of(connections: Sequence[ConnectionSettings]) -> dict[str, tuple[str, str, str, str]]:
    """Connection, name, group and unit of each tag, by its full id."""
    return {
        connection.tag_id(tag): (connection.name, tag.name, group.name, tag.unit)
        for connection in connections
        for group in connection.groups
        for tag in group.tags
    }


def _shown_as(spec: EquipmentSpec, state: EquipmentState) -> EquipmentState:
    if (state.path, state.model) == (spec.path, spec.model.name):
        return state
    return msgspec.structs.replace(state, path=spec.path, model=spec.model.name)


def first_state(spec: EquipmentSpec, memory: EquipmentMemory, last: Recorded | None) -> EquipmentState:
    """What is shown of an equipment before its next transition."""
    if last is not None and isinstance(last.event, Transition):
        return state_after(last.event, last.seq)
    return EquipmentState(
        equipment=spec.name,
        path=spec.path,
        model=spec.model.name,
        state=memory.state,
        code=memory.code,
        category=None,
        since=memory.since,
        seq=0,
        sequence=memory.sequence,
        reason=None,
    )
