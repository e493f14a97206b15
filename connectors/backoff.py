"""How long to wait before trying again: doubling, capped, jittered, reset only by a link that lasted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Backoff:
    """Schedule of retry pauses, in seconds. Randomness is handed in, so it can be tested.

    A link that was up for less than `settled_s` before it failed counts as one more failure: a device that
    accepts and then kicks is not hammered.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    settled_s: float = 10.0
    failures: int = 0

    def failed(self, up_for_s: float, random01: float) -> float:
        """The pause before the next try. `random01` in [0, 1) spreads it over 75 to 125 %."""
        if up_for_s >= self.settled_s:
            self.failures = 0
        pause = min(self.first_s * 2.0 ** min(self.failures, 30), self.max_s)
        self.failures += 1
        return pause * (0.75 + random01 / 2)
