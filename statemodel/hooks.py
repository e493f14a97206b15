"""Which actions a transition asks for: what publishing, writing a tag or calling out is plugged into.

A hook names an action and the moves it is for; `due` picks those a transition asks for, in order. Actions are
names with parameters, opaque here: nothing in this file performs one, or knows what one could be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from statemodel.types import TagValue, Transition

Moment = Literal["exit", "transition", "entry"]

#: The order of the moments of one transition: a state is left, the move is made, the next is entered.
MOMENTS: Final[tuple[Moment, ...]] = ("exit", "transition", "entry")


@dataclass(frozen=True, slots=True)
class Hook:
    """An action to be asked for.

    `on` "entry" and "exit" are for transitions into and out of `state`, "transition" is for those from
    `from_state` to `to_state`. A state that is not named (None) is any state; `Unknown` is one like
    the others. `parameters` are handed on as they are.

    Raises:
        ValueError: a state is named that `on` has no use for.
    """

    on: Moment
    action: str
    state: str | None = None
    from_state: str | None = None
    to_state: str | None = None
    parameters: Mapping[str, TagValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = (self.from_state, self.to_state)
        if self.on == "transition" and self.state is not None:
            raise ValueError(f"hook {self.action}: on transition, name from_state and to_state, not state")
        if self.on != "transition" and ends != (None, None):
            raise ValueError(f"hook {self.action}: on {self.on}, name state, not from_state or to_state")
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))

    def wants(self, transition: Transition) -> bool:
        """Whether a transition asks for this action."""
        match self.on:
            case "exit":
                return self.state in (None, transition.from_state)
            case "entry":
                return self.state in (None, transition.to_state)
            case "transition":
                leaves = self.from_state in (None, transition.from_state)
                return leaves and self.to_state in (None, transition.to_state)


@dataclass(frozen=True, slots=True)
class HookCall:
    """One action asked for by one transition.

    `transition` says by its equipment and sequence which call this is, so one that is made again after a
    restart can be told from a new one.
    """

    hook: Hook
    transition: Transition


def due(hooks: Iterable[Hook], transition: Transition) -> tuple[HookCall, ...]:
    """The calls a transition asks for: on exit, on transition, on entry; within each as listed.

    States that a move legal by closure passed through unseen (`skipped`) were neither entered nor left as
    far as anyone saw: they ask for nothing.
    """
    wanted = [hook for hook in hooks if hook.wants(transition)]
    wanted.sort(key=lambda hook: MOMENTS.index(hook.on))
    return tuple(HookCall(hook, transition) for hook in wanted)
