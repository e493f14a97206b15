"""A scenario played on a plant: still pure, still on the plant clock.

The driver asks when the next thing is due, sleeps until then, calls `step`, and carries out what the beat
says.
"""

from __future__ import annotations

from dataclasses import dataclass

from simulators.machine import NEVER, Pace
from simulators.orders import Adjust, Clear, Command, Fault, Randomness
from simulators.plant import Change, Moment, Plant
from simulators.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Beat:
    """What one instant brings: what became true, then what has to be done at the servers."""

    moment: Moment
    orders: tuple[Fault | Clear, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why machines refused commands of the scenario."""
    done: bool = False
    """Set once: the scenario has ended and every machine is at rest."""


class Play:
    """One performance: scenario, seed and speed factor decide all of it but what others order meanwhile."""

    def __init__(self, scenario: Scenario, seed: int, speed: float = 1.0) -> None:
        self._steps = list(reversed(scenario.steps))
        self._ends_s = scenario.ends_s
        self._resting = False
        self._done = False
        self.plant = Plant(seed, Pace(scenario.profile, speed, scenario.ends_s), scenario.start)

    @property
    def next_s(self) -> float:
        """Plant time of the next beat."""
        step_s = self._steps[-1].at_s if self._steps else NEVER
        return min(self.plant.next_s, step_s, NEVER if self._resting else self._ends_s)

    def begin(self) -> Beat:
        """The states and values the plant starts with."""
        return Beat(self.plant.begin())

    def step(self) -> Beat:
        """Play what is due at `next_s`: an order of the scenario first, then the plant's own events."""
        now_s = self.next_s
        if self._steps and self._steps[-1].at_s <= now_s:
            order = self._steps.pop().order
            if isinstance(order, Command | Randomness):
                refusal, moment = self.order(now_s, order)
                return Beat(moment, refusals=(refusal,) if refusal else ())
            assert isinstance(order, Fault | Clear)
            return Beat(Moment(now_s, (), ()), orders=(order,))
        if not self._resting and self._ends_s <= now_s:
            self._resting = True
            self.plant.rest(now_s)
            return Beat(Moment(now_s, (), ()))
        moment = self.plant.step()
        done = self._resting and not self._done and self.plant.resting
        self._done = self._done or done
        return Beat(moment, done=done)

    def order(self, now_s: float, order: Command | Adjust | Randomness) -> tuple[str | None, Moment]:
        """Hand an order to the plant at `now_s`, not later than `next_s`. Returns the reason of a refusal."""
        if isinstance(order, Adjust):
            return None, self.plant.adjust(now_s, order.equipment, order.value)
        if isinstance(order, Command):
            return self.plant.command(now_s, order.equipment, order.word)
        return self.plant.set_random(now_s, order.on, order.equipment), Moment(now_s, (), ())


def rehearse(scenario: Scenario, seed: int, until_s: float, speed: float = 1.0) -> tuple[Change, ...]:
    """The state changes up to a plant time or the scenario's end, without servers: what a ledger holds."""
    play = Play(scenario, seed, speed)
    changes = list(play.begin().moment.changes)
    while play.next_s <= until_s:
        beat = play.step()
        changes.extend(beat.moment.changes)
        if beat.done:
            break
    return tuple(changes)
