"""Who holds a connection open: a bound on their number, who may still, and one way to end them all.

Event streams hold a place here, and so do requests that wait for something to happen. Knows nothing of
events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.access import Principal
from api.problems import Problem

#: How often it is asked whether those who hold a place would still be let in, in seconds.
LOOK_S = 2.0

_log = logging.getLogger("andon.api.stream")


class Place:
    """One open stream. `ending` is done, with the reason, when it has to end."""

    def __init__(self, by: Principal, streams: Streams) -> None:
        self.by = by
        self.ending: asyncio.Future[Problem] = asyncio.get_running_loop().create_future()
        self._streams = streams

    def end(self, problem: Problem) -> None:
        """Have it end, unless it has to already."""
        if not self.ending.done():
            self.ending.set_result(problem)

    def stalled(self) -> None:
        """Count it as one whose client stopped reading."""
        self._streams.count_stalled()


class Streams:
    """The open streams of one application. Used from its event loop only."""

    def __init__(
        self,
        streams_max: int,
        retry_after_s: int,
        *,
        of_one_max: int | None = None,
        still: Callable[[Principal], bool] = lambda _: True,
    ) -> None:
        """`of_one_max` bounds those of one principal; `still` says whether one would be let in again."""
        self._streams_max = streams_max
        self._of_one_max = streams_max if of_one_max is None else of_one_max
        self._still = still
        self._retry_after = ((b"retry-after", b"%d" % retry_after_s),)
        self._places: set[Place] = set()
        self._held: Counter[tuple[str, str]] = Counter()
        self._closing = False
        self._stalled_count = 0
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def open_count(self) -> int:
        """Streams open now."""
        return len(self._places)

    @property
    def stalled_count(self) -> int:
        """Streams closed so far because their client stopped reading."""
        return self._stalled_count

    def count_stalled(self) -> None:
        """Count a stream whose client stopped reading."""
        self._stalled_count += 1

    def close(self) -> None:
        """End every open stream and admit no more: call before the server stops."""
        self._closing = True
        for place in self._places:
            place.end(self._stopping())

    @contextmanager
    def admit(self, by: Principal) -> Iterator[Place]:
        """Hold a place for a stream of somebody.

        Raises:
            Problem: `too_many_streams` or `stopping`.
        """
        if self._closing:
            raise self._stopping()
        if len(self._places) >= self._streams_max:
            raise self._too_many(f"{self._streams_max} event streams are open, which is the limit.")
        who = (by.kind, by.name)
        if self._held[who] >= self._of_one_max:
            raise self._too_many(f"{self._of_one_max} event streams of yours are open, which is the limit.")
        place = Place(by, self)
        self._places.add(place)
        self._held[who] += 1
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        try:
            yield place
        finally:
            self._places.discard(place)
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

    def _look(self) -> None:
        """End the streams of those who would not be let in any more."""
        self._next_look = None
        still: dict[Principal, bool] = {}
        for place in self._places:
            if place.by not in still:
                still[place.by] = self._is_still(place.by)
            if not still[place.by]:
                place.end(Problem("session_ended", "Whoever opened the stream would not be let in any more."))
        if self._places:
            self._next_look = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _is_still(self, by: Principal) -> bool:
        """Whether somebody would be let in again; what fails lets nobody in, and the looks go on."""
        try:
            return self._still(by)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("whether %s may listen on cannot be judged: no more", by.name)
            return False

    def _stopping(self) -> Problem:
        return Problem("stopping", "The gateway is shutting down.", headers=self._retry_after)

    def _too_many(self, detail: str) -> Problem:
        return Problem("too_many_streams", detail, headers=self._retry_after)
