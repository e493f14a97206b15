"""Notices that nobody looked: the process was stopped, the machine slept, or its own queue held it up.

A poller that was away for seconds cannot say what the device did meanwhile. Pure: time is handed in.
"""

from __future__ import annotations

#: Longest time beyond what was expected that still counts as an ordinary delay, in seconds.
STANDSTILL_S_MAX = 2.0


class Standstill:
    """Told at every wake-up; answers how long nobody looked when that was too long."""

    def __init__(self, now_s: float) -> None:
        self._awake_s = now_s

    def woke(self, now_s: float, allowed_s: float) -> float:
        """Seconds since the last wake-up when they exceed what was allowed by too much, else 0."""
        away_s, self._awake_s = now_s - self._awake_s, now_s
        return away_s if away_s > allowed_s + STANDSTILL_S_MAX else 0.0
