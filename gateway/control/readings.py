"""What the connectors' own readings say of the tags that commands are read back from.

Fed with every batch and every finished cycle of the connections, as they come in, before anything is thinned
out. A reading counts for a write only when it was taken after it: the sample was received later, by the wall
clock and by the one nobody sets, or the whole group was read twice since without news of the tag. Memory
only; bounded by the tags that rules name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from connectors.base import Clock
from statemodel.types import SampleBatch, TagSample

#: So many cycles begun after a write without news prove that the newest value still holds. The first may
#: have been counted before its news was handed in.
_CYCLES = 2


class Readings:
    """The newest reading of each watched tag."""

    def __init__(self, clock: Clock, groups: Mapping[str, str]) -> None:
        """`groups` has each watched tag (full id) and the group that reads it."""
        self._clock = clock
        self._newest: dict[str, TagSample] = {}
        #: When each of them came in (monotonic).
        self._came_s: dict[str, float] = {}
        self._begun: dict[tuple[str, str], tuple[float, ...]] = {}
        self._waiting: set[asyncio.Event] = set()
        self.watch(groups)

    def watch(self, groups: Mapping[str, str]) -> None:
        """Watch these tags from now on; what is known of those that stay is kept."""
        self._groups = dict(groups)
        self._connections = frozenset(tag.partition("/")[0] for tag in groups)
        self._newest = {tag: sample for tag, sample in self._newest.items() if tag in groups}
        self._came_s = {tag: came_s for tag, came_s in self._came_s.items() if tag in groups}
        self._begun = {}

    # -- connections tell

    def batch(self, batch: SampleBatch) -> None:
        """Samples have come in."""
        if batch.connection not in self._connections:
            return
        now_s = self._clock.monotonic()
        for sample in batch.samples:
            if sample.tag in self._groups:
                self._newest[sample.tag] = sample
                self._came_s[sample.tag] = now_s
        self._wake()

    def cycle(self, connection: str, group: str, duration_s: float) -> None:
        """A group has been read completely, with or without news."""
        if connection not in self._connections:
            return
        before = self._begun.get((connection, group), ())
        self._begun[connection, group] = (*before, self._clock.monotonic() - duration_s)[-_CYCLES:]
        self._wake()

    def down(self, connection: str) -> None:
        """The link is down: what was read last is no evidence any more."""
        if connection not in self._connections:
            return
        for tag in [tag for tag in self._newest if tag.partition("/")[0] == connection]:
            del self._newest[tag]
        self._begun = {key: begun for key, begun in self._begun.items() if key[0] != connection}

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    # -- the desk asks

    def newest(self, tag: str) -> TagSample | None:
        """The newest reading, whenever it was taken."""
        return self._newest.get(tag)

    def since(self, tag: str, at: datetime, at_s: float) -> TagSample | None:
        """The newest reading, if it tells of the time after an instant (wall clock and monotonic)."""
        sample = self._newest.get(tag)
        if sample is None:
            return None
        if sample.received_at > at and self._came_s[tag] > at_s:
            return sample
        begun = self._begun.get((tag.partition("/")[0], self._groups[tag]), ())
        return sample if len([s for s in begun if s >= at_s]) == _CYCLES else None

    async def news(self, within_s: float) -> bool:
        """Return when something has come in; False when nothing has within the time."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(event)
