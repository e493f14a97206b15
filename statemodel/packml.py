"""The PackML base state model (ISA-TR88.00.02) as one transition table, in its 2015 and 2022 revisions.

The table is the standard's; categories and lamp colours are sensible defaults that a model of your own may
change. It does not know how a PLC numbers its states: the codes here are the standard's own, and machines
that number otherwise get a `codes` table in a model that extends this one.
"""

from __future__ import annotations

from typing import Final

from statemodel.model import STATE_COMPLETE, Mode, Model, State, edges_of
from statemodel.types import UNKNOWN

#: code, state, acting, category, lamp (solid or flashing is not told apart here).
_STATES: Final = (
    (1, "Clearing", True, "unscheduled-down", "red"),
    (2, "Stopped", False, "scheduled-down", "red"),
    (3, "Starting", True, "standby", "green"),
    (4, "Idle", False, "standby", "green"),
    (5, "Suspended", False, "standby", "amber"),
    (6, "Execute", True, "productive", "green"),
    (7, "Stopping", True, "scheduled-down", "red"),
    (8, "Aborting", True, "unscheduled-down", "red"),
    (9, "Aborted", False, "unscheduled-down", "red"),
    (10, "Holding", True, "unscheduled-down", "blue"),
    (11, "Held", False, "unscheduled-down", "blue"),
    (12, "Unholding", True, "unscheduled-down", "green"),
    (13, "Suspending", True, "standby", "amber"),
    (14, "Unsuspending", True, "standby", "green"),
    (15, "Resetting", True, "standby", "red"),
    (16, "Completing", True, "standby", "green"),
    (17, "Complete", False, "standby", "red"),
)

_STOPPABLE: Final = (
    "Starting|Idle|Suspended|Execute|Holding|Held|Unholding"
    "|Suspending|Unsuspending|Resetting|Completing|Complete"
)

#: trigger, from (|-separated), to, revision (empty: both).
_TABLE: Final = (
    ("Reset", "Stopped|Complete", "Resetting", ""),
    ("Start", "Idle", "Starting", ""),
    ("Stop", _STOPPABLE, "Stopping", ""),
    ("Hold", "Execute", "Holding", ""),
    ("Hold", "Suspended", "Holding", "2022"),
    ("Unhold", "Held", "Unholding", ""),
    ("Suspend", "Execute", "Suspending", ""),
    ("Unsuspend", "Suspended", "Unsuspending", ""),
    ("Abort", f"Clearing|Stopped|Stopping|{_STOPPABLE}", "Aborting", ""),
    ("Clear", "Aborted", "Clearing", ""),
    ("Complete", "Execute|Suspended|Held", "Completing", "2022"),
    (STATE_COMPLETE, "Execute", "Completing", "2015"),
    (STATE_COMPLETE, "Clearing|Stopping", "Stopped", ""),
    (STATE_COMPLETE, "Starting|Unholding|Unsuspending", "Execute", ""),
    (STATE_COMPLETE, "Aborting", "Aborted", ""),
    (STATE_COMPLETE, "Holding", "Held", ""),
    (STATE_COMPLETE, "Suspending", "Suspended", ""),
    (STATE_COMPLETE, "Resetting", "Idle", ""),
    (STATE_COMPLETE, "Completing", "Complete", ""),
)

#: Numbers of `Command.CntrlCmd`. `Complete` came with the 2022 revision.
COMMAND_CODES: Final = {
    "Reset": 1,
    "Start": 2,
    "Stop": 3,
    "Hold": 4,
    "Unhold": 5,
    "Suspend": 6,
    "Unsuspend": 7,
    "Abort": 8,
    "Clear": 9,
    "Complete": 10,
}


#: Machines that are run by hand have no use for these; a model of your own may say otherwise.
_NOT_BY_HAND: Final = frozenset({"Suspending", "Suspended", "Unsuspending", "Completing", "Complete"})

#: Unit modes 1 to 3; 4 to 31 are the machine builder's. 0, "invalid", is no mode, so it restricts nothing.
_MODES: Final = (
    Mode("Production", 1),
    Mode("Maintenance", 2, _NOT_BY_HAND),
    Mode("Manual", 3, _NOT_BY_HAND),
)


def _model(name: str, revision: str) -> Model:
    # Execute is an acting state, but it is where machines make product: a move that must have passed
    # through it unseen is a production run nobody saw, so it does not count as transient.
    states = tuple(
        State(state, code, category, colour, acting, transient=acting and state != "Execute")
        for code, state, acting, category, colour in _STATES
    )
    rows = ((trigger, starts, to) for trigger, starts, to, since in _TABLE if since in ("", revision))
    return Model(
        name=name,
        initial="Stopped",
        states=states,
        transitions=edges_of(rows),
        permanent=frozenset({"Stopped", "Idle", "Execute", "Aborted"}),
        # 0 is the standard's own word for "undefined": the machine says that it does not know.
        codes={0: UNKNOWN, **{code: state for code, state, *_ in _STATES}},
        modes=_MODES,
        mode_changes=frozenset({"Stopped", "Idle", "Aborted"}),
        title=f"PackML base state model, ISA-TR88.00.02-{revision}",
    )


PACKML_2022: Final = _model("packml", "2022")
PACKML_2015: Final = _model("packml-2015", "2015")
