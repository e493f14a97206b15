"""A PackML machine that runs itself: which command comes next and how long each state lasts, drawn from a
seed.

The table of moves is in `packml`; this file only chooses among them, so it cannot make an illegal one. It
knows the line it stands in only by what the plant tells it (`starved`, `blocked`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from simulators.machine import NEVER, Pace, Value
from simulators.packml import CODES, COMPLETED, MOVES, heading_for

_Choices = tuple[tuple[str, float], ...]

_DECISIONS: Final[dict[str, _Choices]] = {
    "Stopped": (("reset", 1.0),),
    "Idle": (("start", 0.92), ("stop", 0.05), ("abort", 0.03)),
    "Execute": (("hold", 0.34), ("complete", 0.30), ("stop", 0.24), ("abort", 0.12)),
    "Held": (("unhold", 0.84), ("complete", 0.05), ("stop", 0.07), ("abort", 0.04)),
    "Suspended": (("unsuspend", 0.80), ("hold", 0.08), ("complete", 0.05), ("stop", 0.05), ("abort", 0.02)),
    "Complete": (("reset", 0.94), ("stop", 0.06)),
    "Aborted": (("clear", 1.0),),
}
"""What a machine left to itself does next, with weights. In an acting state it mostly waits for its end."""

_SUSPENDS: Final = ("suspend", 0.45)
"""Added in Execute when no line decides about suspending."""

_ABORT_IN_ACTING: Final = 0.02
_FAST: Final = frozenset({"Execute", "Starting", "Unholding", "Unsuspending", "Completing"})
_WORDS: Final = frozenset(word for _, word in MOVES)
_STOP_REASONS: Final = (11, 12, 17, 23, 31, 42)
_PRODUCTS: Final = ("Cola 0.5 l", "Water 0.5 l", "Lemonade 0.33 l")


class PackmlMachine:
    """One machine of the bottling line."""

    def __init__(
        self, name: str, seed: int, pace: Pace, speed_per_min: float, start: str = "Stopped"
    ) -> None:
        self.name = name
        self.state = start
        self.wake_s = NEVER
        self.starved = False
        self.blocked = False
        self.processed = 0.0
        self.defective = 0
        self.set_speed_per_min = speed_per_min
        self.speed_per_min = speed_per_min if start == "Execute" else 0.0
        self._pace = pace
        self._draw = random.Random(f"{seed}/{name}")  # noqa: S311 - a plant, not a secret
        self._random = pace.profile.random
        self._entered_s = 0.0
        self._next = ""
        self._ordered = False
        self._by_line = False
        self._rests = False
        self._stop_reason = 0
        self._product = 0
        self._defects_due = 60.0 + 60.0 * self._draw.random()
        self._plan(0.0)

    @property
    def code(self) -> int:
        return CODES[self.state]

    @property
    def resting(self) -> bool:
        return self.state in ("Stopped", "Aborted") and self.wake_s == NEVER

    def wake(self, now_s: float) -> None:
        word, self._next, self.wake_s = self._next, "", NEVER
        target = COMPLETED[self.state] if word == "done" else MOVES[self.state, word]
        self._enter(target, now_s)

    def tick(self, now_s: float, dt_s: float) -> None:
        goal = (
            self.set_speed_per_min * (1.0 + self._draw.uniform(-0.01, 0.01)) if self.state in _FAST else 0.0
        )
        share = min(1.0, 0.45 * dt_s / 0.2)
        self.speed_per_min += (goal - self.speed_per_min) * share
        if goal == 0.0 and self.speed_per_min < 1.0:
            self.speed_per_min = 0.0

    def wanted_bottles(self, dt_s: float) -> float:
        """How many bottles the machine would take in `dt_s`, if there were enough of them."""
        return self.speed_per_min / 60.0 * dt_s

    def process(self, bottles: float) -> None:
        """Count `bottles` through the machine; now and then one is defective."""
        self.processed += bottles
        while self.processed >= self._defects_due:
            self.defective += 1
            self._defects_due += 40.0 + 80.0 * self._draw.random()

    def feel_line(self, now_s: float, *, starved: bool, blocked: bool, free: bool) -> None:
        """Suspend when the line is empty before or full behind this machine; go on when it is `free`."""
        if self.state == "Suspended" and self._by_line:
            if free and self._random and not self._ordered and now_s - self._entered_s >= self._pace.floor_s:
                self._enter(MOVES[self.state, "unsuspend"], now_s)
            return
        if self.state != "Execute" or not self._random or self._ordered:
            return
        if (starved or blocked) and now_s - self._entered_s >= self._pace.floor_s:
            self.starved, self.blocked, self._by_line = starved, blocked, True
            self._enter(MOVES[self.state, "suspend"], now_s)

    def command(self, now_s: float, word: str) -> str | None:
        word = "abort" if word == "e-stop" else word
        if word not in _WORDS:
            return f'{self.name} knows no command "{word}"; it knows {", ".join(sorted(_WORDS))} and e-stop'
        if (self.state, word) not in MOVES:
            return f"{self.name}: {word} is not allowed in {self.state}"
        self._next, self._ordered = word, True
        self.wake_s = max(now_s, self._entered_s + self._pace.floor_s)
        if self.wake_s <= now_s:
            self.wake(now_s)
        return None

    def set_random(self, now_s: float, on: bool) -> None:
        if on == self._random:
            return
        self._random = on
        if not self._ordered and self.state not in COMPLETED:
            self._plan(now_s)

    def rest(self, now_s: float) -> None:
        self._random, self._rests = False, True
        self._plan(now_s)

    def tags(self) -> Mapping[str, Value]:
        return {
            "StateCurrent": CODES[self.state],
            "StateRequested": CODES[heading_for(self.state)],
            "StateChangeInProcess": self.state in COMPLETED,
            "UnitModeCurrent": 1,
            "MachSpeed": self.set_speed_per_min,
            "CurMachSpeed": round(self.speed_per_min, 1),
            "ProdProcessedCount": int(self.processed),
            "ProdDefectiveCount": self.defective,
            "Blocked": self.blocked,
            "Starved": self.starved,
            "StopReason": self._stop_reason,
            "Product": _PRODUCTS[self._product],
        }

    def _enter(self, state: str, now_s: float) -> None:
        if (self.state, state) == ("Complete", "Resetting"):
            self._product = (self._product + 1) % len(_PRODUCTS)
        self.state, self._entered_s = state, now_s
        self._next, self._ordered, self.wake_s = "", False, NEVER
        if state == "Suspending" and not self._by_line:
            self.starved = self._draw.random() < 0.6
            self.blocked = not self.starved
        elif state not in ("Suspending", "Suspended"):
            self.starved = self.blocked = self._by_line = False
        if state in ("Stopping", "Aborting"):
            self._stop_reason = self._draw.choice(_STOP_REASONS)
        elif state in ("Resetting", "Execute"):
            self._stop_reason = 0
        self._plan(now_s)

    def _plan(self, now_s: float) -> None:
        """Choose what ends this state, and when."""
        profile = self._pace.profile
        self._next, self._ordered, self.wake_s = "", False, NEVER
        if self._rests:
            self._plan_rest(now_s)
        elif self.state in COMPLETED:
            aborts = self._random and self.state != "Aborting" and self._draw.random() < _ABORT_IN_ACTING
            self._wake_in("abort" if aborts else "done", profile.acting, now_s)
        elif self._random and not (self.state == "Suspended" and self._by_line):
            choices = _DECISIONS[self.state]
            if self.state == "Execute" and not profile.line:
                choices = (*choices, _SUSPENDS)
            words, weights = zip(*choices, strict=True)
            word = self._draw.choices(words, weights)[0]
            self._wake_in(word, profile.executing if self.state == "Execute" else profile.waiting, now_s)

    def _plan_rest(self, now_s: float) -> None:
        earliest = max(now_s, self._entered_s + self._pace.floor_s)
        if (self.state, "stop") in MOVES:
            self._next, self.wake_s = "stop", earliest
        elif self.state in COMPLETED:
            self._next, self.wake_s = "done", earliest

    def _wake_in(self, word: str, span: tuple[float, float], now_s: float) -> None:
        self._next = word
        self.wake_s = now_s + max(self._pace.floor_s, self._draw.uniform(*span))
