"""A connection between two owners: one that ended while it stood, and one that goes on with it.

In between it lives on by itself: it keeps itself alive, and takes acknowledgements that nobody hears of.
Nothing here knows who the owners are, nor whether the one fits the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, runtime_checkable

from gateway.errors import SinkRefused, SinkUnavailable
from gateway.mqtt.link import Link, OnMessage

#: Longest wait for what is in flight before a connection is kept, in seconds.
IN_FLIGHT_S_MAX = 2.0


@runtime_checkable
class KeepsItsLink(Protocol):
    """A sink whose connection can outlive it: another one of its kind and name goes on with it.

    Kept is the connection that stands when `run` is cancelled after `keep_link`, and that which was taken and
    of which no use was made yet. Run once more, a sink goes on with what it has kept itself.
    """

    def connects_like(self, other: object) -> bool:
        """Whether either may go on with the other's connection: they are of one kind, and say the same in
        CONNECT."""
        ...

    def keep_link(self) -> None:
        """From now on, when `run` is cancelled, the connection is kept as it stands, without a good-bye: what
        is in flight is waited for a little, and the cursor saved. Where none stands, none is kept."""
        ...

    def take_link(self, before: object) -> None:
        """Before `run`: its first session begins with what the one before has kept, if that still stands. The
        one before, which must not run any more, has it no longer."""
        ...

    async def let_go(self) -> None:
        """Nobody goes on with what was kept: leave the broker cleanly, now. Does nothing where nothing is.
        Not to be called while `run` goes on."""
        ...


class Handover:
    """What one owner leaves to the next, and what it was left itself."""

    def __init__(self) -> None:
        self._is_wanted = False
        self._link: Link | None = None
        self.all_arrived = False
        """Whether everything that was said on what is kept was acknowledged."""

    def ask(self) -> None:
        """Somebody will go on with the connection when its owner ends."""
        self._is_wanted = True

    def begin(self) -> None:
        """The owner begins (again): nobody has asked yet."""
        self._is_wanted = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has asked since the owner began."""
        return self._is_wanted

    async def keep(self, link: Link, on_message: OnMessage | None = None) -> bool:
        """Keep a connection whose owner ends now, if somebody asked for it and it stands. Whether it is kept.

        Waits a little for what is in flight, and still tells its owner of that; of nothing after it.
        `on_message` has what comes in meanwhile.
        """
        if not self._is_wanted:
            return False
        with contextlib.suppress(TimeoutError, SinkUnavailable, SinkRefused):
            async with asyncio.timeout(IN_FLIGHT_S_MAX):
                await link.room(1)
        if link.is_over:
            return False
        self._link, self.all_arrived = link, not link.in_flight
        link.aim(on_message)
        return True

    def take(self, before: Handover) -> bool:
        """Have what another one has kept. Whether it has kept anything, which may be over by now."""
        if before is not self:
            self._link, before._link = before._link, None
            self.all_arrived = before.all_arrived
        return self._link is not None

    def use(self) -> Link | None:
        """What was kept, once; who uses it has to `aim` it at himself. It may be over by now."""
        link, self._link = self._link, None
        return link
