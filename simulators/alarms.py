"""The alarms of the plant: which state changes raise, acknowledge and end them.

Every PackML machine on OPC UA has one alarm, `Aborted`: raised when the machine begins to abort, acknowledged
when somebody clears it, gone when it has come to a stop. So the ledger of states is the truth of alarms, too.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulators.maps import OPCUA
from simulators.plant import Change

NAME, SEVERITY = "Aborted", 800


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alarm stands after a change."""

    word: str
    active: bool
    acknowledged: bool
    message: str


RAISED: Final = Standing("raised", True, False, "has aborted")
ACKNOWLEDGED: Final = Standing("acknowledged", True, True, "is being cleared")
GONE: Final = Standing("gone", False, True, "has been cleared")

_BY_STATE: Final = {"Aborting": RAISED, "Clearing": ACKNOWLEDGED}
_AT_FIRST: Final = {**_BY_STATE, "Aborted": RAISED}

ALARMED: Final = frozenset(
    group.owner
    for groups in OPCUA.values()
    for group in groups
    if any(node.tag == "StateCurrent" for node in group.nodes)
)
"""The equipment that has the alarm."""


def alarm_of(change: Change) -> Standing | None:
    """How the alarm of a machine stands after a change; None where the change does not touch it."""
    if change.equipment not in ALARMED:
        return None
    if change.from_state is None:
        return _AT_FIRST.get(change.to_state)
    if (change.from_state, change.to_state) == ("Clearing", "Stopped"):
        return GONE
    return _BY_STATE.get(change.to_state)
