"""How fast events go out, and when all of them will be out. Pure: time and counts are handed in."""

from __future__ import annotations

from datetime import timedelta

from gateway.historian.pace import Rate

#: An outlook beyond this is none.
_LEFT_S_MAX = 366 * 24 * 3600.0
#: Nothing out for so long: it stands still, whatever went before.
_STILL_S = 5.0


class Draining:
    """One connection's figures. `said` and `recorded` are the numbers both counts begin at."""

    def __init__(self, now_s: float, said: int, recorded: int) -> None:
        self._said, self._recorded, self._moved_s = said, recorded, now_s
        self._out, self._in = Rate(now_s), Rate(now_s)

    def note(self, now_s: float, said: int, recorded: int) -> None:
        """The broker has all up to `said`, the journal all up to `recorded`."""
        if said > self._said:
            self._moved_s = now_s
        self._out.add(max(0, said - self._said), now_s)
        self._in.add(max(0, recorded - self._recorded), now_s)
        self._said, self._recorded = max(said, self._said), max(recorded, self._recorded)

    def outlook(self, left: int, now_s: float) -> tuple[float | None, timedelta | None]:
        """Events per second lately, and how long `left` of them will take while others go on coming.

        Each None while it is not known; the second also while more comes than goes, or nothing goes at all.
        """
        if now_s - self._moved_s >= _STILL_S:
            return 0.0, None
        out_per_s, in_per_s = self._out.per_s(now_s), self._in.per_s(now_s) or 0.0
        if out_per_s is None:
            return None, None
        gain_per_s = out_per_s - in_per_s
        if gain_per_s <= 0 or left / gain_per_s > _LEFT_S_MAX:
            return out_per_s, None
        return out_per_s, timedelta(seconds=left / gain_per_s)
