"""The palletiser: a PackML machine with the odds and ends that make a real register map hard to read.

Its extra tags exist to be encoded in many ways (scaled, BCD, text, every word order); they follow from its
counters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from simulators.machine import Pace, Value
from simulators.packml_machine import PackmlMachine

_BOTTLES_PER_LAYER: Final = 24
_LAYERS: Final = 8
_LAYER_MM: Final = 185.3
_LIFT_LOW_MM: Final = -12.5


class Palletiser(PackmlMachine):
    """The last machine of the line."""

    def __init__(
        self, name: str, seed: int, pace: Pace, speed_per_min: float, start: str = "Stopped"
    ) -> None:
        super().__init__(name, seed, pace, speed_per_min, start)
        self._energy_wh = 4_300_000_000.0  # more than 32 bits hold, on purpose
        self._planned = 0.0
        self._motor_c = 25.0
        self._now_s = 0.0

    def tick(self, now_s: float, dt_s: float) -> None:
        super().tick(now_s, dt_s)
        self._now_s = now_s
        if self.state == "Execute":
            self._planned += self.set_speed_per_min / 60.0 * dt_s
        self._energy_wh += (200.0 + 15.0 * self.speed_per_min) * dt_s / 3600.0
        goal_c = 25.0 + 40.0 * self.speed_per_min / self.set_speed_per_min
        self._motor_c += (goal_c - self._motor_c) * min(1.0, dt_s / 30.0)

    def tags(self) -> Mapping[str, Value]:
        bottles = int(self.processed)
        layer = bottles // _BOTTLES_PER_LAYER % _LAYERS
        pallets = bottles // (_BOTTLES_PER_LAYER * _LAYERS)
        base = super().tags()
        return {
            "state": base["StateCurrent"],
            "unit_mode": base["UnitModeCurrent"],
            "state_requested": base["StateRequested"],
            "stop_reason": base["StopReason"],
            "processed": bottles,
            "defective": self.defective,
            "mach_speed": self.set_speed_per_min,
            "cur_speed": base["CurMachSpeed"],
            "lift_height": round(_LIFT_LOW_MM + layer * _LAYER_MM, 1),
            "blocked": self.blocked,
            "starved": self.starved,
            "executing": self.state == "Execute",
            "fault": self.state in ("Aborting", "Aborted", "Clearing"),
            "energy_wh": int(self._energy_wh),
            "mains_voltage": round(230.0 + 2.0 * math.sin(self._now_s / 7.0), 3),
            "layer": layer + 1,
            "pallets": pallets,
            "pallet_id": f"P{pallets + 1:07d}",
            "balance": int(self.processed - self._planned),
            "motor_temp": round(self._motor_c, 2),
        }
