"""Commands by name against the model: whether one is allowed in a state, and where it leads. Pure.

The table of the model decides, as it does in `statemodel.commands`: a command is allowed when a transition in
force leads out of the present state under its name.
"""

from __future__ import annotations

import msgspec

from gateway.control.carrying import Halt
from statemodel.engine import EquipmentSpec
from statemodel.model import STATE_COMPLETE, Model
from statemodel.packml import COMMAND_CODES
from statemodel.types import UNKNOWN, TagValue


class Way(msgspec.Struct, frozen=True):
    """Where a command leads: to `first`, and from there by itself through the rest of `states`."""

    first: tuple[str, ...]
    states: frozenset[str]

    @property
    def words(self) -> str:
        """For people."""
        return " or ".join(self.first)


def way_of(spec: EquipmentSpec, state: str, command: str, mode: TagValue = None) -> Way | Halt:
    """Where `command` leads an equipment that is in `state`, or why it is none there.

    A state shorter than the time between two readings is not seen; so whatever the machine comes to by
    itself afterwards counts as well, up to where it rests.
    """
    if command not in COMMAND_CODES:
        known = ", ".join(COMMAND_CODES)
        return Halt("not_allowed", f'"{command}" is no PackML command; there are {known}')
    if state == UNKNOWN:
        return Halt("state_unknown", f"{command} depends on the state of {spec.name}, which is not known now")
    model = spec.model.in_mode(spec.model.mode_of.get(mode))
    leaving = [edge for edge in model.edges if edge.from_state == state]
    first = tuple(dict.fromkeys(edge.to_state for edge in leaving if edge.trigger == command))
    if not first:
        allowed = sorted({edge.trigger for edge in leaving if edge.trigger in COMMAND_CODES})
        in_mode = "" if model is spec.model else " in this mode"
        reason = f"{command} is not allowed in {state}{in_mode}; allowed: {', '.join(allowed) or 'none'}"
        return Halt("state", reason)
    return Way(first, frozenset(first) | _onward(model, first))


def _onward(model: Model, states: tuple[str, ...]) -> frozenset[str]:
    """Where acting states lead when they are done."""
    found: set[str] = set()
    ahead = list(states)
    while ahead:
        here = ahead.pop()
        for edge in model.edges:
            done = edge.from_state == here and edge.trigger == STATE_COMPLETE and edge.to_state not in found
            if done and model.by_name[here].transient:
                found.add(edge.to_state)
                ahead.append(edge.to_state)
    return frozenset(found)
