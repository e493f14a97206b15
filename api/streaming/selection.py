"""Which events a client hears, and what is left of them for a client that has fallen behind. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from api.access import Principal
from statemodel.records import Recorded


class Selection(msgspec.Struct, frozen=True):
    """Which events a client wants and may hear; None means all."""

    types: frozenset[str] | None = None
    equipment: frozenset[str] | None = None
    by: Principal | None = None

    def takes(self, event: Recorded) -> bool:
        """Whether the event is wanted, and in the areas of whoever asks."""
        return (
            (self.types is None or event.type in self.types)
            and (self.equipment is None or event.equipment in self.equipment)
            and (self.by is None or self.by.areas is None or self.by.sees(event.path))
        )

    def of(self, events: Iterable[Recorded]) -> Sequence[Recorded]:
        """Those it takes, in their order."""
        return [event for event in events if self.takes(event)]


class LeftOut(msgspec.Struct, frozen=True, tag="left_out", tag_field="type"):
    """Says that a client which was behind is not told everything between two events.

    Of the events with `after < seq <= up_to` that its filters take, `count` are left out. What follows are
    the newest transitions of each equipment among them, in order.
    """

    stream: str
    after: int
    up_to: int
    count: int


class Abridged(msgspec.Struct, frozen=True):
    """What is told in place of everything up to `up_to`."""

    up_to: int
    left_out: LeftOut
    events: Sequence[Recorded]


class Abridging:
    """Leaves out what is superseded while a client is behind by more than a number of events.

    It then goes on to where the sequence stood when that was noticed, and keeps the newest transition of each
    equipment: never more events than there is equipment, however far behind the client is.
    """

    def __init__(self, selection: Selection, behind_events: int) -> None:
        self._selection = selection
        self._behind_events = behind_events
        self._after = self._target = self._count = 0
        self._newest: dict[str, Recorded] = {}

    def begin(self, passed: int, last_seq: int) -> bool:
        """Whether the next events are to be handed to `take`: it has begun, or there is reason to."""
        if self._target == 0 and last_seq - passed > self._behind_events:
            self._after, self._target, self._count = passed, last_seq, 0
        return self._target > 0

    def take(self, events: Sequence[Recorded]) -> Abridged | None:
        """Take in events; once all it waited for are there, what is told in their place."""
        for event in self._selection.of(events):
            if event.type != "transition":
                self._count += 1
                continue
            self._count += self._newest.pop(event.equipment, None) is not None
            self._newest[event.equipment] = event  # at the end: they stay in order
        if not events or events[-1].seq < self._target:
            return None
        up_to, last = events[-1].seq, events[-1]
        told = list(self._newest.values())
        self._target, self._newest = 0, {}
        return Abridged(up_to, LeftOut(last.stream, self._after, up_to, self._count), told)
