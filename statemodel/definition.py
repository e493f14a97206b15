"""State models of your own: from a parsed TOML file to a model, or to everything that is wrong with it.

It is handed tables, not files: where they came from, and how a file name becomes one, is the caller's
matter. What is refused here never reaches the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, cast

from statemodel.builtin import BUILTIN
from statemodel.check import check
from statemodel.guard import GuardError, parse_guard, parse_guard_duration
from statemodel.model import (
    CATEGORIES,
    COLOURS,
    SIGNALS,
    Edge,
    Mode,
    Model,
    OnIllegal,
    Rule,
    State,
    every_edge,
)
from statemodel.problems import Problem, Table, did_you_mean
from statemodel.types import UNKNOWN

__all__ = ["Problem", "read_model"]

STATES_MAX: Final = 256
TRANSITIONS_MAX: Final = 4096
RULES_MAX: Final = 256
NAME_CHARACTERS_MAX: Final = 64
MODES_MAX: Final = 32
LIMIT_MIN: Final = timedelta(seconds=1)

_KEYS: Final = (
    "name",
    "title",
    "initial",
    "states",
    "transitions",
    "rules",
    "on_illegal",
    "extends",
    "disable",
    "codes",
    "accept_uncertain",
    "modes",
    "mode_changes",
    "unknown_timeout",
    "unknown_timeout_to",
)
_STATE_KEYS: Final = (
    "name",
    "code",
    "category",
    "colour",
    "acting",
    "transient",
    "signal",
    "timeout",
    "timeout_to",
    "within",
)
_MODE_KEYS: Final = ("name", "code", "disable")
_TRANSITION_KEYS: Final = ("from", "to", "trigger")
_RULE_KEYS: Final = ("state", "when", "for")
_ANY: Final = "*"

Resolve = Callable[[str], Model | None]


def read_model(
    data: Mapping[str, Any], *, resolve: Resolve = BUILTIN.get
) -> tuple[Model | None, tuple[Problem, ...]]:
    """Read a model; every problem at once.

    `resolve` finds the model that `extends` names. The model is None exactly when there are problems.
    """
    problems: list[Problem] = []
    reader = _Reader(Table(data, "", _KEYS, problems), problems, resolve)
    model = reader.read()
    if model is not None:
        problems.extend(found for found in check(model) if found.severity == "error")
    return (None if problems else model), tuple(problems)


class _Reader:
    def __init__(self, top: Table, problems: list[Problem], resolve: Resolve) -> None:
        self._top = top
        self._problems = problems
        self._resolve = resolve
        self._known: dict[str, State] = {}
        #: Where time limits of states lead; judged once all states are known.
        self._leads_to: list[tuple[str, str]] = []

    def read(self) -> Model | None:
        top = self._top
        name = top.text("name", required=True)
        base = self._base()
        states = self._states(base)
        initial = self._initial(base)
        transitions = self._transitions(base)
        rules = tuple(self._rules()) or (base.rules if base else ())
        disabled = self._disabled(base)
        codes = self._codes(base)
        on_illegal = cast(OnIllegal | None, top.choice("on_illegal", ("flag", "reject")))
        accept_uncertain = top.flag("accept_uncertain")
        title = top.text("title")
        modes = tuple(self._modes()) if "modes" in top else (base.modes if base else ())
        mode_changes = self._mode_changes(base)
        unknown_timeout, unknown_timeout_to = self._limit(top, "unknown_timeout", UNKNOWN)
        if unknown_timeout is None and base is not None:
            unknown_timeout, unknown_timeout_to = base.unknown_timeout, base.unknown_timeout_to
        for path, state in self._leads_to:
            self._is_state(Table({}, path, (), self._problems), "timeout_to", state, unknown=True)
        if self._problems or name is None or initial is None:
            return None
        first_code = {state: code for code, state in reversed(codes.items()) if isinstance(code, int)}
        return Model(
            name=name,
            initial=initial,
            states=tuple(replace(state, code=first_code.get(state.name)) for state in states),
            transitions=transitions,
            rules=rules,
            on_illegal=on_illegal or (base.on_illegal if base else None),
            disabled=disabled,
            permanent=base.permanent if base else frozenset(),
            codes=codes,
            accept_uncertain=base.accept_uncertain
            if base and accept_uncertain is None
            else bool(accept_uncertain),
            title=title or "",
            modes=modes,
            mode_changes=mode_changes,
            unknown_timeout=unknown_timeout,
            unknown_timeout_to=unknown_timeout_to or "",
        )

    def _base(self) -> Model | None:
        wanted = self._top.text("extends")
        if wanted is None:
            return None
        base = self._resolve(wanted)
        if base is None:
            self._top.problem("extends", f'there is no model "{wanted}"', did_you_mean(wanted, BUILTIN))
        return base

    def _states(self, base: Model | None) -> tuple[State, ...]:
        known = {state.name: state for state in base.states} if base else {}
        own: set[str] = set()
        for place, item in enumerate(self._top.items("states", most=STATES_MAX)):
            table = Table(item, f"states[{place}]", _STATE_KEYS, self._problems)
            name = self._state_name(table)
            if name is None:
                continue
            if name in own:
                table.problem("name", f'there are two states "{name}"', "give each state once")
                continue
            own.add(name)
            known[name] = self._state(table, known.get(name) or State(name))
        if not known and "states" not in self._top and "extends" not in self._top:
            self._top.problem("states", "missing", 'write states = [{ name = "Running" }, ...]')
        elif not known and not self._problems:
            self._top.problem("states", "a model needs at least one state")
        self._known = known
        return tuple(known.values())

    def _state_name(self, table: Table) -> str | None:
        name = table.text("name", required=True)
        if name is None:
            return None
        if name == UNKNOWN:
            table.problem("name", f"every model has {UNKNOWN} already", "leave it out")
        elif name == _ANY or not name.isprintable() or name != name.strip():
            table.problem("name", f"{name!r} cannot be the name of a state", "write a plain word")
        elif len(name) > NAME_CHARACTERS_MAX:
            table.problem("name", f"the name has more than {NAME_CHARACTERS_MAX} characters")
        else:
            return name
        return None

    def _state(self, table: Table, before: State) -> State:
        """A state as the table says; what it leaves open stays as in the model that is extended."""
        code = table.whole_number("code")
        category = table.choice("category", CATEGORIES)
        colour = table.choice("colour", COLOURS)
        acting, transient = table.flag("acting"), table.flag("transient")
        if colour is None:
            colour = before.colour if category is None and before.category is not None else ""
        if transient is None:
            transient = before.transient if acting is None else None
        signal = table.choice("signal", SIGNALS)
        if signal is None:
            signal = before.signal if category is None else ""
        timeout, timeout_to = self._limit(table, "timeout", before.name)
        if timeout is None:
            timeout, timeout_to = before.timeout, before.timeout_to
        return State(
            name=before.name,
            code=before.code if code is None else code,
            category=before.category if category is None else category,
            colour=colour,
            acting=before.acting if acting is None else acting,
            transient=transient,
            signal=signal,
            timeout=timeout,
            timeout_to=timeout_to or "",
            within=table.text("within") or before.within,
        )

    def _limit(self, table: Table, key: str, state: str) -> tuple[timedelta | None, str | None]:
        """A time limit and where it leads: both, or neither."""
        timeout, to = self._duration(table, key), table.text(f"{key}_to", required=key in table)
        if to is not None and key not in table:
            table.problem(f"{key}_to", "this leads somewhere, but not when", f'write {key} = "5m" beside it')
        elif timeout is not None and timeout < LIMIT_MIN:
            table.problem(key, "is shorter than a second", "limits are for states that last too long")
        elif to == state:
            table.problem(f"{key}_to", f"{state} would lead to itself", "name another state")
        elif to is not None:
            self._leads_to.append((table.path, to))
            return timeout, to
        return None, None

    def _modes(self) -> Iterator[Mode]:
        seen: dict[int | str, str] = {}
        for place, item in enumerate(self._top.items("modes", most=MODES_MAX)):
            table = Table(item, f"modes[{place}]", _MODE_KEYS, self._problems)
            name, code = table.text("name", required=True), table.whole_number("code", required=True)
            disabled = table.texts("disable") if "disable" in table else []
            for state in disabled:
                self._is_state(table, "disable", state)
            if name is None or code is None:
                continue
            for key, value in (("name", name), ("code", code)):
                if value in seen:
                    table.problem(key, f"the mode {seen[value]} has it already", "give each mode its own")
                seen[value] = name
            yield Mode(name, code, frozenset(disabled))

    def _mode_changes(self, base: Model | None) -> frozenset[str]:
        if "mode_changes" not in self._top:
            return base.mode_changes if base else frozenset()
        names = self._top.texts("mode_changes")
        return frozenset(name for name in names if self._is_state(self._top, "mode_changes", name))

    def _is_state(self, table: Table, key: str, name: str, *, unknown: bool = False) -> bool:
        if name in self._known or (unknown and name == UNKNOWN):
            return True
        if name == UNKNOWN:
            table.problem(key, f"moves from and to {UNKNOWN} are always legal", "leave it out")
        else:
            table.problem(key, f'there is no state "{name}"', did_you_mean(name, self._known))
        return False

    def _initial(self, base: Model | None) -> str | None:
        initial = self._top.text("initial", required=base is None and "extends" not in self._top)
        if initial is None:
            return base.initial if base else None
        return initial if self._is_state(self._top, "initial", initial) else None

    def _transitions(self, base: Model | None) -> tuple[Edge, ...]:
        edges = {(edge.from_state, edge.to_state): edge for edge in base.transitions} if base else {}
        if base is None and "transitions" not in self._top:
            # without a table nothing is illegal: every state may follow every other
            return every_edge(self._known)
        for place, item in enumerate(self._top.items("transitions", most=TRANSITIONS_MAX)):
            table = Table(item, f"transitions[{place}]", _TRANSITION_KEYS, self._problems)
            trigger = table.text("trigger") or ""
            sources, targets = self._ends(table, "from"), self._ends(table, "to")
            if len(sources) == len(targets) == 1 and sources == targets:
                table.problem("to", f'"{targets[0]}" is where the transition starts', "leave it out")
            for source in sources:
                for target in targets:
                    if source != target:
                        edges.setdefault((source, target), Edge(source, target, trigger))
        return tuple(edges.values())

    def _ends(self, table: Table, key: str) -> list[str]:
        names = table.texts(key)
        if names == [_ANY]:
            return list(self._known)
        return [name for name in names if self._is_state(table, key, name)]

    def _rules(self) -> Iterator[Rule]:
        for place, item in enumerate(self._top.items("rules", most=RULES_MAX)):
            table = Table(item, f"rules[{place}]", _RULE_KEYS, self._problems)
            state = table.text("state", required=True)
            known = state is not None and self._is_state(table, "state", state, unknown=True)
            for_, text = self._duration(table, "for"), table.text("when", required=True)
            if text is None:
                continue
            try:
                guard = parse_guard(text)
            except GuardError as error:
                table.problem("when", f"column {error.column}: {error.reason}", error.hint)
                continue
            if known:
                yield Rule(cast(str, state), guard, for_, text)

    def _duration(self, table: Table, key: str) -> timedelta | None:
        text = table.text(key)
        if text is None:
            return None
        try:
            return parse_guard_duration(text)
        except ValueError as error:
            table.problem(key, str(error))
            return None

    def _disabled(self, base: Model | None) -> frozenset[str]:
        names = self._top.texts("disable") if "disable" in self._top else []
        permanent = base.permanent if base else frozenset()
        for name in names:
            if self._is_state(self._top, "disable", name) and name in permanent:
                self._top.problem("disable", f"{name} can never be disabled", "leave it out")
        return frozenset(names) | (base.disabled if base else frozenset())

    def _codes(self, base: Model | None) -> dict[int | str, str]:
        if "codes" not in self._top:
            return self._own_codes(base)
        given = self._top.raw("codes")
        if not isinstance(given, Mapping):
            self._top.problem(
                "codes", "a table is needed here", "write codes = { Running = 1, Stopped = [0, 2] }"
            )
            return {}
        codes: dict[int | str, str] = {}
        table = Table(given, "codes", [*self._known, UNKNOWN], self._problems)
        for name in given:
            values = given[name] if isinstance(given[name], list) else [given[name]]
            for code in values:
                if type(code) is not int and type(code) is not str:
                    table.problem(name, "a whole number, a word, or a list of them is needed here")
                else:
                    self._claim(codes, code, name, "codes." + name)
        return codes

    def _own_codes(self, base: Model | None) -> dict[int | str, str]:
        """The states' own codes, and those of the extended model that none of them has taken."""
        codes: dict[int | str, str] = {}
        if base is None:
            for name, state in self._known.items():
                if state.code is not None:
                    self._claim(codes, state.code, name, "states")
            return codes
        renumbered = {s.name for s in self._known.values() if s.code != _code_in(base, s.name)}
        codes = {code: name for code, name in base.codes.items() if name not in renumbered}
        for name in renumbered:
            code = self._known[name].code
            if code is not None:
                self._claim(codes, code, name, "states")
        return codes

    def _claim(self, codes: dict[int | str, str], code: int | str, name: str, path: str) -> None:
        holder = codes.setdefault(code, name)
        if holder != name:
            reason = f"{holder} and {name} share code {code}"
            self._problems.append(Problem(path, reason, "give each code to one state"))


def _code_in(base: Model, name: str) -> int | None:
    state = base.by_name.get(name)
    return state.code if state else None
