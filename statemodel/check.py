"""What is wrong with a model that can be built: states nobody reaches, rules that never come to bear.

Errors refuse a model; warnings are for the person who wrote it. It looks at the table alone: whether the
rules' inputs are bound to tags is a question for the configuration.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator

from statemodel.guard import calls
from statemodel.guard_program import decide
from statemodel.model import Model, Rule
from statemodel.problems import Problem
from statemodel.types import UNKNOWN, Conformance


def check(model: Model) -> tuple[Problem, ...]:
    """Every defect of a model, errors first."""
    found = [
        *_initial(model),
        *_unreachable(model),
        *_traps(model),
        *_sources(model),
        *_limits(model),
        *_rules(model),
    ]
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))


def _places(model: Model) -> dict[str, str]:
    return {state.name: f"states[{place}]" for place, state in enumerate(model.states)}


def _initial(model: Model) -> Iterator[Problem]:
    if model.initial in model.disabled:
        yield Problem("initial", f"{model.initial} is disabled", "begin in a state that takes part")


def _unreachable(model: Model) -> Iterator[Problem]:
    """States the whole table does not lead to. What only disabling cuts off is cut off on purpose."""
    reached = {model.initial, *([model.unknown_timeout_to] if model.unknown_timeout is not None else [])}
    queue = deque(reached)
    while queue:
        here = queue.popleft()
        for edge in model.transitions:
            if edge.from_state == here and edge.to_state not in reached:
                reached.add(edge.to_state)
                queue.append(edge.to_state)
    places = _places(model)
    for state in model.states:
        if state.name not in reached:
            reason = f"{state.name} cannot be reached from {model.initial}"
            yield Problem(places[state.name], reason, "add a transition to it, or leave the state out")


def _traps(model: Model) -> Iterator[Problem]:
    places, leaving = _places(model), {edge.from_state for edge in model.transitions}
    # what follows a time limit is judged as if the state before it had not been left
    leaving |= {state.timeout_to for state in model.by_name.values() if state.timeout is not None}
    for state in model.states:
        if len(model.states) > 1 and state.name not in leaving:
            reason = f"no transition leaves {state.name}"
            hint = "add one, unless the equipment ends there"
            yield Problem(places[state.name], reason, hint, "warning")


def _sources(model: Model) -> Iterator[Problem]:
    """States that neither a code nor a rule ever gives."""
    given = set(model.codes.values()) | {rule.state for rule in model.rules}
    given |= {state.timeout_to for state in model.by_name.values() if given and state.timeout is not None}
    if not given:
        # names read as text serve every state, so a model without codes or rules is complete
        return
    places = _places(model)
    for state in model.states:
        if state.name not in given and state.name not in model.disabled:
            reason = f"no code and no rule leads to {state.name}"
            hint = "only a tag that carries state names as text can show it"
            yield Problem(places[state.name], reason, hint, "warning")


def _limits(model: Model) -> Iterator[Problem]:
    """Time limits that lead where the table does not, or round in a circle."""
    places = _places(model) | {UNKNOWN: ""}
    for state in model.by_name.values():
        if state.timeout is None:
            continue
        path = f"{places[state.name]}.timeout_to" if places[state.name] else "unknown_timeout_to"
        if state.timeout_to in model.disabled:
            yield Problem(path, f"{state.timeout_to} is disabled", "name a state that takes part")
        elif model.judge(state.name, state.timeout_to).conformance is Conformance.ILLEGAL:
            reason = f"{state.name} to {state.timeout_to} is not a transition of the model"
            yield Problem(path, reason, "add it to `transitions`")
        seen = [state.name]
        while (ahead := model.by_name[seen[-1]]).timeout is not None and ahead.timeout_to not in seen:
            seen.append(ahead.timeout_to)
        if ahead.timeout is not None and ahead.timeout_to == state.name:
            reason = f"time alone would lead round and round: {', '.join([*seen, state.name])}"
            yield Problem(path, reason, "let one of them stay")


def _rules(model: Model) -> Iterator[Problem]:
    always: int | None = None
    seen: dict[str, int] = {}
    for place, rule in enumerate(model.rules):
        path = f"rules[{place}]"
        if rule.state in model.disabled:
            yield Problem(f"{path}.state", f"{rule.state} is disabled", "drop the rule, or enable the state")
        if always is not None:
            hint = "the first rule that is true wins"
            yield Problem(path, f"never looked at: rules[{always}] is always true", hint, "warning")
            continue
        same = seen.setdefault(_shape(rule), place)
        earlier = model.rules[same]
        if same != place and not (earlier.for_ or rule.for_):
            yield Problem(f"{path}.when", f"never true: rules[{same}] asks the same first", "", "warning")
        elif same != place and earlier.for_ and rule.for_ and earlier.for_ <= rule.for_:
            reason = f"never comes to bear: rules[{same}] asks the same for a shorter time"
            yield Problem(f"{path}.for", reason, "put the longer time first", "warning")
        if rule.guard.names:
            continue
        answer = None if any(calls(rule.guard)) else decide(rule.guard, {})
        if answer is False:
            yield Problem(f"{path}.when", "never true", "", "warning")
        elif answer is None and not any(calls(rule.guard)):
            yield Problem(f"{path}.when", f"can never be decided, so the state is always {UNKNOWN}")
        elif answer is True and not rule.for_:
            always = place


def _shape(rule: Rule) -> str:
    return ast.dump(rule.guard.tree)
