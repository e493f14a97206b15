"""The engine of another configuration, made from the present one at one instant. Pure.

Equipment that stays goes on as if nothing had been; what is judged otherwise, or is new, is asked what the
newest values mean; what is taken out ends in `Unknown`, because from then on nobody looks. Nothing is
forgotten of the count of transitions: equipment that comes back goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.assembly.planning import Steps
from statemodel.engine import Engine, EquipmentMemory, EquipmentSpec
from statemodel.snapshot import SNAPSHOT_VERSION, EngineSnapshot, KeptEquipment
from statemodel.types import UNKNOWN, Cause, Conformance, TagSample, Transition

#: Rule of the cause of a transition that ends what is told of an equipment.
TAKEN_OUT = "taken_out"


@dataclass(frozen=True)
class Turned:
    """The next engine, what has to be recorded at the turn, and what is remembered of new equipment."""

    engine: Engine
    farewells: Sequence[Transition]
    memories: Mapping[str, EquipmentMemory]


def turned(
    engine: Engine,
    old: Sequence[EquipmentSpec],
    new: Sequence[EquipmentSpec],
    steps: Steps,
    *,
    at: datetime,
    newest: Mapping[str, TagSample],
    remembered: Mapping[str, EquipmentMemory],
    unseen_since: datetime,
) -> Turned:
    """Go on with the equipment of another configuration at `at`.

    `newest` has the newest sample of each tag, `remembered` what the journal says of equipment that is new.
    What was not configured when the process began, at `unseen_since`, was looked at by nobody since then.

    Raises:
        ValueError: see `Engine`.
    """
    kept = {name: engine.kept(name).equipment[name] for name in steps.anew}
    specs_before = {spec.name: spec for spec in old}
    farewells = [
        transition
        for name in steps.equipment_gone
        if (
            transition := _left(
                specs_before[name], engine.current(name), at, "taken out of the configuration"
            )
        )
    ]
    memories: dict[str, EquipmentMemory] = {}
    for spec in new:
        if spec.name in steps.judged:
            memory = kept[spec.name].memory
        elif spec.name in steps.equipment_new:
            memory = remembered.get(spec.name) or EquipmentMemory(spec.name, UNKNOWN, None, at, 0)
            reason = "it was not in the configuration"
            if transition := _left(spec, memory, max(memory.since, min(at, unseen_since)), reason):
                farewells.append(transition)
                memory = EquipmentMemory(spec.name, UNKNOWN, None, transition.at, transition.sequence)
            memories[spec.name] = memory
        else:
            continue
        latest = {tag: newest[tag] for tag in spec.inputs.values() if tag in newest}
        kept[spec.name] = _asked_anew(memory, latest)
    return Turned(
        Engine(new, at=at, snapshot=EngineSnapshot(SNAPSHOT_VERSION, kept), goes_on=engine, anew=steps.anew),
        tuple(farewells),
        memories,
    )


def _asked_anew(memory: EquipmentMemory, latest: dict[str, TagSample]) -> KeptEquipment:
    """An equipment of which only its state and the newest values count: without an identity, the engine asks
    at its first step what they mean."""
    return KeptEquipment("", memory, memory.state, (), None, latest, None, None, None)


def _left(spec: EquipmentSpec, memory: EquipmentMemory, at: datetime, reason: str) -> Transition | None:
    """The end of what is known of an equipment; None where nothing is."""
    if memory.state == UNKNOWN:
        return None
    at = max(at, memory.since)
    unknown = spec.model.by_name.get(UNKNOWN)
    return Transition(
        spec.name,
        spec.path,
        spec.model.name,
        memory.sequence + 1,
        memory.state,
        UNKNOWN,
        None,
        None if unknown is None else unknown.category,
        at,
        (at - memory.since).total_seconds(),
        Conformance.LEGAL,
        (),
        Cause(TAKEN_OUT, (), f"{spec.name}: {reason}"),
    )
