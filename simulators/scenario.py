"""Scenarios: what a plant plays, read strictly from TOML.

A scenario says how lively the machines are, in which states they start, and what happens at which plant time.
Every problem of a file is told at once, with its place, the reason and a hint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final

from simulators.machine import NEVER, Profile
from simulators.orders import Go, Order, OrderError, Quit, read_order
from simulators.plant import STATES

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_TOP: Final = ("title", "duration", "behaviour", "start", "steps")
_BEHAVIOUR: Final[dict[str, tuple[str, str]]] = {
    "random": ("random", "switch"),
    "line": ("line", "switch"),
    "min_dwell": ("min_dwell_s", "duration"),
    "acting": ("acting", "span"),
    "waiting": ("waiting", "span"),
    "executing": ("executing", "span"),
    "oven_heat": ("oven_heat_s", "duration"),
    "oven_off": ("oven_off", "span"),
    "oven_bake": ("oven_bake", "span"),
    "oven_door": ("oven_door", "span"),
    "compressor_stopped": ("compressor_stopped", "span"),
    "compressor_unloaded": ("compressor_unloaded", "span"),
    "compressor_loaded": ("compressor_loaded", "span"),
    "buffer_bottles": ("buffer_bottles", "number"),
}
"""Key in the file to the field of `Profile` and what it holds."""

DWELL_S_MIN: Final = 0.05


class ScenarioError(ValueError):
    """A scenario cannot be played; every problem is listed as `place: reason`."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Step:
    """What is ordered at one plant time."""

    at_s: float
    order: Order


@dataclass(frozen=True, slots=True)
class Scenario:
    """A play for the plant. `ends_s` is when the machines are sent to rest; `NEVER` when it goes on."""

    title: str
    profile: Profile
    start: Mapping[str, str]
    steps: tuple[Step, ...]
    ends_s: float = NEVER


def built_in() -> tuple[str, ...]:
    """The names of the scenarios that come with the package."""
    folder = resources.files("simulators") / "scenarios"
    return tuple(
        sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
    )


def load(name: str) -> Scenario:
    """Load a built-in scenario by name, or a file by path.

    Raises:
        ScenarioError: it is not there, or wrong.
    """
    if name in built_in():
        text = (resources.files("simulators") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8")
        return parse(text, name)
    if not name.endswith(".toml"):
        hint = f"there are {', '.join(built_in())}, or give the path of a .toml file"
        raise ScenarioError(name, [f"there is no such scenario; {hint}"])
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(name, [f"cannot be read: {error}"]) from error
    return parse(text, name)


def parse(text: str, source: str) -> Scenario:
    """Read a scenario's text.

    Raises:
        ScenarioError: with every problem.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(source, [f"not TOML: {error}"]) from error
    reader = _Reader()
    scenario = reader.scenario(raw)
    if reader.problems:
        raise ScenarioError(source, reader.problems)
    return scenario


class _Reader:
    """Reads on after a problem, so that all are found in one go."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def scenario(self, raw: dict[str, Any]) -> Scenario:
        self._known("", raw, _TOP)
        title = raw.get("title", "")
        if not isinstance(title, str):
            self._problem("title", "must be text")
        ends_s = self._duration("duration", raw["duration"], above=0.0) if "duration" in raw else NEVER
        return Scenario(
            title=str(title),
            profile=self._profile(self._table("behaviour", raw)),
            start=self._start(self._table("start", raw)),
            steps=self._steps(raw.get("steps", [])),
            ends_s=ends_s,
        )

    def _profile(self, raw: dict[str, Any]) -> Profile:
        self._known("behaviour", raw, tuple(_BEHAVIOUR))
        settings: dict[str, Any] = {}
        for key, (field, kind) in _BEHAVIOUR.items():
            if key not in raw:
                continue
            place, value = f"behaviour.{key}", raw[key]
            if kind == "switch":
                if not isinstance(value, bool):
                    self._problem(place, "must be true or false")
                settings[field] = value
            elif kind == "number":
                if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10_000:
                    self._problem(place, "must be a number from 1 to 10000")
                settings[field] = value
            elif kind == "duration":
                settings[field] = self._duration(place, value, above=0.0)
            else:
                settings[field] = self._span(place, value)
        profile = Profile(**settings)
        if profile.min_dwell_s < DWELL_S_MIN:
            self._problem("behaviour.min_dwell", 'must be at least "50ms"; no poller sees shorter states')
        return profile

    def _start(self, raw: dict[str, Any]) -> dict[str, str]:
        self._known("start", raw, tuple(STATES))
        for name, state in raw.items():
            if name in STATES and state not in STATES[name]:
                self._problem(
                    f"start.{name}", f'cannot start in "{state}"; it can in {", ".join(STATES[name])}'
                )
        return raw

    def _steps(self, raw: object) -> tuple[Step, ...]:
        if not isinstance(raw, list):
            self._problem("steps", "must be a list of tables; write [[steps]] before each")
            return ()
        steps = [self._step(f"steps[{number}]", step) for number, step in enumerate(raw, 1)]
        return tuple(sorted((step for step in steps if step is not None), key=lambda step: step.at_s))

    def _step(self, place: str, raw: object) -> Step | None:
        if not isinstance(raw, dict) or "at" not in raw:
            self._problem(place, 'needs the time it is due; write at = "5s"')
            return None
        at_s = self._duration(f"{place}.at", raw["at"])
        order = {key: value for key, value in raw.items() if key != "at"}
        for key, takes in (("for", "seconds"), ("delay", "delay_s")):
            if takes in order:
                self._problem(f"{place}.{takes}", f'write {key} = "2s" instead')
                order.pop(takes)
            if key in order:
                order[takes] = self._duration(f"{place}.{key}", order.pop(key), above=0.0)
        try:
            read = read_order(order)
        except OrderError as error:
            for problem in error.problems:
                self._problem(place, problem)
            return None
        if isinstance(read, Go | Quit):
            self._problem(place, "a scenario cannot start or quit the simulator; it ends by its duration")
            return None
        return Step(at_s, read)

    def _span(self, place: str, value: object) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            self._problem(place, 'must be the shortest and the longest, such as ["1s", "4s"]')
            return (1.0, 1.0)
        shortest, longest = (self._duration(place, part, above=0.0) for part in value)
        if shortest > longest:
            self._problem(place, "has the longest first")
        return (shortest, longest)

    def _duration(self, place: str, value: object, above: float = -1.0) -> float:
        if not isinstance(value, str) or not _WHOLE.fullmatch(value):
            self._problem(place, f'{value!r} is not a duration; write text such as "250ms", "5s", "1m30s"')
            return 1.0
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
        if seconds <= above:
            self._problem(place, "must be longer than nothing")
        return seconds

    def _table(self, key: str, raw: dict[str, Any]) -> dict[str, Any]:
        value = raw.get(key, {})
        if isinstance(value, dict):
            return value
        self._problem(key, f"must be a table; write [{key}]")
        return {}

    def _known(self, place: str, raw: Mapping[str, object], known: tuple[str, ...]) -> None:
        for key in raw:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
                self._problem(f"{place}.{key}" if place else key, f"unknown key; {hint}")

    def _problem(self, place: str, reason: str) -> None:
        self.problems.append(f"{place}: {reason}")


assert {field for field, _ in _BEHAVIOUR.values()} == {field.name for field in fields(Profile)}
