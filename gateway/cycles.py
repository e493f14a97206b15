"""The poll cycles of one group over the last minute, at a cost that does not depend on how many there were.

Pure: time is handed in, in monotonic seconds. There is one sum a second, so the minute is one to a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: What "the last minute" means, in seconds.
HORIZON_S = 60


class _Second:
    __slots__ = ("count", "duration_s", "duration_s_max", "lateness_s", "lateness_s_max", "second", "skipped")

    def __init__(self, second: int) -> None:
        self.second = second
        self.count = self.skipped = 0
        self.duration_s = self.duration_s_max = self.lateness_s = self.lateness_s_max = 0.0


class Cycles:
    """Told of each cycle; answers with the figures of the last minute."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=HORIZON_S)
        self._current = _Second(-1)
        #: Sums since the process began.
        self.count = self.skipped = 0
        self.duration_s = self.lateness_s = 0.0

    def note(self, now_s: float, duration_s: float, lateness_s: float, skipped: int) -> None:
        """One cycle has ended. `lateness_s` is how late it began, `skipped` how many were left out before."""
        self.count += 1
        self.skipped += skipped
        self.duration_s += duration_s
        self.lateness_s += lateness_s
        current, second = self._current, int(now_s)
        if current.second != second:
            current = self._current = _Second(second)
            self._seconds.append(current)
        current.count += 1
        current.skipped += skipped
        current.duration_s += duration_s
        current.lateness_s += lateness_s
        if duration_s > current.duration_s_max:
            current.duration_s_max = duration_s
        if lateness_s > current.lateness_s_max:
            current.lateness_s_max = lateness_s

    def figures(self, now_s: float) -> Mapping[str, float]:
        """Of the last minute; only the count, 0, when there was no cycle."""
        recent = [item for item in self._seconds if item.second > now_s - HORIZON_S]
        count = sum(item.count for item in recent)
        if not count:
            return {"count": 0}
        return {
            "count": count,
            "duration_mean_s": sum(item.duration_s for item in recent) / count,
            "duration_max_s": max(item.duration_s_max for item in recent),
            "lateness_mean_s": sum(item.lateness_s for item in recent) / count,
            "lateness_max_s": max(item.lateness_s_max for item in recent),
            "skipped": sum(item.skipped for item in recent),
        }
