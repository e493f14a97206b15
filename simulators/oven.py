"""The oven: its state is not told, it follows from temperature, door and switch, as on a real machine.

    Off       when not run
    DoorOpen  else, when door
    Baking    else, when temp >= 180 (the published value, to 0.1 degrees Celsius)
    Heating   else

The physics is arranged so that these rules never chatter: the temperature crosses 180 in one direction at a
time, an open door lasts longer than any sensible `for`, the temperature stands still while such a rule would
still be waiting, and after a closed door or a restart it is far enough from 180 for the next state to last.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from simulators.machine import NEVER, Pace, Value

BAKES_AT_C: Final = 180.0
"""Published temperature from which the oven bakes."""

_CODES: Final[dict[str, int]] = {"Off": 0, "Heating": 1, "Baking": 2, "DoorOpen": 3}
_AMBIENT_C: Final = 22.0
_BURNER_ON_C, _BURNER_OFF_C = 205.0, 215.0
_WARM_CLOSE_C: Final = 190.0
_SET_POINT_C: Final = 210.0
_WORDS: Final = ("start", "stop", "open-door", "close-door", "e-stop")
_ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "Off": ("start",),
    "Heating": ("stop", "open-door", "e-stop"),
    "Baking": ("stop", "open-door", "e-stop"),
    "DoorOpen": ("stop", "close-door", "e-stop"),
}


class Oven:
    """One batch oven with a loading door. The door is interlocked: it opens only while the oven runs."""

    def __init__(self, name: str, seed: int, pace: Pace, start: str = "Off") -> None:
        self.name = name
        self.wake_s = NEVER
        self._pace = pace
        self._draw = random.Random(f"{seed}/{name}")  # noqa: S311 - a plant, not a secret
        self._random = pace.profile.random
        self._rests = False
        self._ordered = False
        self._next = ""
        self._entered_s = 0.0
        self._run = start != "Off"
        self._door = False
        self._burner = False
        self._temp_c = {"Off": _AMBIENT_C, "Heating": 60.0, "Baking": _SET_POINT_C}[start]
        self._energy_wh = 0.0
        self._batches = 0
        self._opened_s = 0.0
        self._closes_s = 0.0
        self._drop_from: tuple[float, float] = (0.0, 0.0)
        self._drop_to: tuple[float, float] = (0.0, 0.0)
        # A state that physics will end must last: from `_low_c` the oven needs 1.5 shortest stays and two
        # ticks to 180.
        margin_s = 1.5 * pace.floor_s + 2.0 * pace.tick_s
        quickest = (_BURNER_OFF_C - _AMBIENT_C) / pace.profile.oven_heat_s
        self._heat_c_per_s = min(quickest, (BAKES_AT_C - _AMBIENT_C - 30.0) / margin_s)
        self._low_c = BAKES_AT_C - self._heat_c_per_s * margin_s
        self.state = self._derived()
        self._plan(0.0)

    @property
    def code(self) -> int:
        return _CODES[self.state]

    @property
    def resting(self) -> bool:
        return self.state == "Off" and self.wake_s == NEVER

    def wake(self, now_s: float) -> None:
        if self._next == "start" and self._temp_c > self._low_c:
            # Too warm: it would bake at once, or nearly. The start waits until the oven has cooled.
            self.wake_s = now_s + (self._temp_c - self._low_c) / self._heat_c_per_s + self._pace.tick_s
            return
        word, self._next, self.wake_s = self._next, "", NEVER
        if word == "open-door":
            self._door, self._burner = True, False
            self._open(now_s)
        elif word == "close-door":
            self._door = False
        else:
            self._run, self._door, self._burner = word == "start", False, False
        self._settle(now_s)

    def tick(self, now_s: float, dt_s: float) -> None:
        if self._door:
            self._temp_c = min(self._temp_c, self._dropped_c(now_s))
        elif not self._run:
            self._temp_c = max(_AMBIENT_C, self._temp_c - self._heat_c_per_s * dt_s)
        else:
            if self._temp_c <= _BURNER_ON_C:
                self._burner = True
            elif self._temp_c >= _BURNER_OFF_C:
                self._burner = False
            change = self._heat_c_per_s if self._burner else -0.15 * self._heat_c_per_s
            self._temp_c = min(_BURNER_OFF_C, self._temp_c + change * dt_s)
        power_w = 40_000.0 if self._burner else (500.0 if self._run else 0.0)
        self._energy_wh += power_w * dt_s / 3600.0
        self._settle(now_s)

    def command(self, now_s: float, word: str) -> str | None:
        if word not in _WORDS:
            return f'{self.name} knows no command "{word}"; it knows {", ".join(_WORDS)}'
        if word not in _ALLOWED[self.state]:
            return f"{self.name}: {word} is not allowed in {self.state}"
        self._next, self._ordered = word, True
        self.wake_s = max(now_s, self._earliest_s(word))
        if self.wake_s <= now_s:
            self.wake(now_s)
        return None

    def set_random(self, now_s: float, on: bool) -> None:
        if on != self._random:
            self._random = on
            if not self._ordered and not self._door:
                self._plan(now_s)

    def rest(self, now_s: float) -> None:
        self._random, self._rests = False, True
        self._plan(now_s)

    def tags(self) -> Mapping[str, Value]:
        return {
            "run": self._run,
            "door": self._door,
            "burner": self._burner,
            "temp": round(self._temp_c, 1),
            "set_point": _SET_POINT_C,
            "energy_wh": int(self._energy_wh),
            "batches": self._batches,
        }

    def _derived(self) -> str:
        if not self._run:
            return "Off"
        if self._door:
            return "DoorOpen"
        return "Baking" if round(self._temp_c, 1) >= BAKES_AT_C else "Heating"

    def _settle(self, now_s: float) -> None:
        state = self._derived()
        if state == self.state:
            return
        if state == "Baking":
            self._batches += 1
        self.state, self._entered_s = state, now_s
        self._plan(now_s)

    def _earliest_s(self, word: str) -> float:
        if self._door:
            steady = self._drop_to[0] + self._pace.tick_s if word == "close-door" else 0.0
            return max(self._opened_s + self._pace.door_s, steady)
        return self._entered_s + self._pace.floor_s

    def _plan(self, now_s: float) -> None:
        """Choose what ends this state, and when; Heating mostly ends by itself."""
        self._next, self._ordered, self.wake_s = "", False, NEVER
        profile = self._pace.profile
        if self._door:
            self._next, self.wake_s = "close-door", self._closes_s
        if self._rests:
            if self._run:
                self._next, self.wake_s = "stop", max(now_s, self._earliest_s("stop"))
        elif not self._random:
            return
        elif self.state == "Off":
            self._wake_in("start", profile.oven_off, now_s)
        elif self.state == "Baking":
            self._wake_in("open-door" if self._draw.random() < 0.8 else "stop", profile.oven_bake, now_s)
        elif self.state == "Heating" and self._draw.random() < 0.15:
            to_baking_s = (BAKES_AT_C - self._temp_c) / self._heat_c_per_s
            self._wake_in("open-door", (0.4 * to_baking_s, 0.7 * to_baking_s), now_s)

    def _open(self, now_s: float) -> None:
        """Choose how long the door stays open, and how far the oven cools: clearly warm or clearly cold."""
        self._opened_s = now_s
        open_s = max(self._pace.door_s, self._draw.uniform(*self._pace.profile.oven_door))
        short = self._temp_c >= 195.0 and self._draw.random() < 0.5
        if short:
            target_c = max(_WARM_CLOSE_C, self._temp_c - 15.0)
        else:
            target_c = max(_AMBIENT_C, min(self._low_c, self._temp_c - 10.0))
        end_s = self._opened_s + max(1.2 * self._pace.steady_s, 0.8 * open_s)
        self._drop_from = (self._opened_s + self._pace.steady_s, self._temp_c)
        self._drop_to = (end_s, target_c)
        self._closes_s = now_s + open_s

    def _dropped_c(self, now_s: float) -> float:
        (from_s, from_c), (to_s, to_c) = self._drop_from, self._drop_to
        share = min(1.0, max(0.0, (now_s - from_s) / (to_s - from_s)))
        return from_c + share * (to_c - from_c)

    def _wake_in(self, word: str, span: tuple[float, float], now_s: float) -> None:
        at_s = now_s + max(self._pace.floor_s, self._draw.uniform(*span))
        if word == "open-door" and at_s + 1.3 * self._pace.door_s > self._pace.ends_s:
            return  # the plant would have to wait for this door before it can rest
        self._next, self.wake_s = word, at_s
