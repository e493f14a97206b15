"""The PackML state model, ISA-TR88.00.02-2022, as the simulated machines obey it.

Written as a table of its own: the product under test has another, and the two must agree by being right, not
by being the same file. Knows nothing of time, speeds or wires.
"""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, int]] = {
    "Clearing": 1,
    "Stopped": 2,
    "Starting": 3,
    "Idle": 4,
    "Suspended": 5,
    "Execute": 6,
    "Stopping": 7,
    "Aborting": 8,
    "Aborted": 9,
    "Holding": 10,
    "Held": 11,
    "Unholding": 12,
    "Suspending": 13,
    "Unsuspending": 14,
    "Resetting": 15,
    "Completing": 16,
    "Complete": 17,
}
"""State codes of `Status.StateCurrent`."""

COMMANDS: Final[dict[int, str]] = {
    1: "reset",
    2: "start",
    3: "stop",
    4: "hold",
    5: "unhold",
    6: "suspend",
    7: "unsuspend",
    8: "abort",
    9: "clear",
    10: "complete",
}
"""`Command.CntrlCmd` codes; 10 exists since the 2022 revision."""

COMPLETED: Final[dict[str, str]] = {
    "Clearing": "Stopped",
    "Stopping": "Stopped",
    "Starting": "Execute",
    "Unholding": "Execute",
    "Unsuspending": "Execute",
    "Aborting": "Aborted",
    "Holding": "Held",
    "Suspending": "Suspended",
    "Resetting": "Idle",
    "Completing": "Complete",
}
"""Where each acting state leads when it is done (state complete, SC). Execute is left by command only."""

_RUNNING: Final = (
    "Starting",
    "Idle",
    "Suspended",
    "Execute",
    "Holding",
    "Held",
    "Unholding",
    "Suspending",
    "Unsuspending",
    "Resetting",
    "Completing",
    "Complete",
)

_SOURCES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "reset": (("Stopped", "Complete"), "Resetting"),
    "start": (("Idle",), "Starting"),
    "stop": (_RUNNING, "Stopping"),
    "hold": (("Execute", "Suspended"), "Holding"),
    "unhold": (("Held",), "Unholding"),
    "suspend": (("Execute",), "Suspending"),
    "unsuspend": (("Suspended",), "Unsuspending"),
    "abort": ((*_RUNNING, "Clearing", "Stopped", "Stopping"), "Aborting"),
    "clear": (("Aborted",), "Clearing"),
    "complete": (("Execute", "Suspended", "Held"), "Completing"),
}

MOVES: Final[dict[tuple[str, str], str]] = {
    (source, command): target for command, (sources, target) in _SOURCES.items() for source in sources
}
"""(state, command) to the acting state the command starts; a pair that is missing is refused."""

EDGES: Final[frozenset[tuple[str, str]]] = frozenset(
    {(source, target) for (source, _), target in MOVES.items()} | set(COMPLETED.items())
)
"""Every move the 2022 revision allows, as (from, to)."""


def heading_for(state: str) -> str:
    """The wait state (or Execute) at which `state` comes to rest: `StateRequested`."""
    return COMPLETED.get(state, state)
