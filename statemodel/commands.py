"""The third way to a state: someone commands a move, or tells of an event that makes one.

A command is judged by the table: it is allowed when a transition in force leads out of the present state
under its trigger. Only equipment that shows no state of its own moves by it; where a code or rules show the
state, the equipment moves when they say so, and a command is only told when it could not have been obeyed.
Nothing here knows who may command what, or how a command reaches the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from statemodel.machine import Draft, EquipmentSpec, Machine
from statemodel.model import LEGAL, Edge, Model
from statemodel.types import UNKNOWN, Cause, Rejection


class Command(msgspec.Struct, frozen=True):
    """`source` asks `equipment` for the transition named `trigger`, at `at` (aware UTC)."""

    equipment: str
    trigger: str
    at: datetime
    source: str


def moved_by_commands(spec: EquipmentSpec) -> bool:
    """Whether commands alone move an equipment: nothing shows its state, and its model names triggers."""
    shown = spec.model.rules or spec.state is not None or spec.state_path
    return not shown and any(edge.trigger for edge in spec.model.transitions)


def obey(machine: Machine, command: Command, draft: Draft) -> None:
    """Judge a command, and make its move if commands move this equipment.

    A transition that leads back to its own state is allowed and records nothing. Every refused command is
    recorded, however often it is repeated: each was somebody's act.
    """
    table = machine.table
    leaving = [] if machine.state == UNKNOWN else [e for e in table.edges if e.from_state == machine.state]
    ends = list(dict.fromkeys(edge.to_state for edge in leaving if _name(edge) == command.trigger))
    commanded = moved_by_commands(machine.spec)
    if not ends:
        _refuse(machine, command, _reason(machine, command.trigger, leaving), draft)
    elif commanded and len(ends) > 1:
        reason = (
            f"{command.trigger} does not say which state to go to from {machine.state}: {', '.join(ends)}"
        )
        _refuse(machine, command, reason, draft)
    elif commanded and ends[0] != machine.state:
        code = machine.model.by_name[ends[0]].code
        machine.enter(ends[0], code, command.at, LEGAL, Cause("command", (), _text(command)), draft)


def _name(edge: Edge) -> str:
    """What a transition is asked for by; one without a trigger by the state it leads to."""
    return edge.trigger or edge.to_state


def _text(command: Command) -> str:
    return f"{command.trigger} commanded by {command.source}"


def _known(trigger: str, model: Model) -> bool:
    return any(_name(edge) == trigger for edge in model.transitions)


def _reason(machine: Machine, trigger: str, leaving: Iterable[Edge]) -> str:
    if not _known(trigger, machine.model):
        reason = f"model {machine.model.name} has no trigger {trigger}"
    else:
        reason = f"{trigger} is not allowed in {machine.state}"
        if machine.table is not machine.model:
            reason += " in this mode"
    if machine.state == UNKNOWN:
        return f"{reason}; no command is, until the state is known"
    allowed = sorted({_name(edge) for edge in leaving})
    return f"{reason}; allowed: {', '.join(allowed) or 'none'}"


def _refuse(machine: Machine, command: Command, reason: str, draft: Draft) -> None:
    keeper = machine.keeper
    evidence = keeper.evidence() if keeper is not None and machine.table is not machine.model else ()
    draft.rejections.append(
        Rejection(
            machine.spec.name,
            machine.spec.path,
            machine.model.name,
            machine.state,
            command.trigger,
            max(command.at, machine.since),
            reason,
            Cause("command", evidence, _text(command)),
        )
    )
