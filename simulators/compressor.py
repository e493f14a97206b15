"""The compressor: Stopped, Unloaded or Loaded, told by two bits, with a pressure and counters that follow."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from simulators.machine import NEVER, Pace, Span, Value

_CODES: Final[dict[str, int]] = {"Stopped": 0, "Unloaded": 1, "Loaded": 2}

_MOVES: Final[dict[tuple[str, str], str]] = {
    ("Stopped", "start"): "Unloaded",
    ("Unloaded", "load"): "Loaded",
    ("Loaded", "unload"): "Unloaded",
    ("Unloaded", "stop"): "Stopped",
    ("Loaded", "stop"): "Stopped",
    ("Unloaded", "e-stop"): "Stopped",
    ("Loaded", "e-stop"): "Stopped",
}

_DECISIONS: Final[dict[str, tuple[tuple[str, float], ...]]] = {
    "Stopped": (("start", 1.0),),
    "Unloaded": (("load", 0.8), ("stop", 0.2)),
    "Loaded": (("unload", 1.0),),
}
"""Left to itself it never stops under load; `stop` and `e-stop` from outside may."""

_POWER_KW: Final[dict[str, float]] = {"Stopped": 0.0, "Unloaded": 9.5, "Loaded": 30.0}
_PRESSURE_BAR_MIN, _PRESSURE_BAR_MAX = 5.8, 7.5
_WORDS: Final = frozenset(word for _, word in _MOVES)


class Compressor:
    """One screw compressor."""

    def __init__(self, name: str, seed: int, pace: Pace, start: str = "Stopped") -> None:
        self.name = name
        self.state = start
        self.wake_s = NEVER
        self._pace = pace
        self._draw = random.Random(f"{seed}/{name}")  # noqa: S311 - a plant, not a secret
        self._random = pace.profile.random
        self._rests = False
        self._entered_s = 0.0
        self._next = ""
        self._ordered = False
        self._pressure_bar = 6.4
        self._run_s = 3600.0 * 1250
        self._starts = 310
        self._loads = 70_000
        self._plan(0.0)

    @property
    def code(self) -> int:
        return _CODES[self.state]

    @property
    def resting(self) -> bool:
        return self.state == "Stopped" and self.wake_s == NEVER

    def wake(self, now_s: float) -> None:
        self._enter(_MOVES[self.state, self._next], now_s)

    def tick(self, now_s: float, dt_s: float) -> None:
        if self.state != "Stopped":
            self._run_s += dt_s
        rate = 0.12 if self.state == "Loaded" else -0.06
        wobble = self._draw.uniform(-0.01, 0.01)
        pressure = self._pressure_bar + rate * dt_s + wobble
        self._pressure_bar = min(_PRESSURE_BAR_MAX, max(_PRESSURE_BAR_MIN, pressure))

    def command(self, now_s: float, word: str) -> str | None:
        if word not in _WORDS:
            return f'{self.name} knows no command "{word}"; it knows {", ".join(sorted(_WORDS))}'
        if (self.state, word) not in _MOVES:
            return f"{self.name}: {word} is not allowed in {self.state}"
        self._next, self._ordered = word, True
        self.wake_s = max(now_s, self._entered_s + self._pace.floor_s)
        if self.wake_s <= now_s:
            self.wake(now_s)
        return None

    def set_random(self, now_s: float, on: bool) -> None:
        if on != self._random:
            self._random = on
            if not self._ordered:
                self._plan(now_s)

    def rest(self, now_s: float) -> None:
        self._random, self._rests = False, True
        self._plan(now_s)

    def tags(self) -> Mapping[str, Value]:
        return {
            "running": self.state != "Stopped",
            "loaded": self.state == "Loaded",
            "pressure": round(self._pressure_bar, 2),
            "run_hours": round(self._run_s / 3600.0, 3),
            "run_seconds": int(self._run_s),
            "starts": self._starts,
            "loads": self._loads,
            "power": _POWER_KW[self.state],
        }

    def _enter(self, state: str, now_s: float) -> None:
        if self.state == "Stopped":
            self._starts += 1
        if state == "Loaded":
            self._loads += 1
        self.state, self._entered_s = state, now_s
        self._plan(now_s)

    def _plan(self, now_s: float) -> None:
        self._next, self._ordered, self.wake_s = "", False, NEVER
        if self._rests:
            if self.state != "Stopped":
                self._next = "unload" if self.state == "Loaded" else "stop"
                self.wake_s = max(now_s, self._entered_s + self._pace.floor_s)
        elif self._random:
            words, weights = zip(*_DECISIONS[self.state], strict=True)
            self._next = self._draw.choices(words, weights)[0]
            self.wake_s = now_s + max(self._pace.floor_s, self._draw.uniform(*self._span()))

    def _span(self) -> Span:
        profile = self._pace.profile
        spans = {
            "Stopped": profile.compressor_stopped,
            "Unloaded": profile.compressor_unloaded,
            "Loaded": profile.compressor_loaded,
        }
        return spans[self.state]
