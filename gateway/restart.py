"""What a start goes on from, and what it has to admit: nobody looked while the gateway was not running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.config.load import Loaded
from statemodel.machine import EquipmentMemory
from statemodel.records import Recorded
from statemodel.types import UNKNOWN, SourceLost, Transition


def memories_from(last: Mapping[str, Recorded], loaded: Loaded) -> Mapping[str, EquipmentMemory]:
    """What the engine knew when the process ended, for equipment that is still configured."""
    configured = {spec.name for spec in loaded.equipment}
    return {
        name: EquipmentMemory(
            equipment=name,
            state=item.event.to_state,
            code=item.event.code,
            since=item.event.at,
            sequence=item.event.sequence,
        )
        for name, item in last.items()
        if name in configured and isinstance(item.event, Transition)
    }


def lost_while_away(
    alive: Mapping[str, datetime], last: Mapping[str, Recorded], loaded: Loaded, now: datetime
) -> Sequence[SourceLost]:
    """The losses a restart has to record, one a connection, each from its last proof of life.

    A connection with a proof of life on record was up when the process ended. One that has none but feeds
    equipment in a known state (the configuration was changed in between) was not looked at either.
    """
    fed = {
        tag.partition("/")[0]
        for spec in loaded.equipment
        if spec.name in last and _state_of(last[spec.name]) != UNKNOWN
        for tag in spec.inputs.values()
    }
    fallback = max(alive.values(), default=now)
    return [
        SourceLost(
            connection.name, min(alive.get(connection.name, fallback), now), "the gateway was not running"
        )
        for connection in loaded.configuration.connections
        if connection.name in alive or connection.name in fed
    ]


def _state_of(recorded: Recorded) -> str:
    return recorded.event.to_state if isinstance(recorded.event, Transition) else UNKNOWN
