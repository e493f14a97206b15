"""What may be said and in which order: the rules that keep retained topics true and the cursor honest. Pure.

Three facts are kept here: the newest `seq` said on each retained topic, how far the broker has acknowledged
the events without a hole, and how far it had a moment ago. None knows topics, brokers or the journal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Newest:
    """The newest state said for each key, so that an older one is never said after it.

    States are told apart by `sequence`, the count of the equipment's transitions, then by `seq`: a journal
    that begins anew numbers events from 1 again, while the count of transitions goes over into it.
    """

    said: dict[str, tuple[int, int]] = field(default_factory=dict)

    def allow(self, key: str, seq: int, *, sequence: int = 0, again: bool = False) -> bool:
        """Whether this one may be said now, and note that it is. `again` allows the same one once more."""
        rank = (sequence, seq)
        last = self.said.get(key)
        if last is not None and (rank < last or (rank == last and not again)):
            return False
        self.said[key] = rank
        return True

    def is_newest(self, key: str, seq: int, *, sequence: int = 0) -> bool:
        """Whether it is this one that was said last."""
        return self.said.get(key) == (sequence, seq)


class Acknowledged:
    """How far the events are acknowledged without a hole.

    Acknowledgements may come in any order; `seq` moves only over events that all have theirs. What is
    waiting is bounded by whoever sends, through the number of messages in flight. Brokers acknowledge in
    order nearly always, so that way is short.
    """

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq
        self._order: deque[tuple[int, datetime]] = deque()
        self._early: set[int] = set()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def oldest_at(self) -> datetime | None:
        """When the oldest event that waits was recorded."""
        return self._order[0][1] if self._order else None

    def sent(self, seq: int, at: datetime) -> None:
        """An event is on its way. Events are sent in the order of `seq`."""
        order = self._order
        assert seq > (order[-1][0] if order else self.seq), "events are sent in order"
        order.append((seq, at))

    def done(self, seq: int) -> bool:
        """An event is acknowledged. Whether `self.seq` moved; an event that does not wait changes nothing."""
        order = self._order
        if not order or seq != order[0][0]:
            if order and order[0][0] < seq <= order[-1][0]:
                self._early.add(seq)
            return False
        order.popleft()
        while order and order[0][0] in self._early:
            seq = order.popleft()[0]
            self._early.discard(seq)
        if not order:
            self._early.clear()
        self.seq = seq
        return True


class Lately:
    """How far the events were acknowledged `window_s` ago.

    Brokers acknowledge before they store or pass on. When one dies, what it acknowledged in its last moments
    may be lost, so that much is said again. Bounded by how often it is noted.
    """

    def __init__(self, window_s: float, at: float, seq: int) -> None:
        self._window_s = window_s
        self._noted: deque[tuple[float, int]] = deque([(at, seq)])

    def note(self, at: float, seq: int) -> None:
        """At monotonic time `at`, everything up to `seq` was acknowledged."""
        self._noted.append((at, seq))
        self._forget(at)

    def seq(self, at: float) -> int:
        """What was certainly acknowledged `window_s` before `at`, or the first thing that was ever noted."""
        self._forget(at)
        return self._noted[0][1]

    def _forget(self, at: float) -> None:
        while len(self._noted) > 1 and self._noted[1][0] <= at - self._window_s:
            self._noted.popleft()
