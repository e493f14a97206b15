"""The life of the connections: started, watched, restarted after a pause, reported once down and once up.

The only place that catches everything: an error nobody foresaw in one connector must not take the others
with it. It is counted, logged with its trace, and the connection is run again like after a lost link.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from api.ports import ConnectionView
from connectors.backoff import Backoff
from connectors.base import Clock, Connector
from connectors.errors import ConnectionLost, ConnectorError, DeviceRefused
from connectors.selfreport import figures_of, ranges_of, warnings_of, was_taken_up
from connectors.settings import ConnectionSettings
from gateway.control.readings import Readings
from gateway.cycles import Cycles
from gateway.gaps import Gaps
from gateway.pipeline import Pipeline
from gateway.turnstile import Place, Turnstile
from statemodel.types import TAKEN_UP, DeviceEvent, Gap, SampleBatch, SourceLost, SourceRestored

_log = structlog.get_logger("andon.connection")

#: From the second failure in a row on, a connection lets others go first.
PATIENT_FROM_FAILURES = 2
#: Longest pause before the next try, in seconds; with the jitter, a device that is back is found within 5 s.
RETRY_S_MAX = 4.0
#: The same where a try costs others time, where the device takes the connection only to end it, or where a
#: person has to change something first.
RARELY_S_MAX = 30.0


class Supervised:
    """One configured connection: its connector, the state of its link, and what people want to know of it."""

    def __init__(
        self,
        settings: ConnectionSettings,
        connector: Connector,
        pipeline: Pipeline,
        clock: Clock,
        *,
        known_down: bool = False,
        turnstile: Turnstile | None = None,
        readings: Readings | None = None,
    ) -> None:
        """With `known_down` the loss is already on record (a restart), and is not reported again.

        The `turnstile`, shared by all connections, says when it may connect.
        """
        self.settings = settings
        self.connector = connector
        self._pipeline = pipeline
        self._clock = clock
        self._backoff = Backoff(max_s=RETRY_S_MAX)
        self._rarely = Backoff(max_s=RARELY_S_MAX)
        self._turnstile = turnstile or Turnstile()
        #: Told of what comes in, before anything is thinned out: commands are read back from it.
        self.readings = readings
        self._place: Place | None = None
        self._warned: dict[str, str] = {}
        self._losses = Gaps()
        self._session = 0
        self.link = "connecting"
        self.since = clock.now()
        self.last_seen_at: datetime | None = None
        self.last_error: str | None = None
        self.last_error_hint: str | None = None
        self.last_error_at: datetime | None = None
        self.retry_at: datetime | None = None
        self.attempts = 0
        self.bad_tags: dict[str, str] = {}
        self.skipped_cycles = 0
        self.late_s_max = 0.0
        self.surprises = 0
        self.gaps = 0
        self._reported_down = known_down
        #: A loss that is on its way into the journal.
        self._owed: SourceLost | None = None
        self.polled = {group.name: Cycles() for group in settings.groups}

    async def run(self) -> None:
        """Run sessions for ever, with pauses between them."""
        while True:
            self.retry_at = None
            self._turn("connecting")
            is_patient = self._backoff.failures >= PATIENT_FROM_FAILURES
            self._place = await self._turnstile.enter(is_patient=is_patient)
            try:
                self._session += 1
                self.attempts += 1
                session = _Session(self, self._session)
                self._losses = session.gaps
                failure = await self._one_session(session)
            finally:
                self._place.leave()
                session.closed = True
            lasted_s = 0.0 if session.up_s is None else self._clock.monotonic() - session.up_s
            await self._went_down(failure, session)
            pause_s = self._pause_s(failure, lasted_s, was_up=session.up_s is not None)
            self.retry_at = self._clock.now() + timedelta(seconds=pause_s)
            await self._clock.sleep(pause_s)

    def _pause_s(self, failure: ConnectorError, lasted_s: float, *, was_up: bool) -> float:
        jitter = random.random()  # noqa: S311 - no secret
        usual_s, rare_s = self._backoff.failed(lasted_s, jitter), self._rarely.failed(lasted_s, jitter)
        if isinstance(failure, DeviceRefused):
            return max(rare_s, RARELY_S_MAX)
        # A device that comes up only to go again fills the journal with it.
        is_costly = was_up or (isinstance(failure, ConnectionLost) and failure.sparse)
        return rare_s if is_costly else usual_s

    async def _one_session(self, session: _Session) -> ConnectorError:
        try:
            await self.connector.run(session)
        except ConnectorError as failure:
            return failure
        except Exception as error:  # noqa: BLE001 - see the head of this file
            self.surprises += 1
            _log.exception("connector failed unexpectedly", connection=self.settings.name)
            return ConnectionLost(f"unexpected failure in the connector: {type(error).__name__}: {error}")
        return ConnectionLost("the connector ended by itself")

    async def _went_down(self, failure: ConnectorError, session: _Session) -> None:
        now = self._clock.now()
        self.last_error, self.last_error_at = failure.reason, now
        self.last_error_hint = failure.hint or None
        self._turn("refused" if isinstance(failure, DeviceRefused) else "down")
        if self.readings is not None:
            self.readings.down(self.settings.name)
        for gap in session.gaps.rest():
            await self._pipeline.offer(gap)
        if self._reported_down:
            return
        self._reported_down = True
        last_seen_at = failure.last_seen_at if isinstance(failure, ConnectionLost) else None
        lost_at = last_seen_at or session.last_seen_at or now
        if session.up_at is not None:
            lost_at = max(lost_at, session.up_at)  # what was told as restored was not lost before that
        _log.warning(
            "connection lost" if session.is_up else "no connection",
            connection=self.settings.name,
            endpoint=self.settings.endpoint,
            reason=failure.reason,
            hint=failure.hint or None,
        )
        self._owed = SourceLost(self.settings.name, lost_at, failure.reason)
        await self._pipeline.offer(self._owed)
        self._owed = None

    async def came_up(self) -> None:
        """The device has answered in this session."""
        self._turn("up")
        if self._place is not None:
            self._place.leave()
        self.bad_tags.clear()
        if ranges := ranges_of(self.connector):
            self._pipeline.ranges(ranges)
        self._say_warnings()
        if self._reported_down:
            _log.info("connection restored", connection=self.settings.name, attempts=self.attempts)
        else:
            _log.info("connected", connection=self.settings.name, endpoint=self.settings.endpoint)
        self._reported_down = False
        self.attempts = 0
        reason = TAKEN_UP if was_taken_up(self.connector) else ""
        await self._pipeline.offer(SourceRestored(self.settings.name, self._clock.now(), reason))

    def farewell(self, at: datetime, reason: str = "the gateway was stopped") -> Sequence[Gap | SourceLost]:
        """What to record when it is stopped on purpose: from now on nobody looks at this device.

        It counts as recorded then, also when the same one runs again.
        """
        if self._owed is not None:
            owed, self._owed = self._owed, None
            return (*self._losses.rest(), owed)
        if self.link != "up" or self._reported_down:
            return ()
        self._reported_down = True
        return (*self._losses.rest(), SourceLost(self.settings.name, at, reason))

    @property
    def reported_down(self) -> bool:
        """Whether it is on record that the connection is lost."""
        return self._reported_down

    def note_cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
        """Remember the figures of one poll cycle."""
        self.skipped_cycles += skipped
        self.late_s_max = max(self.late_s_max, lateness_s)
        if group in self.polled:
            self.polled[group].note(self._clock.monotonic(), duration_s, lateness_s, skipped)

    def view(self) -> ConnectionView:
        """As people want to see it."""
        return ConnectionView(
            name=self.settings.name,
            protocol=self.settings.protocol,
            endpoint=self.settings.endpoint,
            link=self.link,
            since=self.since,
            last_seen_at=self.last_seen_at,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
            retry_at=self.retry_at,
            attempts=self.attempts,
            tags=len(self.settings.tags()),
            cycles=self.cycles(),
            bad_tags=dict(self.bad_tags),
            last_error_hint=self.last_error_hint,
            gaps=self.gaps,
            skipped_cycles=self.skipped_cycles,
            unexpected_failures=self.surprises,
            warnings=warnings_of(self.connector),
            figures=figures_of(self.connector),
        )

    def cycles(self) -> Mapping[str, Mapping[str, float]]:
        """The figures of each group over the last minute, in seconds."""
        now_s = self._clock.monotonic()
        return {
            group.name: {
                "interval_s": group.interval.total_seconds(),
                **self.polled[group.name].figures(now_s),
            }
            for group in self.settings.groups
        }

    def _say_warnings(self) -> None:
        for key, text in warnings_of(self.connector).items():
            if self._warned.get(key) != text:
                self._warned[key] = text
                _log.warning("connector warns", connection=self.settings.name, reason=text)

    def _turn(self, link: str) -> None:
        # While it is down, each try is "down" to people, with the time of the next one beside it.
        if link == "connecting" and self.link in ("down", "refused"):
            return
        if link != self.link:
            self.link, self.since = link, self._clock.now()


class _Session:
    """The `Link` of one session. Once closed it passes nothing on, whatever a late task may try."""

    def __init__(self, owner: Supervised, number: int) -> None:
        self._owner = owner
        self._number = number
        self.is_up = False
        self.up_s: float | None = None
        self.up_at: datetime | None = None
        self.closed = False
        #: Written into the journal ahead of the next batch.
        self.gaps = Gaps()
        self.last_seen_at: datetime | None = None

    async def up(self) -> None:
        if self.closed or self.is_up:
            return
        self.is_up = True
        self.up_s, self.up_at = self._owner._clock.monotonic(), self._owner._clock.now()
        await self._owner.came_up()

    async def emit(self, batch: SampleBatch) -> None:
        if self.closed or not batch.samples:
            return
        self._mark(batch.received_at)
        if self._owner.readings is not None:
            self._owner.readings.batch(batch)
        await self._offer(batch)

    async def event(self, event: DeviceEvent) -> None:
        if self.closed:
            return
        self._mark(event.received_at)
        await self._offer(event)

    async def _offer(self, news: SampleBatch | DeviceEvent) -> None:
        for gap in self.gaps.due(self._owner._clock.monotonic()):
            await self._owner._pipeline.offer(gap)
        await self._owner._pipeline.offer(news)

    def seen(self, at: datetime) -> None:
        if self.closed:
            return
        self._mark(at)
        self._owner._pipeline.seen(self._owner.settings.name, at)

    def cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
        self._owner.note_cycle(group, duration_s, lateness_s, skipped)
        if not self.closed:
            if self._owner.readings is not None:
                self._owner.readings.cycle(self._owner.settings.name, group, duration_s)
            self._owner._pipeline.read(self._owner.settings.name, group, self._owner._clock.now())

    def gap(self, gap: Gap) -> None:
        self._owner.gaps += 1
        if not self.closed:
            self.gaps.note(gap, self._owner._clock.monotonic())

    def refused(self, tag: str, reason: str) -> None:
        name = self._owner.settings.name
        if reason:
            if tag not in self._owner.bad_tags:
                _log.warning("tag refused", connection=name, tag=tag, reason=reason)
            self._owner.bad_tags[tag] = reason
        elif self._owner.bad_tags.pop(tag, None) is not None:
            _log.info("tag accepted again", connection=name, tag=tag)

    def _mark(self, at: datetime) -> None:
        self.last_seen_at = at
        self._owner.last_seen_at = at
