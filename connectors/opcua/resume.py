"""What is kept of a session whose connection was lost, and how it is taken up again without loss.

A server goes on filling the queues of a subscription while nobody is connected, and keeps the messages nobody
has acknowledged (OPC 10000-4 section 6.7). So the next session first tries to be the old one, else to take
over its subscriptions; the feed then fetches what it missed and goes on counting where it stopped. What
cannot be had that way is told as a gap. Kept in memory only, for as long as the server keeps its side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connectors.errors import ConnectionLost
from connectors.opcua.failures import SubscriptionGone
from connectors.opcua.feed import Feed, Stream
from connectors.opcua.plan import Item, Quarantine, SubscriptionPlan
from connectors.opcua.quality import is_bad
from connectors.opcua.session import Session, Ticket

#: Times a subscription is taken up again without a word from it before it is made anew.
TRIES_MAX = 3


@dataclass
class Memory:
    """One lost session. Times ending in `_s` are monotonic seconds, durations likewise."""

    ticket: Ticket | None
    started: str
    """The server's start time, as it told it; another one means another server."""
    namespaces: tuple[str, ...]
    streams: list[Stream]
    orphans: list[int]
    """Subscriptions of that session that never said anything: to be deleted."""
    acknowledge: list[tuple[int, int]]
    quarantine: Quarantine
    lost_at: datetime | None
    heard_at_s: float
    lasts_s: float
    tries: int = 0
    stream_of: dict[Item, Stream] = field(default_factory=dict)

    def expired(self, now_s: float) -> bool:
        """Whether the server has by now thrown its side away."""
        return now_s - self.heard_at_s > self.lasts_s

    def use_ticket(self) -> Ticket | None:
        """What to open the next session with; after some tries in vain, nothing."""
        self.tries += 1
        if self.tries > TRIES_MAX:
            self.ticket = None
        return self.ticket

    def foreign(self, session: Session) -> bool:
        """Whether this is not the server that was lost, so that equal numbers mean nothing.

        A server that does not say when it started cannot be told from another.
        """
        return not self.started or self.started != session.started


def remember(
    failure: ConnectionLost,
    session: Session,
    feed: Feed,
    quarantine: Quarantine,
    stream_of: dict[Item, Stream],
    now_s: float,
) -> Memory | None:
    """What to keep of a session that has just failed; None when nothing of it can be taken up again."""
    if isinstance(failure, SubscriptionGone):
        return None
    # A session without any is taken up all the same: a server has few, and would keep it for nobody.
    kept = [one for one in feed.streams() if one.proved or 0 < one.tries < TRIES_MAX]
    ids = {one.subscription for one in kept}
    return Memory(
        ticket=session.ticket(),
        started=session.started,
        namespaces=session.namespaces,
        streams=kept,
        orphans=[one.subscription for one in feed.streams() if one.subscription not in ids],
        acknowledge=[pair for pair in feed.unacknowledged() if pair[0] in ids],
        quarantine=quarantine,
        lost_at=failure.last_seen_at or feed.last_seen_at,
        heard_at_s=now_s - feed.silent_s,
        lasts_s=session.lifetime_s,
        stream_of={item: one for item, one in stream_of.items() if one.subscription in ids},
    )


async def take_up(
    memory: Memory, session: Session, plans: Sequence[SubscriptionPlan]
) -> tuple[list[Stream], str]:
    """The subscriptions of a lost session that go on in this one, and why others do not.

    In a session that is the old one they are there already; into another they are transferred. Either way
    the server is asked about each, because one that is unknown or another client's would never say anything.

    Raises:
        ConnectionLost: the connection is lost once more.
    """
    if memory.streams and memory.namespaces != session.namespaces:
        await session.unsubscribe([one.subscription for one in memory.streams] + memory.orphans)
        return [], "the server's namespaces have changed"
    found = [one for one in memory.streams if one.plan in plans]
    if not found and not session.reactivated:
        return [], ""
    if not session.reactivated:
        found = _accepted(found, await session.transfer([one.subscription for one in found]))
    else:
        left = [one.subscription for one in memory.streams if one not in found]
        await session.unsubscribe(memory.orphans + left)
    found = _accepted(found, await session.enable_publishing([one.subscription for one in found]))
    gone = sorted({one.group for one in memory.streams} - {one.group for one in found})
    for one in found:
        one.take_up()
    if not gone:
        return found, ""
    return found, f"the server no longer has the subscription of {', '.join(gone)}"


def _accepted(streams: Sequence[Stream], codes: Sequence[int]) -> list[Stream]:
    return [one for one, code in zip(streams, codes, strict=True) if not is_bad(code)]
