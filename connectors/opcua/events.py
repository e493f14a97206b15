"""A server's own events in one session: told on in order, and its conditions asked for after connecting.

What a server said before we came it does not say again by itself, so it is asked to tell every condition that
holds (ConditionRefresh, OPC 10000-9 section 5.5.7), after each connect and whenever it says that it should be
asked. It brackets that with two events of its own, which are not passed on; what comes in between is marked.
Whether an event is on record already is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from connectors.base import Clock, Link
from connectors.errors import ConnectionLost
from connectors.opcua.config import OpcuaConnection
from connectors.opcua.event_fields import (
    OVERFLOW,
    REFRESH_END,
    REFRESH_REQUIRED,
    REFRESH_START,
    RawEvents,
    alarm_of,
    event_of,
    kind_of,
    severity_of,
)
from connectors.opcua.losses import Losses
from connectors.opcua.plan import event_items
from connectors.opcua.quality import MEANING, is_bad, name_of
from connectors.opcua.session import Session
from connectors.opcua.values import Raw

_log = structlog.get_logger("connectors.opcua")

#: A server that has begun to tell its conditions and never says that it is done is taken to be done.
REFRESH_S_MAX = 60.0
#: At most one request for the conditions in this time, however often a server wishes for one.
REFRESH_PAUSE_S = 5.0
#: Active alarms remembered for the sake of their ends.
ACTIVE_MAX = 10_000
_IN_PROGRESS = 0x8097_0000


class Events:
    """The events of one session. Hand in what each response brought; run `keep` beside it."""

    def __init__(
        self, settings: OpcuaConnection, session: Session, link: Link, clock: Clock, losses: Losses
    ) -> None:
        self._connection = settings.name
        self._source_time = settings.time == "source"
        #: By client handle.
        self._severity_min = {
            item.handle: item.events.severity_min for item in event_items(settings) if item.events
        }
        self._session = session
        self._link = link
        self._clock = clock
        self._losses = losses
        self._refreshed_until_s = float("-inf")
        #: Alarms that were told as active and whose end has not been told, oldest first.
        self._active: dict[str, bool] = {}
        self._due = asyncio.Event()
        self.wish()

    def wish(self) -> None:
        """Have the conditions told (once more)."""
        self._due.set()

    async def deliver(self, found: RawEvents, since: datetime | None, at: datetime) -> None:
        """Pass on the events of one response, oldest first; waits while the gateway cannot keep up."""
        overflowed = False
        for handle, fields in found.rows:
            severity_min = self._severity_min.get(handle)
            if severity_min is None:
                self._losses.strangers += 1
                continue
            kind = kind_of(fields)
            if kind == REFRESH_START:
                self._refreshed_until_s = self._clock.monotonic() + REFRESH_S_MAX
            elif kind == REFRESH_END:
                self._refreshed_until_s = float("-inf")
            elif kind == REFRESH_REQUIRED:
                self.wish()
            elif kind == OVERFLOW:
                overflowed = True
            elif self._is_wanted(fields, severity_min):
                event = event_of(
                    self._connection,
                    fields,
                    at,
                    self._session.namespaces,
                    source_time=self._source_time,
                    refreshed=self._clock.monotonic() < self._refreshed_until_s,
                )
                await self._link.event(event)
        if overflowed:
            self._losses.events(since, at, "the server's event queue overflowed")
        if found.left_out:
            self._losses.events(
                since, at, f"{found.left_out} events of one response were more than is taken at once"
            )

    def _is_wanted(self, fields: Sequence[Raw], severity_min: int) -> bool:
        """Whether it is severe enough, or ends an alarm that was: servers lower the severity of an end."""
        alarm, severity = alarm_of(fields), severity_of(fields)
        wanted = severity_min <= 1 or severity is None or severity >= severity_min
        if alarm is None:
            return wanted
        which, active = alarm
        was_told = self._active.pop(which, False)
        if active and (wanted or was_told):
            self._active[which] = True
            if len(self._active) > ACTIVE_MAX:
                self._active.pop(next(iter(self._active)))
        return wanted or was_told

    async def keep(self, subscription: int) -> None:
        """Have the server tell its conditions now, and whenever it asks for that; for ever.

        Raises:
            ConnectionLost: the connection is gone.
        """
        told_code = 0
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                code = await self._session.refresh_conditions(subscription)
            except ConnectionLost as lost:
                # One late answer is no loss yet: silence is counted elsewhere, in one place.
                if not isinstance(lost.__cause__, TimeoutError):
                    raise
                code = 0
            if code & MEANING == _IN_PROGRESS:
                self._due.set()
            elif is_bad(code) and code != told_code:
                _log.info(
                    "the server does not tell its conditions when asked",
                    connection=self._connection,
                    reason=name_of(code),
                )
                told_code = code
            await self._clock.sleep(REFRESH_PAUSE_S)
