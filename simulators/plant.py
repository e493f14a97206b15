"""The plant: six machines on one virtual clock, moved from event to event.

Pure: time is handed in, nothing is awaited, and the same seed, profile and speed give the same changes in the
same order. It knows nothing of servers, ledgers or wall clocks. Between two events nothing happens, so
whoever drives it may sleep until `next_s`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from simulators.compressor import Compressor
from simulators.machine import Machine, Pace, Value
from simulators.oven import Oven
from simulators.packml import CODES
from simulators.packml_machine import PackmlMachine
from simulators.palletiser import Palletiser

LINE: Final = ("filler-1", "capper-1", "labeller-1", "palletiser-1")
EQUIPMENT: Final = (*LINE, "oven-1", "compressor-1")
STATES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(LINE, tuple(CODES)),
    "oven-1": ("Off", "Heating", "Baking"),
    "compressor-1": ("Stopped", "Unloaded", "Loaded"),
}
"""States in which each machine can be started by a scenario."""

LINE_TAGS: Final = "line"
"""The owner under which the line-level values are published; not equipment, it has no state."""

_SPEEDS_PER_MIN: Final = {"filler-1": 300.0, "capper-1": 312.0, "labeller-1": 306.0, "palletiser-1": 318.0}
_RESUME_AT, _MAKE_ROOM_AT = 0.3, 0.7


@dataclass(frozen=True, slots=True)
class Change:
    """One true state change. `from_state` is None for the state in which a machine begins."""

    equipment: str
    from_state: str | None
    to_state: str
    code: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """What became true at one instant: state changes, then every new tag value as (owner, tag, value)."""

    at_s: float
    changes: tuple[Change, ...]
    values: tuple[tuple[str, str, Value], ...]


class Plant:
    """The machines, the buffers between those of the line, and what was last published of each."""

    def __init__(self, seed: int, pace: Pace, start: Mapping[str, str]) -> None:
        self._pace = pace
        self._line: list[PackmlMachine] = []
        for name in LINE:
            kind = Palletiser if name == "palletiser-1" else PackmlMachine
            first = start.get(name, "Stopped")
            self._line.append(kind(name, seed, pace, _SPEEDS_PER_MIN[name], first))
        self._machines: dict[str, Machine] = {machine.name: machine for machine in self._line}
        self._machines["oven-1"] = Oven("oven-1", seed, pace, start.get("oven-1", "Off"))
        self._machines["compressor-1"] = Compressor(
            "compressor-1", seed, pace, start.get("compressor-1", "Stopped")
        )
        self._capacity = pace.profile.buffer_bottles
        self._buffers = [self._capacity / 2] * (len(LINE) - 1)
        self._tick_no = 0
        self._orders_done = 0
        self._told: dict[tuple[str, str], Value] = {}

    @property
    def next_s(self) -> float:
        """Plant time of the next event; there is always one, as values go on changing."""
        return min(self._next_tick_s, *(machine.wake_s for machine in self._machines.values()))

    @property
    def resting(self) -> bool:
        """Whether every machine has come to rest."""
        return all(machine.resting for machine in self._machines.values())

    def states(self) -> dict[str, str]:
        """The present state of each machine."""
        return {name: machine.state for name, machine in self._machines.items()}

    def begin(self) -> Moment:
        """The initial states and all values."""
        changes = tuple(
            Change(name, None, machine.state, machine.code, 0.0) for name, machine in self._machines.items()
        )
        return Moment(0.0, changes, self._news(EQUIPMENT))

    def step(self) -> Moment:
        """Play everything that is due at `next_s`, and say what became true then."""
        now_s = self.next_s
        changes: list[Change] = []
        touched: list[str] = []
        for name, machine in self._machines.items():
            if machine.wake_s <= now_s:
                before = machine.state
                machine.wake(now_s)
                touched.append(name)
                self._note(machine, before, now_s, changes)
        if self._next_tick_s <= now_s:
            self._tick(now_s, changes)
            touched = list(EQUIPMENT)
        return Moment(now_s, tuple(changes), self._news(touched))

    def command(self, now_s: float, equipment: str, word: str) -> tuple[str | None, Moment]:
        """Hand an operator's command to a machine. Returns the reason of a refusal (else None) and what
        changed.

        `now_s` must not be later than `next_s`: play what is due first.
        """
        if equipment not in self._machines:
            return f'there is no equipment "{equipment}"; there are {", ".join(EQUIPMENT)}', Moment(
                now_s, (), ()
            )
        machine = self._machines[equipment]
        before = machine.state
        refusal = machine.command(now_s, word)
        changes: list[Change] = []
        self._note(machine, before, now_s, changes)
        return refusal, Moment(now_s, tuple(changes), self._news((equipment,)))

    def adjust(self, now_s: float, equipment: str, speed_per_min: float) -> Moment:
        """Give a machine of the line its speed. Returns what changed."""
        for machine in self._line:
            if machine.name == equipment:
                machine.set_speed_per_min = speed_per_min
        return Moment(now_s, (), self._news((equipment,)))

    def set_random(self, now_s: float, on: bool, equipment: str | None = None) -> str | None:
        """Let one machine (or all) decide for itself, or stop doing so. Returns the reason of a refusal."""
        if equipment is not None and equipment not in self._machines:
            return f'there is no equipment "{equipment}"; there are {", ".join(EQUIPMENT)}'
        for name, machine in self._machines.items():
            if equipment in (None, name):
                machine.set_random(now_s, on)
        return None

    def rest(self, now_s: float) -> None:
        """Send every machine to rest."""
        for machine in self._machines.values():
            machine.rest(now_s)

    @property
    def _next_tick_s(self) -> float:
        # Counted, not accumulated, so that ticks do not drift.
        return (self._tick_no + 1) * self._pace.tick_s

    def _tick(self, now_s: float, changes: list[Change]) -> None:
        dt_s = self._pace.tick_s
        self._tick_no += 1
        woken = {change.equipment for change in changes}
        for machine in self._machines.values():
            before = machine.state
            machine.tick(now_s, dt_s)
            self._note(machine, before, now_s, changes)
        self._flow(dt_s)
        if self._pace.profile.line:
            for place, machine in enumerate(self._line):
                if machine.name not in woken:
                    before = machine.state
                    self._feel(place, machine, now_s)
                    self._note(machine, before, now_s, changes)

    def _flow(self, dt_s: float) -> None:
        """Move bottles down the line; with `line` on, a machine takes what is there and has room."""
        limited = self._pace.profile.line
        for place, machine in enumerate(self._line):
            bottles = machine.wanted_bottles(dt_s)
            if limited and place > 0:
                bottles = min(bottles, self._buffers[place - 1])
            if limited and place < len(self._buffers):
                bottles = min(bottles, self._capacity - self._buffers[place])
            machine.process(bottles)
            if limited and place > 0:
                self._buffers[place - 1] -= bottles
            if limited and place < len(self._buffers):
                self._buffers[place] += bottles

    def _feel(self, place: int, machine: PackmlMachine, now_s: float) -> None:
        before = self._buffers[place - 1] / self._capacity if place > 0 else 1.0
        behind = self._buffers[place] / self._capacity if place < len(self._buffers) else 0.0
        machine.feel_line(
            now_s,
            starved=before <= 0.01,
            blocked=behind >= 0.99,
            free=before >= _RESUME_AT and behind <= _MAKE_ROOM_AT,
        )

    def _note(self, machine: Machine, before: str, now_s: float, changes: list[Change]) -> None:
        if machine.state == before:
            return
        changes.append(Change(machine.name, before, machine.state, machine.code, now_s))
        if machine.name == "palletiser-1" and machine.state == "Complete":
            self._orders_done += 1

    def _news(self, owners: Iterable[str]) -> tuple[tuple[str, str, Value], ...]:
        """What is new since it was last told, of these owners and the line."""
        news: list[tuple[str, str, Value]] = []
        for owner in (*owners, LINE_TAGS):
            tags = self._line_tags() if owner == LINE_TAGS else self._machines[owner].tags()
            for tag, value in tags.items():
                key = (owner, tag)
                if self._told.get(key) != value:
                    self._told[key] = value
                    news.append((owner, tag, value))
        return tuple(news)

    def _line_tags(self) -> Mapping[str, Value]:
        last = self._line[-1]
        return {
            "Running": all(machine.state == "Execute" for machine in self._line),
            "Speed": round(last.speed_per_min, 1),
            "GoodCount": max(0, int(last.processed) - sum(machine.defective for machine in self._line)),
            "Buffer1": round(self._buffers[0], 1),
            "Buffer2": round(self._buffers[1], 1),
            "Buffer3": round(self._buffers[2], 1),
            "Order": f"WO-{1001 + self._orders_done}",
            "Heartbeat": int(self._tick_no * self._pace.tick_s + 1e-9),
        }
