"""From the journal into the database, for ever: connect, drain, and try again when it is away.

Where to go on is read from the database, never remembered: rows and cursor move in one transaction there,
so a replayed range changes nothing. No failure of the database ends this; each is named in `status()`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from connectors.backoff import Backoff
from connectors.base import Clock
from gateway.accounts.values import Deliveries
from gateway.config.schema import HistorianSettings
from gateway.errors import JournalForeign, SinkRefused, SinkUnavailable
from gateway.historian.connection import connect, examine, place_of
from gateway.historian.failures import DATABASE_ERRORS
from gateway.historian.questions import Questions
from gateway.historian.retention import delete_old_samples
from gateway.historian.session import CursorMoved, Missing, Packed, Portion, Refused, Session, open_session
from gateway.historian.values import EquipmentMeta, ServerInfo, SinkStatus, TagMeta
from gateway.journal import Cursor, Journal, JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch

log = structlog.get_logger(__name__)

#: Name of this sink in the journal.
SINK = "historian"
_EVENTS_MAX = 5_000
_BATCHES_MAX = 5_000
_REFUSED_PAUSE_S = 30.0
#: How often a quiet database is asked whether it is still there.
_PROOF_OF_LIFE_S = 10.0
_RETENTION_EVERY_S = 3600.0


class Historian(Questions):
    """The sink that writes history. `run` is its one task; questions may be asked from any other."""

    def __init__(
        self,
        dsn: str,
        *,
        journal: Journal,
        gateway: str,
        settings: HistorianSettings,
        clock: Clock,
        tags: Mapping[str, TagMeta],
        equipment: Mapping[str, EquipmentMeta],
        deliveries: Deliveries | None = None,
    ) -> None:
        super().__init__(dsn, gateway=gateway, stream=journal.stream, settings=settings)
        self._dsn, self._place = dsn, place_of(dsn)
        self._journal, self._settings, self._clock = journal, settings, clock
        self._tags, self._equipment, self._deliveries = tags, equipment, deliveries
        self._drained = Cursor()
        #: What the journal held before this process wrote: all that a database can know that never met us.
        self._found: JournalPosition | None = journal.position
        self._first_seq: int | None = None
        self._other_streams = False
        self._connected = False
        self._met = asyncio.Event()
        self._last_error: str | None = None
        self._alarm = ""
        self._retry_at: datetime | None = None
        self._server = ""
        self._oldest_unsent_at: datetime | None = None
        self._events = self._samples = self._set_aside = self._missing = 0
        self._transactions = self._connects = 0
        journal.require(SINK, events=True, batches=True)

    # -- what others may know

    @property
    def drained(self) -> Cursor:
        """What the database certainly holds of this stream."""
        return self._drained

    @property
    def first_seq(self) -> int | None:
        """The first event of this stream the database holds, as far as is known."""
        return self._first_seq

    @property
    def has_other_streams(self) -> bool:
        """Whether the database holds events of an earlier journal of this gateway, as far as is known."""
        return self._other_streams

    def status(self) -> SinkStatus:
        """How it is now."""
        position, drained = self._journal.position, self._drained
        lag_events, lag_batches = position.last_seq - drained.seq, position.last_batch - drained.batch
        return SinkStatus(
            connected=self._connected,
            last_error=self._last_error,
            alarm=self._alarm,
            retry_at=self._retry_at,
            server=self._server,
            lag_events=max(0, lag_events),
            lag_batches=max(0, lag_batches),
            oldest_unsent_at=self._oldest_unsent_at if lag_events > 0 or lag_batches > 0 else None,
            events=self._events,
            samples=self._samples,
            set_aside=self._set_aside,
            missing=self._missing,
            transactions=self._transactions,
            connects=self._connects,
        )

    async def met(self) -> None:
        """Return once the database has been asked whether it knows this journal otherwise: it does not, or it
        could not be asked."""
        await self._met.wait()

    async def check(self) -> ServerInfo:
        """Connect once and say what server it is; changes nothing.

        Raises:
            SinkUnavailable, SinkRefused: the database is away, or will not have us.
        """
        return await examine(self._dsn, self._settings)

    # -- writing

    async def run(self) -> None:
        """Drain the journal into the database until cancelled.

        Raises:
            JournalForeign: the database knows this journal's stream otherwise: an older copy was put back.
            JournalFailed: the journal failed. Failures of the database never end this.
        """
        self._drained = await self._journal.cursor(SINK)
        backoff = Backoff()
        keeping = asyncio.create_task(self._keep_retention(), name="historian-retention")
        try:
            while True:
                began_s, refused = self._clock.monotonic(), False
                try:
                    await self._run_session()
                except (SinkUnavailable, SinkRefused) as error:
                    refused = isinstance(error, SinkRefused)
                    self._lost(error)
                    self._met.set()
                pause_s = backoff.failed(self._clock.monotonic() - began_s, random.random())  # noqa: S311
                pause_s = _REFUSED_PAUSE_S if refused else pause_s
                self._retry_at = self._clock.now() + timedelta(seconds=pause_s)
                await self._wait_out(pause_s)
        finally:
            self._connected = False
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self._readers.drop()

    async def _run_session(self) -> None:
        async with open_session(
            self._dsn,
            place=self._place,
            gateway=self._gateway,
            stream=self._journal.stream,
            settings=self._settings,
            tags=self._tags,
            equipment=self._equipment,
        ) as session:
            self._first_seq = await session.first_seq()
            self._other_streams = await session.has_other_streams()
            await self._stand_where(session)
            self._met.set()
            self._greet(session.info)
            await self._drain(session)

    async def _drain(self, session: Session) -> None:
        flush_s = self._settings.flush.total_seconds()
        while True:
            began_s = self._clock.monotonic()
            portion = await self._next_portion(self._drained)
            if portion is None:
                await self._wait_for_news(session)
                continue
            packed = await session.pack(portion)
            while portion is not None and self._is_full(portion):
                portion, packed = await self._hand_over_and_look_ahead(session, portion, packed)
            if portion is not None:
                await self._hand_over(session, portion, packed)
                await self._clock.sleep(max(0.0, began_s + flush_s - self._clock.monotonic()))

    async def _wait_for_news(self, session: Session) -> None:
        """Wait for the journal, and see to it meanwhile that the database is still there.

        Raises:
            SinkUnavailable, SinkRefused: it is not.
        """
        news = asyncio.create_task(self._journal.wait_beyond(self._drained.seq, self._drained.batch))
        ended = asyncio.create_task(session.ended())
        try:
            await asyncio.wait({news, ended}, timeout=_PROOF_OF_LIFE_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise SinkUnavailable(f"the database {self._place} has ended the connection")
            if news.done():
                await news
            elif await session.cursor() != self._drained:
                await self._stand_where(session)
        finally:
            for task in (news, ended):
                task.cancel()

    def _is_full(self, portion: Portion) -> bool:
        """Whether there is more, so that nothing is won by letting it gather."""
        return (
            portion.samples >= self._settings.batch_rows
            or len(portion.batches) >= _BATCHES_MAX
            or len(portion.events) >= _EVENTS_MAX
        )

    async def _hand_over_and_look_ahead(
        self, session: Session, portion: Portion, packed: Packed | None
    ) -> tuple[Portion | None, Packed | None]:
        """Write a portion and make the next one ready while the server works.

        That one is None when there is none, or when the cursor is not where it begins.
        """
        ahead = asyncio.create_task(self._look_ahead(session, portion.after), name="historian-look-ahead")
        try:
            await self._hand_over(session, portion, packed)
            following = await ahead
        finally:
            ahead.cancel()
        if following[0] is None or following[0].before != self._drained:
            return None, None
        return following

    async def _look_ahead(self, session: Session, after: Cursor) -> tuple[Portion | None, Packed | None]:
        portion = await self._next_portion(after)
        return portion, None if portion is None else await session.pack(portion)

    async def _next_portion(self, before: Cursor) -> Portion | None:
        """What comes after a cursor, or None. Numbers that are missing are passed over and noted."""
        position = self._journal.position
        events = await self._journal.read(before.seq, _EVENTS_MAX)
        batches = await self._journal.read_batches(
            before.batch, _BATCHES_MAX, samples_max=self._settings.batch_rows
        )
        missing: list[Missing] = []
        seq = _end("event", before.seq, [e.seq for e in events], position.last_seq, missing)
        batch = _end("batch", before.batch, [n for n, _ in batches], position.last_batch, missing)
        after = Cursor(seq, batch)
        if after == before:
            return None
        self._note_oldest(events, batches)
        return Portion(before, after, events, batches, missing)

    async def _hand_over(self, session: Session, portion: Portion, packed: Packed | None) -> None:
        set_aside = 0
        try:
            try:
                await session.write(portion, packed)
            except Refused as refused:
                log.warning("the database refuses a row; looking for it", reason=str(refused))
                set_aside = await session.write_carefully(portion)
        except CursorMoved:
            log.warning("the database's cursor is not where it was left; reading it again")
            await self._stand_where(session)
            return
        self._transactions += 1
        self._events += len(portion.events)
        self._samples += portion.samples
        if set_aside:
            self._set_aside += set_aside
            log.error("rows were set aside in andon.set_aside", rows=set_aside)
        for missing in portion.missing:
            self._missing += missing.last - missing.first + 1
            log.error(
                "the journal could not give some records to the database",
                numbering=missing.numbering,
                first=missing.first,
                last=missing.last,
            )
        if self._first_seq is None and portion.events:
            self._first_seq = portion.events[0].seq
        if (books := self._deliveries) is not None:
            lost = set_aside or portion.missing
            losses = await session.losses(books.since_batch(SINK)) if lost else None
            books.handed_over(SINK, portion.before.batch + 1, portion.after.batch, portion.batches, losses)
        await self._move_to(portion.after)

    async def _stand_where(self, session: Session) -> None:
        """Begin where the database is, if what it holds came from this very journal.

        Numbers alone do not tell: the numbering of a journal that was set back catches up with them.

        Raises:
            JournalForeign: it did not: an older copy of the journal was put back.
            SinkUnavailable, SinkRefused: the database does not answer.
        """
        cursor = await session.cursor()
        ours = self._found or self._journal.position
        if cursor.seq > ours.last_seq or cursor.batch > ours.last_batch:
            raise self._foreign(
                f"holds events up to {cursor.seq} and batches up to {cursor.batch} of this journal's stream, "
                f"but the journal came only to {ours.last_seq} and {ours.last_batch}"
            )
        if (held := await session.event_up_to(cursor.seq)) is not None:
            seq, body = held
            # Empty when it was freed or cannot be read: then there is nothing to compare.
            for event in await self._journal.read(seq - 1, 1):
                if event.seq == seq and event.json != body:
                    raise self._foreign(f"has event {seq} of this journal's stream as something else")
        self._found = None
        if (books := self._deliveries) is not None:
            losses = await session.losses(books.since_batch(SINK))
            await books.stands_at(SINK, ((1, cursor.batch),), losses)
        await self._move_to(cursor)

    def _foreign(self, what: str) -> JournalForeign:
        return JournalForeign(
            f"the database {self._place} {what}: an older copy of the journal was put back",
            hint=f"move {self._journal.directory} away: the gateway then begins a new stream, and nothing in "
            "the database is touched",
        )

    async def _move_to(self, cursor: Cursor) -> None:
        self._drained = cursor
        await self._journal.advance(SINK, cursor)

    # -- being away

    def _greet(self, info: ServerInfo) -> None:
        self._connects += 1
        self._connected, self._last_error, self._alarm, self._retry_at = True, None, "", None
        self._server = str(info)
        log.info("the database is there", place=self._place, server=self._server)

    def _lost(self, error: SinkUnavailable | SinkRefused) -> None:
        reason = f"{error.reason}; {error.hint}" if error.hint else error.reason
        if reason != self._last_error:
            log.warning("the database is away; the journal keeps everything", reason=reason)
        self._connected, self._last_error = False, reason
        self._alarm = "refused" if isinstance(error, SinkRefused) else ""
        self._readers.drop()

    async def _wait_out(self, pause_s: float) -> None:
        """Sleep, and note since when something waits, also when it comes only now."""
        resting = asyncio.create_task(self._clock.sleep(pause_s))
        news = asyncio.create_task(self._journal.wait_beyond(self._drained.seq, self._drained.batch))
        try:
            await asyncio.wait({resting, news}, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                await news
                await self._look_at_oldest()
            await resting
        finally:
            resting.cancel()
            news.cancel()

    async def _look_at_oldest(self) -> None:
        """Note since when something waits, for those who ask while the database is away."""
        events = await self._journal.read(self._drained.seq, 1)
        batches = await self._journal.read_batches(self._drained.batch, 1)
        self._note_oldest(events, batches)

    def _note_oldest(self, events: Sequence[Recorded], batches: Sequence[tuple[int, SampleBatch]]) -> None:
        times = [event.recorded_at for event in events[:1]] + [batch.received_at for _, batch in batches[:1]]
        self._oldest_unsent_at = min(times, default=None)

    # -- retention

    async def _keep_retention(self) -> None:
        retention = self._settings.retention
        if retention is None:
            return
        while True:
            if self._connected:
                await self.delete_old_samples(self._clock.now() - retention)
            await self._clock.sleep(_RETENTION_EVERY_S if self._connected else 60.0)

    async def delete_old_samples(self, before: datetime) -> None:
        """Delete this gateway's samples older than an instant. A database that is away is left in peace."""
        try:
            info = await examine(self._dsn, self._settings)
            connection = await connect(self._dsn, self._settings, f"andon {self._gateway} retention")
            try:
                deleted = await delete_old_samples(connection, info, self._gateway, before)
            finally:
                connection.terminate()
        except (SinkUnavailable, SinkRefused, *DATABASE_ERRORS) as error:
            log.warning("old samples could not be deleted; trying again later", reason=str(error))
            return
        if deleted:
            log.info("old samples deleted", before=before, count=deleted)


def _end(numbering: str, before: int, numbers: Sequence[int], last: int, missing: list[Missing]) -> int:
    """Where a portion ends. Jumps in the numbers, made only by what the journal lost, are noted."""
    expected = before + 1
    for number in numbers:
        if number != expected:
            missing.append(Missing(numbering, expected, number - 1))
        expected = number + 1
    if not numbers and last > before:
        missing.append(Missing(numbering, expected, last))
        return last
    return expected - 1
