"""From the journal into the database through open sessions: what comes now at once, a backlog beside it.

Most of the time there is one lane: what is new is written where the cursor stands. When more than two full
transactions wait, a range is begun where the journal stands, what comes now is written there, and a second
session fills the hole before it, oldest first. Does not know how sessions come to be, nor what happens when
one fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import structlog

from connectors.base import Clock
from gateway.accounts.values import Deliveries
from gateway.config.schema import HistorianSettings
from gateway.errors import JournalForeign, SinkRefused, SinkUnavailable
from gateway.historian.lanes import Held
from gateway.historian.pace import Pace, Rate
from gateway.historian.portions import Portion, read_portion
from gateway.historian.session import CursorMoved, Packed, Refused, Session
from gateway.historian.values import Progress
from gateway.journal import Cursor, Journal, JournalPosition
from statemodel.records import Recorded
from statemodel.types import SampleBatch

log = structlog.get_logger(__name__)

#: Name of this sink in the journal.
SINK = "historian"
#: How often a quiet database is asked whether it is still there.
_PROOF_OF_LIFE_S = 10.0
#: How often it is asked what lies set aside, for somebody may have written such rows again.
_LOSSES_EVERY_S = 60.0
#: Each outage during a backlog may add a hole; with more than these, what comes now waits for the older.
_RANGES_MAX = 50

Opener = Callable[[], AbstractAsyncContextManager[Session]]


class Drain:
    """What has been written of one journal, and the loops that write on. One task runs it."""

    def __init__(
        self,
        journal: Journal,
        *,
        place: str,
        settings: HistorianSettings,
        clock: Clock,
        books: Deliveries | None = None,
    ) -> None:
        self._journal, self._place, self._settings, self._clock = journal, place, settings, clock
        self._books = books
        self._look_at_losses_s = 0.0
        self.held = Held()
        self.first_seq: int | None = None
        self.oldest_unsent_at: datetime | None = None
        self.moved_by_others = 0
        self._events = self._samples = self._set_aside = self._missing = self._transactions = 0
        #: What the journal held before this process wrote: all that a database can know that never met us.
        self._found: JournalPosition | None = journal.position
        #: By lane, the portion of a transaction whose outcome nobody knows.
        self._doubtful: dict[Cursor | None, Portion] = {}
        self._pace = Pace(settings.backlog_rate)
        self._filled_events = self._filled_batches = Rate(0.0)
        #: Held while the newest range is written on, and while the oldest hole is closed.
        self._turn = asyncio.Lock()

    def progress(self) -> Progress:
        """How far it is."""
        lag_events, lag_batches = self.held.unsent(self._journal.position)
        backlog_events, backlog_batches = self.held.in_holes()
        return Progress(
            lag_events=lag_events,
            lag_batches=lag_batches,
            oldest_unsent_at=self.oldest_unsent_at if lag_events > 0 or lag_batches > 0 else None,
            backlog_events=backlog_events,
            backlog_batches=backlog_batches,
            caught_up_at=self._caught_up_at(backlog_events, backlog_batches),
            events=self._events,
            samples=self._samples,
            set_aside=self._set_aside,
            missing=self._missing,
            transactions=self._transactions,
            moved_by_others=self.moved_by_others,
        )

    def _caught_up_at(self, events: int, batches: int) -> datetime | None:
        now_s, longest_s = self._clock.monotonic(), 0.0
        for left, rate in ((events, self._filled_events), (batches, self._filled_batches)):
            if left and (per_s := rate.per_s(now_s)) is not None:
                longest_s = max(longest_s, left / per_s) if per_s else longest_s
        return self._clock.now() + timedelta(seconds=longest_s) if longest_s else None

    # -- where to go on

    async def begin(self) -> None:
        """Believe the journal until the database can be asked."""
        self.held = Held(await self._journal.cursor(SINK))

    async def meet(self, session: Session) -> None:
        """Begin where the database is, if what it holds came from this very journal.

        Numbers alone do not tell: the numbering of a journal that was set back catches up with them.

        Raises:
            JournalForeign: it did not: an older copy of the journal was put back.
            SinkUnavailable, SinkRefused: the database does not answer.
        """
        held = await session.held()
        ours, newest = self._found or self._journal.position, held.newest.beyond(held.cursor)
        if newest.seq > ours.last_seq or newest.batch > ours.last_batch:
            raise self._foreign(
                f"holds events up to {newest.seq} and batches up to {newest.batch} of this journal's stream, "
                f"but the journal came only to {ours.last_seq} and {ours.last_batch}"
            )
        for up_to in (held.cursor.seq, *(r.up_to.seq for r in held.beyond)):
            if (known := await session.event_up_to(up_to)) is not None:
                seq, body = known
                # Empty when it was freed or cannot be read: then there is nothing to compare.
                for event in await self._journal.read(seq - 1, 1):
                    if event.seq == seq and event.json != body:
                        raise self._foreign(f"has event {seq} of this journal's stream as something else")
        first = await session.first_seq()
        self.first_seq = first if first is not None and first <= held.cursor.seq else None
        self._found = None
        if self._books is not None:
            ranges = ((1, held.cursor.batch), *((r.after.batch + 1, r.up_to.batch) for r in held.beyond))
            since: int | None = None
            while since != (
                since := self._books.since_batch(SINK)
            ):  # they may begin anew at what they are told
                await self._books.stands_at(SINK, ranges, await session.losses(since))
        await self._stand_at(held)

    def _foreign(self, what: str) -> JournalForeign:
        return JournalForeign(
            f"the database {self._place} {what}: an older copy of the journal was put back",
            hint=f"move {self._journal.directory} away: the gateway then begins a new stream, and nothing in "
            "the database is touched",
        )

    async def _stand_at(self, held: Held) -> None:
        self.held = held
        await self._journal.advance(SINK, held.cursor)

    # -- the loops

    async def run(self, session: Session, open_another: Opener) -> None:
        """Write on for ever through a session that has been met, and another while there is a backlog.

        Raises:
            SinkUnavailable, SinkRefused: a session is over.
        """
        while True:
            try:
                if self.held.beyond:
                    await self._two_lanes(session, open_another)
                else:
                    await self._one_lane(session)
            except CursorMoved:
                await self._meet_again(session)

    async def _meet_again(self, session: Session) -> None:
        # Transactions of ours whose COMMIT got no answer may have taken effect only now.
        ours = {self.held}
        for portion in self._doubtful.values():
            ours |= {held.moved(portion.beyond, portion.after) for held in ours}
        left_at = self.held
        await session.register_again()
        await self.meet(session)
        self._doubtful.clear()
        if self.held == left_at:
            raise SinkRefused(
                f"the database {self._place} does not let its cursor be moved",
                hint="look for a trigger, rule or row security that was added to `andon.sink_cursor` or "
                "`andon.sink_range`; the data waits in the journal",
            )
        self.moved_by_others += self.held not in ours
        log.warning("the database's cursor was not where it was left; it has been read again")

    async def _one_lane(self, session: Session) -> None:
        """Write what is new as it comes; returns when so much waits that a range was begun."""
        while True:
            began_s = self._clock.monotonic()
            portion = await self._next(self.held.cursor)
            if portion is None:
                await self._wait_for_news(session)
                continue
            full = portion.is_full(self._settings.batch_rows)
            if full and self._is_behind(portion):
                self._note_oldest(portion.events, portion.batches)
                await self._begin_range(session)
                return
            self._note_oldest(portion.events, portion.batches)
            writes_s = self._clock.monotonic()
            await self._hand_over(session, portion, await session.pack(portion))
            self._pace.wrote_alone(self._clock.monotonic() - writes_s)
            if not full:
                await self._rest(began_s)

    async def _two_lanes(self, session: Session, open_another: Opener) -> None:
        now_s = self._clock.monotonic()
        self._filled_events, self._filled_batches = Rate(now_s), Rate(now_s)
        async with open_another() as beside:
            lanes = {
                asyncio.create_task(self._write_what_comes(session), name="historian-live"),
                asyncio.create_task(self._fill_holes(beside), name="historian-backlog"),
            }
            try:
                done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
                for lane in done:
                    lane.result()
            finally:
                for lane in lanes:
                    lane.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)

    async def _write_what_comes(self, session: Session) -> None:
        """Write on at the end of the newest range until all holes are filled."""
        first = True
        while self.held.beyond:
            began_s = self._clock.monotonic()
            async with self._turn:
                if not self.held.beyond:
                    return
                portion = await self._next(self.held.newest, beyond=self.held.beyond[-1].after)
                full = portion is not None and portion.is_full(self._settings.batch_rows)
                if portion is not None and full and first and self._is_behind(portion):
                    # The database was away again meanwhile: that is a hole more.
                    await self._begin_range(session)
                    portion = await self._next(self.held.newest, beyond=self.held.newest)
                first = False
                if portion is not None:
                    writes_s = self._clock.monotonic()
                    await self._hand_over(session, portion, await session.pack(portion))
                    self._pace.wrote_beside(self._clock.monotonic() - writes_s)
            if portion is None:
                await self._wait_for_news(session)
            elif not full:
                await self._rest(began_s)

    async def _fill_holes(self, session: Session) -> None:
        """Write what lies in the holes, oldest first; while one portion is on its way the next is packed."""
        while self.held.beyond:
            portion, packed = await self._ready(session, self.held.cursor)
            while portion is not None:
                ahead = asyncio.create_task(self._ready(session, portion.after))
                try:
                    rows = portion.samples + len(portion.events)
                    await self._clock.sleep(self._pace.pause_s(rows, self._clock.monotonic()))
                    self._note_oldest(portion.events, portion.batches)
                    await self._hand_over(session, portion, packed)
                    self._note_filled(portion)
                    portion, packed = await ahead
                finally:
                    ahead.cancel()
            async with self._turn:
                await session.join(self.held)
                await self._stand_at(self.held.joined())
            if self.first_seq is None:
                self.first_seq = await session.first_seq()

    async def _ready(self, session: Session, before: Cursor) -> tuple[Portion | None, Packed | None]:
        rows_max = self._pace.rows_at_once(self._settings.batch_rows)
        portion = await read_portion(self._journal, before, rows_max=rows_max, up_to=self.held.hole_end)
        return portion, None if portion is None else await session.pack(portion)

    async def _next(self, before: Cursor, *, beyond: Cursor | None = None) -> Portion | None:
        return await read_portion(self._journal, before, rows_max=self._settings.batch_rows, beyond=beyond)

    def _is_behind(self, portion: Portion) -> bool:
        """Whether, after a full portion, at least as much again waits, and another range may be begun."""
        position = self._journal.position
        return len(self.held.beyond) < _RANGES_MAX and (
            position.last_batch - portion.after.batch >= len(portion.batches) > 0
            or position.last_seq - portion.after.seq >= len(portion.events) > 0
        )

    async def _begin_range(self, session: Session) -> None:
        at = Cursor(self._journal.position.last_seq, self._journal.position.last_batch)
        before = self.held.newest
        await session.begin_range(before, at, self.oldest_unsent_at)
        self.held = self.held.begun(at)
        log.info(
            "the database is behind; what comes now is written first, the rest beside it",
            events=at.seq - before.seq,
            batches=at.batch - before.batch,
        )

    async def _rest(self, began_s: float) -> None:
        flush_s = self._settings.flush.total_seconds()
        await self._clock.sleep(max(0.0, began_s + flush_s - self._clock.monotonic()))

    async def _wait_for_news(self, session: Session) -> None:
        """Wait for the journal, and see to it meanwhile that the database is still there.

        Raises:
            CursorMoved: it does not stand where it was left.
            SinkUnavailable, SinkRefused: it is not.
        """
        newest = self.held.newest
        news = asyncio.create_task(self._journal.wait_beyond(newest.seq, newest.batch))
        ended = asyncio.create_task(session.ended())
        try:
            await asyncio.wait({news, ended}, timeout=_PROOF_OF_LIFE_S, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise SinkUnavailable(f"the database {self._place} has ended the connection")
            if news.done():
                await news
            elif not self.held.beyond and await session.held() != self.held:
                raise CursorMoved
        finally:
            for task in (news, ended):
                task.cancel()

    # -- one portion

    async def _hand_over(self, session: Session, portion: Portion, packed: Packed | None) -> None:
        set_aside = 0
        self._doubtful[portion.beyond] = portion
        try:
            await session.write(portion, packed)
        except Refused as refused:
            log.warning("the database refuses a row; looking for it", reason=str(refused))
            set_aside = await self._write_carefully(session, portion)
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
        if self.first_seq is None and portion.events and portion.beyond is None:
            self.first_seq = portion.events[0].seq
        if (books := self._books) is not None:
            now_s = self._clock.monotonic()
            changed = set_aside or portion.missing or now_s >= self._look_at_losses_s
            losses = await session.losses(books.since_batch(SINK)) if changed else None
            if changed:
                self._look_at_losses_s = now_s + _LOSSES_EVERY_S
            books.handed_over(SINK, portion.before.batch + 1, portion.after.batch, portion.batches, losses)
        self.held = self.held.moved(portion.beyond, portion.after)
        self._doubtful.pop(portion.beyond, None)  # only now: until here this lane may be ended by the other
        await self._stand_at(self.held)

    async def _write_carefully(self, session: Session, portion: Portion) -> int:
        try:
            return await session.write_carefully(portion)
        except Refused as refused:  # by no row: at its COMMIT, or in a table of ours
            raise SinkRefused(
                f"the database {self._place} refuses the whole transaction: {refused}",
                hint="look for a deferred constraint or a trigger that was added to the tables in the schema "
                "`andon`; the data waits in the journal",
            ) from refused

    def _note_filled(self, portion: Portion) -> None:
        now_s = self._clock.monotonic()
        self._filled_events.add(portion.after.seq - portion.before.seq, now_s)
        self._filled_batches.add(portion.after.batch - portion.before.batch, now_s)

    async def look_at_oldest(self) -> None:
        """Note since when something waits, for those who ask while the database is away."""
        events = await self._journal.read(self.held.cursor.seq, 1)
        batches = await self._journal.read_batches(self.held.cursor.batch, 1)
        self._note_oldest(events, batches)

    def _note_oldest(self, events: Sequence[Recorded], batches: Sequence[tuple[int, SampleBatch]]) -> None:
        times = [event.recorded_at for event in events[:1]] + [batch.received_at for _, batch in batches[:1]]
        self.oldest_unsent_at = min(times, default=None)
