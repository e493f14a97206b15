"""Which events of devices are on record already, so that a device may tell them again without harm.

After every reconnect, and after a restart of the gateway, a device is asked which of its alarms hold, and
tells again what it has told before. An event that is word for word the same, told under the same identity, is
the same event: it is recorded once. Remembers a bounded number, the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from statemodel.records import Recorded
from statemodel.types import DeviceEvent

#: Events remembered, over all connections; 16 bytes each and their place in a table.
REMEMBERED_MAX = 20_000
#: Events of the journal, of all types, looked through for them at a start.
LOOKED_THROUGH_MAX = 10_000
_PAGE = 1_000

_encode = msgspec.msgpack.Encoder().encode


class Past(Protocol):
    """The part of the journal this needs."""

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Events with `seq > after`, in order, at most `limit`."""
        ...


async def on_record(journal: Past, last_seq: int) -> Repeats:
    """The events of devices that a journal ends with, `last_seq` being its newest event."""
    repeats = Repeats()
    after = max(0, last_seq - LOOKED_THROUGH_MAX)
    while after < last_seq and (recorded := await journal.read(after, _PAGE)):
        repeats.learn(recorded)
        after = recorded[-1].seq
    return repeats


class Repeats:
    """The newest events of devices. What is older than the newest `remembered_max` counts as new again."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._max = remembered_max
        self._known: dict[bytes, None] = {}

    def learn(self, recorded: Iterable[Recorded]) -> None:
        """What was recorded before, oldest first."""
        for one in recorded:
            if isinstance(one.event, DeviceEvent):
                self.is_new(one.event)

    def is_new(self, event: DeviceEvent) -> bool:
        """Whether this event has not been told before; from now on it has.

        One without an identity is always new: two of them may say the same and be two.
        """
        if not event.event_id:
            return True
        mark = _mark(event)
        known = mark in self._known
        # Told again, it is among the newest once more: one that holds for long is told at every reconnect.
        self._known.pop(mark, None)
        self._known[mark] = None
        if len(self._known) > self._max:
            del self._known[next(iter(self._known))]
        return not known


def _mark(event: DeviceEvent) -> bytes:
    """What makes an event this one: all the device said, nothing of when and why we heard it.

    Identity alone would not do: there are devices that give every event the same.
    """
    said = (
        event.connection,
        event.event_id,
        event.kind,
        event.source,
        event.severity,
        event.message,
        event.source_at,
        event.condition,
        event.condition_node,
        event.branch,
        event.active,
        event.acknowledged,
        event.confirmed,
    )
    return blake2b(_encode(said), digest_size=16).digest()
