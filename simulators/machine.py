"""What every simulated machine has in common: a state, the time it was entered, when it next acts, and its
tags.

A machine is a seeded process on the plant clock. It reads no clock and opens no socket: the plant calls
`wake`, `tick` and `command` with the time, in seconds of plant time, and looks at `state` and `tags()`
afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

Value = bool | int | float | str
Span = tuple[float, float]

NEVER: Final = math.inf

DOOR_OPEN_S_MIN: Final = 5.0
"""An oven door stays open at least this long, in wall seconds: a rule with `for 2s` always sees it."""

DOOR_STEADY_S: Final = 3.0
"""The oven keeps its temperature this long after the door opened, in seconds of wall time."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How lively the plant is. Spans are (shortest, longest) in seconds of plant time."""

    random: bool = True
    line: bool = True
    min_dwell_s: float = 0.5
    """Shortest stay in any state, in seconds of *wall* time: a poller at a fifth of it sees every state."""
    acting: Span = (0.8, 2.0)
    waiting: Span = (1.5, 4.0)
    executing: Span = (6.0, 20.0)
    oven_heat_s: float = 12.0
    """Time from ambient temperature to the upper end of the baking range."""
    oven_off: Span = (5.0, 10.0)
    oven_bake: Span = (6.0, 15.0)
    oven_door: Span = (6.0, 10.0)
    compressor_stopped: Span = (4.0, 8.0)
    compressor_unloaded: Span = (2.0, 6.0)
    compressor_loaded: Span = (4.0, 10.0)
    buffer_bottles: float = 40.0
    """Bottles that fit between two machines of the line."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The profile's wall times as plant times, for one speed factor."""

    profile: Profile
    speed: float = 1.0
    ends_s: float = NEVER
    """Plant time at which the machines will be told to rest; nothing long is begun shortly before."""
    floor_s: float = field(init=False)
    door_s: float = field(init=False)
    steady_s: float = field(init=False)
    tick_s: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor_s", self.profile.min_dwell_s * self.speed)
        object.__setattr__(self, "door_s", DOOR_OPEN_S_MIN * self.speed)
        object.__setattr__(self, "steady_s", DOOR_STEADY_S * self.speed)
        object.__setattr__(self, "tick_s", 0.2 * max(1.0, self.speed))


class Machine(Protocol):
    """One machine. Each call of `wake`, `tick` or `command` makes at most one state change."""

    name: str
    state: str
    wake_s: float
    """Plant time at which `wake` is due; `NEVER` when nothing is planned."""

    @property
    def code(self) -> int:
        """The number that stands for `state` in the ledger."""
        ...

    @property
    def resting(self) -> bool:
        """Whether the machine has come to the state in which it stays after `rest`."""
        ...

    def wake(self, now_s: float) -> None:
        """Do what was planned for `wake_s`."""
        ...

    def tick(self, now_s: float, dt_s: float) -> None:
        """Let `dt_s` of physics pass: ramps, counters, temperatures."""
        ...

    def command(self, now_s: float, word: str) -> str | None:
        """Obey an operator. Returns the reason when the command is refused, else None.

        A command that comes before the shortest stay is over is obeyed when it is.
        """
        ...

    def set_random(self, now_s: float, on: bool) -> None:
        """Let the machine decide for itself (or stop doing so)."""
        ...

    def rest(self, now_s: float) -> None:
        """Go to rest by legal moves and stay there."""
        ...

    def tags(self) -> Mapping[str, Value]:
        """The published values, consistent with `state`."""
        ...
