"""Alarms by name, each at one instant. Pure: time is handed in; knows nothing of what the names stand for."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta

#: A clock that is this far behind what it said before has been put back; what waits for it waits no longer.
_PUT_BACK = timedelta(seconds=1)
#: Entries of alarms that were moved or cancelled, for each that stands, before they are swept out.
_DEAD_PER_LIVE = 4


class Timers:
    """At most one alarm a name."""

    def __init__(self) -> None:
        self._due: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._latest: datetime | None = None

    def set(self, name: str, due: datetime) -> None:
        """Set the alarm of a name, or move it."""
        if self._due.get(name) == due:
            return
        self._due[name] = due
        if len(self._heap) > _DEAD_PER_LIVE * (len(self._due) + 16):
            self._heap = [(at, other) for other, at in self._due.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (due, name))

    def cancel(self, name: str) -> None:
        """Take the alarm of a name out, if it has one."""
        self._due.pop(name, None)

    def wake_at(self) -> datetime | None:
        """When the first is due."""
        heap, due = self._heap, self._due
        while heap:
            at, name = heap[0]
            if due.get(name) == at:
                return at
            heapq.heappop(heap)
        return None

    def pop(self, now: datetime) -> list[str]:
        """The names whose alarm is due, earliest first; all of them when the clock was put back."""
        if not self._due:
            self._latest = now
            return []
        put_back = self._latest is not None and now < self._latest - _PUT_BACK
        self._latest = now if put_back or self._latest is None else max(now, self._latest)
        found = []
        while (at := self.wake_at()) is not None and (put_back or at <= now):
            _, name = heapq.heappop(self._heap)
            del self._due[name]
            found.append(name)
        return found
