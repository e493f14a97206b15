"""From the journal into the database, for ever: connect, drain, and try again when it is away.

Where to go on is read from the database, never remembered: rows and cursor move in one transaction there,
so a replayed range changes nothing. No failure of the database ends this; each is named in `status()`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import structlog
from msgspec import structs

from connectors.backoff import Backoff
from connectors.base import Clock
from gateway.accounts.values import Deliveries
from gateway.config.schema import HistorianSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.historian.connection import examine, place_of
from gateway.historian.drain import SINK, Drain
from gateway.historian.keeping import Keeper
from gateway.historian.lanes import Held
from gateway.historian.questions import Questions
from gateway.historian.session import Session, open_session
from gateway.historian.values import EquipmentMeta, ServerInfo, SinkStatus, TagMeta
from gateway.journal import Cursor, Journal
from gateway.together import together

log = structlog.get_logger(__name__)

_REFUSED_PAUSE_S = 30.0


class _Described(Exception):
    """There are other tags or equipment to tell the database of."""


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
        self._tags, self._equipment = tags, equipment
        self._drain = Drain(journal, place=self._place, settings=settings, clock=clock, books=deliveries)
        #: Tags or equipment are others than the present session has told the database.
        self._described = asyncio.Event()
        self._other_streams = False
        self._connected = False
        self._met = asyncio.Event()
        self._last_error: str | None = None
        self._alarm = ""
        self._retry_at: datetime | None = None
        self._server = ""
        self._connects = 0
        #: Rolls samples up and deletes old ones.
        self.keeper = Keeper(
            dsn,
            gateway=gateway,
            settings=settings,
            clock=clock,
            is_connected=lambda: self._connected,
            has_hole=lambda: bool(self._drain.held.beyond),
            oldest_unsent_at=lambda: self._drain.progress().oldest_unsent_at,
        )
        journal.require(SINK, events=True, batches=True)

    @property
    def described(self) -> tuple[Mapping[str, TagMeta], Mapping[str, EquipmentMeta]]:
        """The tags and the equipment the database is told of."""
        return self._tags, self._equipment

    def describe(self, tags: Mapping[str, TagMeta], equipment: Mapping[str, EquipmentMeta]) -> None:
        """Tell the database of other tags and equipment from now on: at once where it is there, which takes
        a connection anew, else when it is."""
        self._tags, self._equipment = tags, equipment
        self._described.set()

    # -- what others may know

    @property
    def drained(self) -> Cursor:
        """What the database certainly holds of this stream without a gap. It may hold later ones as well."""
        return self._drain.held.cursor

    @property
    def reached(self) -> Cursor:
        """The newest of this stream the database holds, perhaps beyond a gap."""
        return self._drain.held.newest

    @property
    def batches_missing(self) -> Sequence[tuple[int, int]]:
        """The batches of this stream that the database may lack: each stretch as `after` and `up_to`."""
        return self._drain.held.batches_missing()

    @property
    def first_seq(self) -> int | None:
        """The first event of this stream the database holds, as far as is known."""
        return self._drain.first_seq

    @property
    def has_other_streams(self) -> bool:
        """Whether the database holds events of an earlier journal of this gateway, as far as is known."""
        return self._other_streams

    def status(self) -> SinkStatus:
        """How it is now."""
        return SinkStatus(
            connected=self._connected,
            last_error=self._last_error,
            alarm=self._alarm,
            retry_at=self._retry_at,
            server=self._server,
            connects=self._connects,
            **structs.asdict(self._drain.progress()),
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
        await self._drain.begin()
        backoff = Backoff()
        keeping = asyncio.create_task(self.keeper.run(), name="historian-upkeep")
        try:
            while True:
                began_s, refused = self._clock.monotonic(), False
                try:
                    await self._run_session()
                except _Described:
                    continue
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
        self._described.clear()
        async with self._open_session() as session:
            self._other_streams = await session.has_other_streams()
            await self._drain.meet(session)
            self._met.set()
            if self._other_streams and self._drain.held == Held():
                log.warning(
                    "the database holds an earlier journal of this gateway; this one begins a new stream",
                    stream=self._journal.stream,
                    journal=str(self._journal.directory),
                    hint="was a backup restored, or the journal moved away? if not, is data_dir mounted?",
                )
            self._greet(session.info)
            await together(self._drain.run(session, self._open_another), self._until_described())

    async def _until_described(self) -> None:
        await self._described.wait()
        raise _Described

    def _open_session(self, *, late: bool = False) -> AbstractAsyncContextManager[Session]:
        return open_session(
            self._dsn,
            place=self._place,
            gateway=self._gateway,
            stream=self._journal.stream,
            settings=self._settings,
            tags=self._tags,
            equipment=self._equipment,
            late=late,
        )

    def _open_another(self) -> AbstractAsyncContextManager[Session]:
        return self._open_session(late=True)

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
        newest = self._drain.held.cursor
        resting = asyncio.create_task(self._clock.sleep(pause_s))
        news = asyncio.create_task(self._journal.wait_beyond(newest.seq, newest.batch))
        try:
            await asyncio.wait({resting, news}, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                await news
                await self._drain.look_at_oldest()
            await resting
        finally:
            resting.cancel()
            news.cancel()
