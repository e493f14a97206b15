"""A model told to people and programs: plain data for JSON, a Mermaid diagram, rows for a table.

All three are drawn from the model's own table, so they cannot disagree with what the engine does.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from statemodel.durations import format_duration
from statemodel.model import Model
from statemodel.types import UNKNOWN

#: Header of `table`.
COLUMNS = ("state", "code", "category", "colour", "kind", "leads to")


def describe(model: Model) -> dict[str, Any]:
    """The model as plain data ready for JSON. Transitions are those in force."""
    codes = _codes_of(model)
    return {
        "name": model.name,
        "title": model.title,
        "initial": model.initial,
        "on_illegal": model.on_illegal or ("reject" if model.rules else "flag"),
        "accept_uncertain": model.accept_uncertain,
        "states": [
            {
                "name": state.name,
                "code": state.code,
                "codes": codes.get(state.name, []),
                "category": state.category,
                "colour": state.colour,
                "acting": state.acting,
                "transient": state.transient,
                "disabled": state.name in model.disabled,
                "signal": state.signal,
                "timeout": _duration(state.timeout),
                "timeout_to": state.timeout_to or None,
                "within": state.within or None,
            }
            for state in model.states
        ],
        "modes": [
            {"name": mode.name, "code": mode.code, "disable": sorted(mode.disabled)} for mode in model.modes
        ],
        "mode_changes": [state.name for state in model.states if state.name in model.mode_changes],
        "unknown_timeout": _duration(model.unknown_timeout),
        "unknown_timeout_to": model.unknown_timeout_to or None,
        "transitions": [
            {"from": edge.from_state, "to": edge.to_state, "trigger": edge.trigger or None}
            for edge in model.edges
        ],
        "rules": [
            {
                "state": rule.state,
                "when": rule.text,
                "for": _duration(rule.for_),
            }
            for rule in model.rules
        ],
        "inputs": list(model.inputs),
    }


def mermaid(model: Model) -> str:
    """The model as a Mermaid state diagram. `Unknown` is left out: every state leads there and back."""
    ids = {state.name: _identifier(state.name, place) for place, state in enumerate(model.states)}
    lines = ["stateDiagram-v2"]
    lines += [
        f"    state {_quoted(state.name)} as {ids[state.name]}"
        for state in model.states
        if ids[state.name] != state.name and state.name not in model.disabled
    ]
    lines.append(f"    [*] --> {ids[model.initial]}")
    for edge in model.edges:
        label = f" : {_label(edge.trigger)}" if edge.trigger else ""
        lines.append(f"    {ids[edge.from_state]} --> {ids[edge.to_state]}{label}")
    used = sorted({state.colour for state in model.states})
    lines += [f"    classDef {colour} {_PAINT[colour]}" for colour in used]
    lines += [
        f"    class {ids[state.name]} {state.colour}"
        for state in model.states
        if state.name not in model.disabled
    ]
    return "\n".join(lines) + "\n"


def table(model: Model) -> list[tuple[str, ...]]:
    """One row a state under `COLUMNS`."""
    codes = _codes_of(model)
    return [
        (
            state.name,
            ", ".join(map(str, codes.get(state.name, []))),
            state.category or "",
            state.colour,
            _kind(model, state.name),
            ", ".join(model.successors[state.name]),
        )
        for state in model.states
    ]


def _duration(duration: timedelta | None) -> str | None:
    return None if duration is None else format_duration(duration)


_PAINT = {
    "green": "fill:#2e7d32,color:#fff",
    "amber": "fill:#ffb300,color:#000",
    "red": "fill:#c62828,color:#fff",
    "blue": "fill:#1565c0,color:#fff",
    "white": "fill:#fff,color:#000,stroke:#555",
    "grey": "fill:#9e9e9e,color:#000",
}


def _codes_of(model: Model) -> dict[str, list[int | str]]:
    codes: dict[str, list[int | str]] = {}
    for code, name in model.codes.items():
        codes.setdefault(name, []).append(code)
    codes.pop(UNKNOWN, None)
    return codes


def _kind(model: Model, name: str) -> str:
    if name in model.disabled:
        return "disabled"
    return "acting" if model.by_name[name].acting else "wait"


def _identifier(name: str, place: int) -> str:
    """A state's name where Mermaid can take it as it is, else a made-up one."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and name != "end" else f"s{place}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', "#quot;") + '"'


def _label(trigger: str) -> str:
    return trigger.replace(":", "#colon;").replace(";", "#59;")
