"""A state model as one table: states, transitions, rules, and what follows from them.

Everything else reads this table: the engine to judge moves, the check to find defects, the description to
draw it. It knows nothing of tags, samples or time; how a model is written in TOML is `definition.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal

from statemodel.guard import Guard
from statemodel.types import UNKNOWN, Conformance, TagValue

#: Time categories: the six states of SEMI E10, in the words used here.
CATEGORIES: Final = (
    "productive",
    "standby",
    "engineering",
    "scheduled-down",
    "unscheduled-down",
    "non-scheduled",
)

#: Stack light a category shows when its state names none. `Unknown` is grey like what is switched off.
COLOUR_OF_CATEGORY: Final[Mapping[str | None, str]] = MappingProxyType(
    {
        "productive": "green",
        "standby": "amber",
        "engineering": "white",
        "scheduled-down": "blue",
        "unscheduled-down": "red",
        "non-scheduled": "grey",
        None: "grey",
    }
)

#: Stack light colours.
COLOURS: Final = ("green", "amber", "red", "blue", "white", "grey")

#: Status signals of NAMUR NE 107, the gravest first, and the one a category gives where a state names none.
SIGNALS: Final = ("failure", "function-check", "out-of-specification", "maintenance-required", "ok")
SIGNAL_OF_CATEGORY: Final[Mapping[str | None, str]] = MappingProxyType(
    {
        "productive": "ok",
        "standby": "ok",
        "engineering": "function-check",
        "scheduled-down": "ok",
        "unscheduled-down": "failure",
        "non-scheduled": "ok",
        None: "ok",
    }
)

#: Trigger of a transition that an acting state makes by itself when its work is done.
STATE_COMPLETE: Final = "SC"

OnIllegal = Literal["flag", "reject"]


@dataclass(frozen=True, slots=True)
class State:
    """One state.

    `code` is its number in the model, `category` one of `CATEGORIES`, `colour` one of `COLOURS` (that of
    the category when empty). An `acting` state works towards its own end; the others wait at a condition.
    `transient` states can be shorter than the interval between two samples, so a move may pass through
    them unseen; acting states are transient unless said otherwise. `signal` is one of `SIGNALS` (that of
    the category when empty). A state that has lasted for `timeout` is left for `timeout_to`, and not entered
    again until something else has been seen. `within` names the larger state it is a part of, under which its
    time can be added up; that need not be a state of the model.
    """

    name: str
    code: int | None = None
    category: str | None = None
    colour: str = ""
    acting: bool = False
    transient: bool | None = None
    signal: str = ""
    timeout: timedelta | None = None
    timeout_to: str = ""
    within: str = ""

    def __post_init__(self) -> None:
        if not self.signal:
            object.__setattr__(self, "signal", SIGNAL_OF_CATEGORY[self.category])
        if not self.colour:
            object.__setattr__(self, "colour", COLOUR_OF_CATEGORY[self.category])
        if self.transient is None:
            object.__setattr__(self, "transient", self.acting)


@dataclass(frozen=True, slots=True)
class Edge:
    """A tabled transition. `trigger` names the command or event that makes it, where the table knows one."""

    from_state: str
    to_state: str
    trigger: str = ""


def edges_of(rows: Iterable[tuple[str, str, str]]) -> tuple[Edge, ...]:
    """A table of (trigger, states it starts from separated by |, state it leads to) as transitions."""
    return tuple(Edge(start, to, trigger) for trigger, starts, to in rows for start in starts.split("|"))


def every_edge(states: Iterable[str]) -> tuple[Edge, ...]:
    """Every move there is: for models without a table of their own."""
    names = tuple(states)
    return tuple(Edge(start, to) for start in names for to in names if start != to)


@dataclass(frozen=True, slots=True)
class Rule:
    """The equipment is in `state` when `guard` has been true for `for_`. `text` is the rule as written."""

    state: str
    guard: Guard
    for_: timedelta | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Mode:
    """A unit mode: its number, and the states that do not take part in it."""

    name: str
    code: int
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a move stands to the table; `skipped` lists states it must have passed through unseen."""

    conformance: Conformance
    skipped: tuple[str, ...] = ()


LEGAL: Final = Verdict(Conformance.LEGAL)
ILLEGAL: Final = Verdict(Conformance.ILLEGAL)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """States, transitions and rules under one name.

    `on_illegal` says what becomes of an illegal move; None leaves it to where the state comes from: a code
    read from the equipment is recorded and flagged, a state derived by rules is rejected. `disabled` states
    keep their names and codes but take no part: an acting one is passed over to the states behind it, so the
    machine may go there directly; a wait state takes with it the acting states that could only end in it
    (PackML's skipping rules: with Held disabled, Hold is refused). `permanent` states cannot be disabled.
    `codes` maps every code that may be read, a number or a word, to a state, `Unknown` included; without it
    the states' own codes serve. A state's name is always understood. With `accept_uncertain`, samples of
    uncertain quality count as usable. In each of `modes` further states are disabled; the mode may change
    only in the states `mode_changes` (none named: in all) and only if they take part in both modes.
    `unknown_timeout` and `unknown_timeout_to` are the time limit of `Unknown`, as every state may have one.

    Raises:
        ValueError: a transition, rule, code or `initial` names a state that is not there, or two states
            share a name or code. `definition.read_model` reports these to people before they get here.
    """

    name: str
    initial: str
    states: tuple[State, ...]
    transitions: tuple[Edge, ...]
    rules: tuple[Rule, ...] = ()
    on_illegal: OnIllegal | None = None
    disabled: frozenset[str] = frozenset()
    permanent: frozenset[str] = frozenset()
    codes: Mapping[int | str, str] = field(default_factory=dict)
    accept_uncertain: bool = False
    title: str = ""
    modes: tuple[Mode, ...] = ()
    mode_changes: frozenset[str] = frozenset()
    unknown_timeout: timedelta | None = None
    unknown_timeout_to: str = ""

    by_name: Mapping[str, State] = field(init=False, repr=False)
    #: What a state tag may show: every code, and every state's name.
    by_value: Mapping[TagValue, str] = field(init=False, repr=False)
    #: Whether 0 and 1 are all the numbers a state tag may show.
    two_valued: bool = field(init=False, repr=False)
    #: Transitions in force: the table less disabled states, plus the moves that pass them over.
    edges: tuple[Edge, ...] = field(init=False, repr=False)
    successors: Mapping[str, Mapping[str, str]] = field(init=False, repr=False)
    #: Names the rules look at, sorted.
    inputs: tuple[str, ...] = field(init=False, repr=False)
    #: What a mode tag may show: every mode's number and name.
    mode_of: Mapping[TagValue, Mode] = field(init=False, repr=False)
    _verdicts: dict[tuple[str, str], Verdict] = field(init=False, repr=False)
    _in_mode: dict[str, Model] = field(init=False, repr=False)

    def state_of(self, value: TagValue) -> str | None:
        """The state that a value of the state tag means, by code or name; None when it means none.

        3.0 is code 3. A yes or no is a code only where there are no codes but 0 and 1: elsewhere somebody has
        pointed at the wrong variable.
        """
        if isinstance(value, bool) and not self.two_valued:
            return None
        return self.by_value.get(value)

    def __post_init__(self) -> None:
        by_name = {state.name: state for state in self.states}
        if len(by_name) != len(self.states):
            raise ValueError(f"model {self.name}: two states share a name")
        by_name.setdefault(
            UNKNOWN, State(UNKNOWN, timeout=self.unknown_timeout, timeout_to=self.unknown_timeout_to)
        )
        codes: dict[int | str, str] = dict(self.codes) or _own_codes(self)
        named = {self.initial, *self.disabled, *codes.values(), *self.mode_changes}
        named.update(*(mode.disabled for mode in self.modes))
        named.update(state.timeout_to for state in by_name.values() if state.timeout is not None)
        named.update(rule.state for rule in self.rules)
        named.update(name for edge in self.transitions for name in (edge.from_state, edge.to_state))
        if missing := sorted(named - by_name.keys()):
            raise ValueError(f"model {self.name}: no such state: {', '.join(missing)}")
        edges = _edges_in_force(self.transitions, self.disabled, self.permanent, by_name)
        successors: dict[str, dict[str, str]] = {name: {} for name in by_name}
        for edge in edges:
            successors[edge.from_state].setdefault(edge.to_state, edge.trigger)
        put = object.__setattr__  # the one way to finish a frozen value
        put(self, "codes", MappingProxyType(codes))
        put(self, "by_name", MappingProxyType(by_name))
        put(self, "by_value", {**{name: name for name in by_name if name != UNKNOWN}, **codes})
        put(self, "two_valued", {code for code in codes if isinstance(code, int)} <= {0, 1})
        put(self, "edges", edges)
        put(self, "successors", MappingProxyType(successors))
        put(self, "inputs", tuple(sorted({name for rule in self.rules for name in rule.guard.names})))
        mode_of: dict[TagValue, Mode] = {mode.code: mode for mode in self.modes}
        put(self, "mode_of", mode_of | {mode.name: mode for mode in self.modes})
        put(self, "_verdicts", {})
        put(self, "_in_mode", {})

    def whole_of(self, state: str) -> str:
        """The larger state that a state is a part of; itself when it is part of none."""
        found = self.by_name.get(state)
        return found.within or state if found is not None else state

    def in_mode(self, mode: Mode | None) -> Model:
        """The model with what a mode disables taken out; without a mode the model itself."""
        if mode is None or mode.disabled <= self.disabled:
            return self
        if mode.name not in self._in_mode:
            self._in_mode[mode.name] = replace(self, disabled=self.disabled | mode.disabled)
        return self._in_mode[mode.name]

    def mode_may_change(self, state: str, old: Mode | None, new: Mode | None) -> bool:
        """Whether the mode may change in a state; to and from what is not known it always may."""
        if state == UNKNOWN or old is None or new is None or old is new:
            return True
        takes_part = state not in old.disabled and state not in new.disabled
        return takes_part and (not self.mode_changes or state in self.mode_changes)

    def judge(self, from_state: str, to_state: str) -> Verdict:
        """How the move stands to the table.

        A move from or to `Unknown` is always legal: what happened meanwhile was not seen. A move that
        is not tabled is legal by closure when a path through transient states leads there; `skipped` is
        the shortest, and of several the one whose transitions come first in the table.
        """
        verdict = self._verdicts.get((from_state, to_state))
        if verdict is None:
            verdict = self._verdicts[from_state, to_state] = self._judge(from_state, to_state)
        return verdict

    def _judge(self, from_state: str, to_state: str) -> Verdict:
        if UNKNOWN in (from_state, to_state) or to_state in self.successors.get(from_state, ()):
            return LEGAL
        if from_state in self.disabled and to_state not in self.disabled:
            # that it should not be there was said when it came; how it leaves is for the whole table
            return replace(self, disabled=frozenset(), modes=())._judge(from_state, to_state)
        came_from = {from_state: ""}
        queue = deque([from_state])
        while queue:
            here = queue.popleft()
            for ahead in self.successors.get(here, ()):
                if ahead in came_from:
                    continue
                if ahead == to_state:
                    return Verdict(Conformance.LEGAL_BY_CLOSURE, _path_to(here, came_from))
                if self.by_name[ahead].transient:
                    came_from[ahead] = here
                    queue.append(ahead)
        return ILLEGAL


def _path_to(state: str, came_from: Mapping[str, str]) -> tuple[str, ...]:
    path = []
    while came_from[state]:
        path.append(state)
        state = came_from[state]
    return tuple(reversed(path))


def _own_codes(model: Model) -> dict[int | str, str]:
    codes: dict[int | str, str] = {}
    for state in model.states:
        if state.code is None:
            continue
        if state.code in codes:
            raise ValueError(
                f"model {model.name}: {codes[state.code]} and {state.name} share code {state.code}"
            )
        codes[state.code] = state.name
    return codes


def _edges_in_force(
    table: tuple[Edge, ...],
    disabled: frozenset[str],
    permanent: frozenset[str],
    by_name: Mapping[str, State],
) -> tuple[Edge, ...]:
    """The table without disabled states, and with the moves that pass over disabled acting ones."""
    if not disabled:
        return table
    disabled = _with_dead_ends(table, disabled, permanent, by_name)
    beyond = {name: _beyond(name, table, disabled, by_name) for name in disabled}
    edges: dict[tuple[str, str], Edge] = {}
    for edge in table:
        if edge.from_state in disabled:
            continue
        targets = beyond[edge.to_state] if edge.to_state in disabled else (edge.to_state,)
        for target in targets:
            if target != edge.from_state:
                edges.setdefault((edge.from_state, target), Edge(edge.from_state, target, edge.trigger))
    return tuple(edges.values())


def _with_dead_ends(
    table: tuple[Edge, ...],
    disabled: frozenset[str],
    permanent: frozenset[str],
    by_name: Mapping[str, State],
) -> frozenset[str]:
    """The disabled states, and the acting states that with them can no longer come to an end.

    Permanent states stay: in PackML 2015 Execute ends in Completing, but without it production is stopped.
    """
    while True:
        dead = {
            name
            for name, state in by_name.items()
            if state.acting
            and name not in disabled | permanent
            and (ends := [edge.to_state for edge in _completing(name, table)])
            and all(end in disabled and not _beyond(end, table, disabled, by_name) for end in ends)
        }
        if not dead:
            return disabled
        disabled |= dead


def _completing(state: str, table: tuple[Edge, ...]) -> list[Edge]:
    """How an acting state ends by itself; where the table does not say, every way out."""
    leaving = [edge for edge in table if edge.from_state == state]
    return [edge for edge in leaving if edge.trigger == STATE_COMPLETE] or leaving


def _beyond(
    start: str, table: tuple[Edge, ...], disabled: frozenset[str], by_name: Mapping[str, State]
) -> tuple[str, ...]:
    """States in force that a machine reaches when `start` and all disabled acting states pass at once.

    A disabled wait state leads nowhere: the machine would have to rest in it.
    """
    found: dict[str, None] = {}
    seen = {start}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        if not by_name[here].acting:
            continue
        for edge in _completing(here, table):
            if edge.to_state not in disabled:
                found[edge.to_state] = None
            elif edge.to_state not in seen:
                seen.add(edge.to_state)
                queue.append(edge.to_state)
    return tuple(found)
