"""Who may connect now: a bounded number of connections at once begin a session, the living before the dead.

A place is given back when the session stands or has failed, and taken back after a moment in any case: a
device that answers does so within it, and one that does not must not make others wait for its time-out.
Those that have failed again and again may hold only half of the places, so that others find one soon.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: Sessions that are begun at once, over all connections.
PLACES = 32
#: Longest time a place is held, in seconds: many times what a device takes that answers at all.
HELD_S_MAX = 0.25


class Place:
    """The right to connect now. `leave` it as soon as it is clear how that ends; twice is harmless."""

    def __init__(self, turnstile: Turnstile, *, is_patient: bool) -> None:
        self._turnstile = turnstile
        self._is_patient = is_patient
        self._left = False
        self._timer = asyncio.get_running_loop().call_later(turnstile.held_s_max, self.leave)

    def leave(self) -> None:
        """Make room for the next."""
        if not self._left:
            self._left = True
            self._timer.cancel()
            self._turnstile.left(is_patient=self._is_patient)


class Turnstile:
    """One for all connections of a process."""

    def __init__(self, places: int = PLACES, held_s_max: float = HELD_S_MAX) -> None:
        self.held_s_max = held_s_max
        self._free = places
        self._free_for_patient = max(1, places // 2)
        #: Those that wait, by whether they are patient; first come, first served.
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {False: deque(), True: deque()}

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(line) for line in self._waiting.values())

    async def enter(self, *, is_patient: bool) -> Place:
        """Wait for a place. `is_patient`: it has failed before and lets those pass that have not."""
        if self._has_room(is_patient=is_patient) and not self._waiting[is_patient]:
            return self._seat(is_patient=is_patient)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[is_patient].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.left(is_patient=is_patient)
            raise
        return Place(self, is_patient=is_patient)

    def left(self, *, is_patient: bool) -> None:
        """A place is free again: the next who may have it."""
        self._free += 1
        if is_patient:
            self._free_for_patient += 1
        for waits_patiently in (False, True):
            line = self._waiting[waits_patiently]
            while line and self._has_room(is_patient=waits_patiently):
                turn = line.popleft()
                if not turn.done():
                    self._take(is_patient=waits_patiently)
                    turn.set_result(None)

    def _has_room(self, *, is_patient: bool) -> bool:
        return self._free > 0 and (not is_patient or self._free_for_patient > 0)

    def _seat(self, *, is_patient: bool) -> Place:
        self._take(is_patient=is_patient)
        return Place(self, is_patient=is_patient)

    def _take(self, *, is_patient: bool) -> None:
        self._free -= 1
        if is_patient:
            self._free_for_patient -= 1
