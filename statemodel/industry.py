"""Models other standards define: SEMI E10, ISA-95 job orders, ISA-88 procedures, MTConnect execution.

Each is one table. They carry the standards' own numbers or words where there are any; equipment that shows
others gets a `codes` table in a model that extends one of these.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from statemodel.model import STATE_COMPLETE, Edge, Model, State, edges_of, every_edge
from statemodel.types import UNKNOWN

_E10: Final = (
    State("Productive", 1, "productive"),
    State("Standby", 2, "standby"),
    State("Engineering", 3, "engineering"),
    State("ScheduledDowntime", 4, "scheduled-down"),
    State("UnscheduledDowntime", 5, "unscheduled-down"),
    State("NonScheduled", 6, "non-scheduled"),
)

#: SEMI E10 defines six states that cover all time, but neither numbers nor an order among them. The numbers
#: are those of OPC 40100-1 (machine vision), the only public ones; any state may follow any other.
SEMI_E10: Final = Model(
    name="semi-e10",
    initial="NonScheduled",
    states=_E10,
    transitions=every_edge(state.name for state in _E10),
    title="SEMI E10 equipment states",
)

#: Substates of the six, after SEMI E10. The standard numbers none; equipment shows them by name, or a model
#: that extends this one gives them codes.
_E10_PARTS: Final = {
    "Productive": "RegularProduction|ThirdPartyWork|Rework|EngineeringRuns",
    "Standby": "NoOperator|NoProduct|NoSupportTool|ClusterModuleDown|NoHost",
    "Engineering": "ProcessExperiments|EquipmentExperiments",
    "ScheduledDowntime": "MaintenanceDelay|ProductionTest|PreventiveMaintenance|ChangeOfConsumables|Setup"
    "|Facilities",
    "UnscheduledDowntime": "MaintenanceDelay|Repair|ChangeOfConsumables|OutOfSpecInput|Facilities",
    "NonScheduled": "UnworkedShifts|Installation|OfflineTraining|ShutdownStartup",
}

#: What two of the six have in common is told apart by the first words of the name.
_E10_SUBSTATES: Final = tuple(
    State(f"{state.name}.{part}", None, state.category, within=state.name)
    for state in _E10
    for part in _E10_PARTS[state.name].split("|")
)

SEMI_E10_SUBSTATES: Final = Model(
    name="semi-e10-substates",
    initial="NonScheduled.UnworkedShifts",
    states=_E10_SUBSTATES,
    transitions=every_edge(state.name for state in _E10_SUBSTATES),
    title="SEMI E10 substates, which roll up to the six states",
)

#: ISA-95 job order, OPC 10031-4 v2.0.0: six states, thirteen numbered transitions. Two of them (`Update`)
#: lead back to their own state; the engine records no move for those. `Start` permits, it does not start:
#: the move to Running has no method. An order ends; the next one is another order, so nothing leads out of
#: Ended and Aborted. Equipment that shows one order after another extends this with the move it makes.
ISA95_JOB_ORDER: Final = Model(
    name="isa95",
    initial="NotAllowedToStart",
    states=(
        State("NotAllowedToStart", 1, "standby", "white"),
        State("AllowedToStart", 2, "standby", "white"),
        State("Running", 3, "productive"),
        State("Interrupted", 4, "standby", "amber"),
        State("Ended", 5, "standby", "white"),
        State("Aborted", 6, "standby", "red"),
    ),
    transitions=(
        Edge("NotAllowedToStart", "NotAllowedToStart", "Update"),
        Edge("NotAllowedToStart", "AllowedToStart", "Start"),
        Edge("AllowedToStart", "NotAllowedToStart", "RevokeStart"),
        Edge("AllowedToStart", "AllowedToStart", "Update"),
        Edge("AllowedToStart", "Running"),
        Edge("Running", "Interrupted", "Pause"),
        Edge("Running", "Ended", "Stop"),
        Edge("Running", "Aborted", "Abort"),
        Edge("Interrupted", "Aborted", "Abort"),
        Edge("Interrupted", "Running", "Resume"),
        Edge("Interrupted", "Ended", "Stop"),
        Edge("NotAllowedToStart", "Aborted", "Abort"),
        Edge("AllowedToStart", "Aborted", "Abort"),
    ),
    title="ISA-95 job order, OPC 10031-4",
)

#: state, its number in the standard, substates by their numbers from 1, moves between those.
_JOB_PARTS: Final = (
    ("NotAllowedToStart", 1, "Waiting|Ready|Loaded", "12 23 21 32 31"),
    ("AllowedToStart", 2, "Waiting|Ready|Loaded", "12 23 21 32 31"),
    ("Running", 3, "", ""),
    ("Interrupted", 4, "Held|Suspended", "12 21"),
    ("Ended", 5, "Completed|Closed", "12"),
    ("Aborted", 6, "", ""),
)


def _job_substates() -> Model:
    """The job order with its substates. A code is ten times the number of the state plus that of the
    substate: the standard numbers each by itself. A move between two states may end in any substate."""
    parts: dict[str, list[State]] = {}
    moves: list[Edge] = []
    for name, number, words, inner in _JOB_PARTS:
        whole = ISA95_JOB_ORDER.by_name[name]
        parts[name] = [
            State(f"{name}.{word}", number * 10 + place, whole.category, whole.colour, within=name)
            for place, word in enumerate(words.split("|"), 1)
            if word
        ] or [State(name, number * 10, whole.category, whole.colour)]
        for start, to in (map(int, pair) for pair in inner.split()):
            moves.append(Edge(parts[name][start - 1].name, parts[name][to - 1].name))
    for edge in ISA95_JOB_ORDER.transitions:
        if edge.from_state != edge.to_state:
            pairs = product(parts[edge.from_state], parts[edge.to_state])
            moves += [Edge(before.name, after.name, edge.trigger) for before, after in pairs]
    return Model(
        name="isa95-substates",
        initial="NotAllowedToStart.Waiting",
        states=tuple(state for group in parts.values() for state in group),
        transitions=tuple(moves),
        title="ISA-95 job order with its substates, OPC 10031-4",
    )


ISA95_SUBSTATES: Final = _job_substates()

_STOPPABLE: Final = "Running|Pausing|Paused|Holding|Held|Restarting"

#: ISA-88 (IEC 61512-1) procedural elements. The standard gives names, no numbers: bind a tag that shows the
#: names as text, or extend with a `codes` table. Running is acting but not transient: a run nobody saw is
#: not passed over.
ISA88: Final = Model(
    name="isa88",
    initial="Idle",
    states=(
        State("Idle", None, "standby", "green"),
        State("Running", None, "productive", acting=True, transient=False),
        State("Complete", None, "standby", "white"),
        State("Pausing", None, "standby", acting=True),
        State("Paused", None, "standby"),
        State("Holding", None, "unscheduled-down", "blue", acting=True),
        State("Held", None, "unscheduled-down", "blue"),
        State("Restarting", None, "unscheduled-down", "green", acting=True),
        State("Stopping", None, "scheduled-down", "red", acting=True),
        State("Stopped", None, "scheduled-down", "red"),
        State("Aborting", None, "unscheduled-down", acting=True),
        State("Aborted", None, "unscheduled-down"),
    ),
    transitions=edges_of(
        (
            ("Start", "Idle", "Running"),
            ("Pause", "Running", "Pausing"),
            ("Resume", "Paused", "Running"),
            ("Hold", "Running|Pausing|Paused|Restarting", "Holding"),
            ("Restart", "Held", "Restarting"),
            ("Stop", _STOPPABLE, "Stopping"),
            ("Abort", f"{_STOPPABLE}|Stopping", "Aborting"),
            ("Reset", "Complete|Stopped|Aborted", "Idle"),
            (STATE_COMPLETE, "Running", "Complete"),
            (STATE_COMPLETE, "Pausing", "Paused"),
            (STATE_COMPLETE, "Holding", "Held"),
            (STATE_COMPLETE, "Restarting", "Running"),
            (STATE_COMPLETE, "Stopping", "Stopped"),
            (STATE_COMPLETE, "Aborting", "Aborted"),
        )
    ),
    title="ISA-88 procedural element",
)

#: word of MTConnect's EXECUTION, state, category, colour.
_EXECUTION: Final = (
    ("ACTIVE", "Active", "productive", ""),
    ("READY", "Ready", "standby", "green"),
    ("WAIT", "Wait", "standby", ""),
    ("FEED_HOLD", "FeedHold", "standby", "blue"),
    ("OPTIONAL_STOP", "OptionalStop", "standby", "blue"),
    ("PROGRAM_OPTIONAL_STOP", "ProgramOptionalStop", "standby", "blue"),
    ("PROGRAM_STOPPED", "ProgramStopped", "standby", ""),
    ("PROGRAM_COMPLETED", "ProgramCompleted", "standby", ""),
    ("STOPPED", "Stopped", "unscheduled-down", ""),
    ("INTERRUPTED", "Interrupted", "unscheduled-down", ""),
)

#: MTConnect's EXECUTION data item, which comes as a word. The standard has no table of transitions, so any
#: state may follow any other. UNAVAILABLE is the agent's word for "not known". A shop that wants MODE or
#: AVAILABILITY to count extends this with rules, such as `Unknown` when `availability == "UNAVAILABLE"`.
MTCONNECT: Final = Model(
    name="mtconnect",
    initial="Ready",
    states=tuple(State(name, None, category, colour) for _, name, category, colour in _EXECUTION),
    transitions=every_edge(name for _, name, _, _ in _EXECUTION),
    codes={"UNAVAILABLE": UNKNOWN, **{word: name for word, name, _, _ in _EXECUTION}},
    title="MTConnect EXECUTION",
)
