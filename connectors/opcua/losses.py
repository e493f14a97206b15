"""What one connection is known to have lost, counted and told without flooding the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from connectors.base import Clock
from connectors.opcua.plan import EVENTS_GROUP
from statemodel.types import Gap, lost_events

_log = structlog.get_logger("connectors.opcua")

#: Gaps that are remembered for people to look at.
GAPS_MAX = 256
#: At most one log line in this time; the next one says how many were held back.
QUIET_S = 60.0


class Losses:
    """Counters over the life of a connector, all sessions together."""

    def __init__(self, connection: str, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._last_said_s: float | None = None
        self._held_back = 0
        self.overflow_count = 0
        """Samples whose neighbours fell out of the server's queue."""
        self.message_count = 0
        """Notification messages that never arrived and could not be had again."""
        self.republished = 0
        """Notification messages that went missing and were had again."""
        self.event_losses = 0
        """Times that events of the server were lost."""
        self.resumed = 0
        """Sessions that went on where a lost one had stopped."""
        self.strangers = 0
        """Notifications for items or subscriptions that are not ours."""
        self.gaps: deque[Gap] = deque(maxlen=GAPS_MAX)
        self.tell: Callable[[Gap], None] | None = None
        """Where gaps are recorded; the link of the present session."""

    def overflowed(self, tags: Sequence[str], since: datetime | None, until: datetime) -> None:
        """The server dropped values of these tags between two publish responses."""
        self.overflow_count += len(tags)
        for tag in dict.fromkeys(tags):
            self._gap(since, until, "the server's queue overflowed", tag)
        self._say("values dropped by the server", tag=tags[0], tags=len(set(tags)), hint="raise queue_size")

    def full(self, tags: Sequence[str], since: datetime | None, until: datetime) -> None:
        """The server's queues of these tags were full: what came before fell out of them, or just did not."""
        for tag in tags:
            self._gap(since, until, "the server's queue was full, so that values may be missing", tag)
        self._say("the server's queues were full", tag=tags[0], tags=len(tags), hint="raise queue_size")

    def messages(self, group: str, count: int, since: datetime | None, until: datetime) -> None:
        """Notification messages of a group's subscription are gone for good."""
        self.message_count += count
        tag = lost_events(self._connection) if group == EVENTS_GROUP else ""
        self._gap(since, until, f'{count} notification messages of group "{group}" were lost', tag)
        self._say("notification messages lost", group=group, messages=count)

    def events(self, since: datetime | None, until: datetime, reason: str) -> None:
        """Events of the server itself are lost; how many, it does not say."""
        self.event_losses += 1
        self._gap(since, until, reason, lost_events(self._connection))
        self._say("events lost", reason=reason)

    def outage(self, since: datetime | None, until: datetime, reason: str) -> None:
        """What the server had to say while the connection was lost could not be had afterwards."""
        self._gap(since, until, f"changes while the connection was lost could not be fetched: {reason}", "")

    def not_read(self, group: str, away_s: float) -> None:
        """A group that is polled was not looked at for a while, because this process stood still."""
        now = self._clock.now()
        since = now - timedelta(seconds=away_s)
        self._gap(since, now, f'group "{group}" was not read: the gateway stood still', "")
        self._say("the gateway stood still", group=group, seconds=round(away_s, 1))

    def _gap(self, since: datetime | None, until: datetime, reason: str, tag: str) -> None:
        gap = Gap(self._connection, since or until, until, reason, tag)
        self.gaps.append(gap)
        if self.tell is not None:
            self.tell(gap)

    def _say(self, event: str, **details: object) -> None:
        now_s = self._clock.monotonic()
        if self._last_said_s is not None and now_s - self._last_said_s < QUIET_S:
            self._held_back += 1
            return
        _log.warning(event, connection=self._connection, held_back=self._held_back, **details)
        self._last_said_s, self._held_back = now_s, 0
