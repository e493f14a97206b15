"""How fast a backlog may be written beside what comes now, and when it will be done. Pure: time is handed in.

With a set rate the backlog keeps to it. Without, it goes as fast as it can until writing what comes now
takes more than twice what it took while there was no backlog; then it pauses, longer each time, until that is
over.
"""

from __future__ import annotations

#: Writing what comes now is never called slow below this.
_SLOW_S_MIN = 0.05
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.01, 1.0
#: How much one observation counts in a mean.
_WEIGHT = 0.1
_ROWS_AT_ONCE_MIN, _SHARE_MIN = 100, 1 / 16
#: Rates are taken over at least this long.
_RATE_OVER_S = 2.0


class Pace:
    """The pace of one backlog. `rate` is in rows per second, 0 means as fast as the other lane allows."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._next_s = 0.0
        self._usual_s: float | None = None
        self._pause_s = 0.0
        #: Of the largest portion, what is written at once: a large commit holds up a small one.
        self._share = 1.0

    def rows_at_once(self, most: int) -> int:
        """How many rows a portion of the backlog may have: at a set rate about those of a second, and fewer
        while the other lane is slow."""
        if self._rate:
            most = min(most, max(_ROWS_AT_ONCE_MIN, self._rate))
        return max(min(most, _ROWS_AT_ONCE_MIN), round(most * self._share))

    def wrote_alone(self, took_s: float) -> None:
        """What came now was written while there was no backlog."""
        usual = self._usual_s
        self._usual_s = took_s if usual is None else usual + _WEIGHT * (took_s - usual)

    def wrote_beside(self, took_s: float) -> None:
        """What came now was written while a backlog was, too."""
        if took_s > max(_SLOW_S_MIN, 2 * (self._usual_s or 0.0)):
            self._pause_s = min(_PAUSE_S_MAX, max(_PAUSE_S_MIN, 2 * self._pause_s))
            self._share = max(_SHARE_MIN, self._share / 2)
        else:
            self._share = min(1.0, self._share * 1.25)
            self._pause_s = self._pause_s / 2 if self._pause_s > _PAUSE_S_MIN else 0.0

    def pause_s(self, rows: int, now_s: float) -> float:
        """How long to wait before the next so many rows of the backlog."""
        if not self._rate:
            return self._pause_s
        begin_s = max(now_s, self._next_s)
        self._next_s = begin_s + rows / self._rate
        return max(begin_s - now_s, self._pause_s)


class Rate:
    """How much is done per second, over the last few seconds."""

    def __init__(self, now_s: float) -> None:
        self._since_s, self._done = now_s, 0
        self._per_s: float | None = None

    def add(self, done: int, now_s: float) -> None:
        """So much has been done."""
        self._done += done
        if (passed_s := now_s - self._since_s) >= _RATE_OVER_S:
            fresh = self._done / passed_s
            self._per_s = fresh if self._per_s is None else (self._per_s + fresh) / 2
            self._since_s, self._done = now_s, 0

    def per_s(self, now_s: float) -> float | None:
        """The rate, None while too little is known."""
        if self._per_s is not None:
            return self._per_s
        passed_s = now_s - self._since_s
        return self._done / passed_s if self._done and passed_s > 0 else None
