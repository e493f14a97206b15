"""What is done to samples once they are there: rolled up by the hour, and deleted when they are old.

By the gateway's own hand on every server, so that the answers are the same everywhere and no sample goes
before its hour is rolled up. Whole chunks go where TimescaleDB has them and the database is ours alone; else
rows, cut into slices of time so that no statement is long. Transitions stay for ever. Knows no journal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import structlog

from connectors.base import Clock
from gateway.config.schema import HistorianSettings
from gateway.errors import SinkRefused, SinkUnavailable
from gateway.historian.connection import connect
from gateway.historian.failures import DATABASE_ERRORS
from gateway.historian.migrate import SQL, inspect
from gateway.historian.rollups import HOUR, hour_of
from gateway.historian.values import ServerInfo

log = structlog.get_logger(__name__)

_SLICE = timedelta(hours=6)
#: How often it is looked whether an hour is due, and old samples are deleted.
_ROUND_S, _RETENTION_EVERY_S = 60.0, 3600.0
#: An hour is rolled up when nothing has been written to it for so long; before that the view makes it.
QUIET = timedelta(seconds=30)
#: Tags rolled up by one statement, and hours looked for at once.
_TAGS, _HOURS = 50, 100
_STATEMENT_S = 600.0

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class Deleted(msgspec.Struct, frozen=True):
    """What went: samples, how many whole chunks they were in (0 when rows were deleted), and hours."""

    samples: int = 0
    chunks: int = 0
    hours: int = 0


class Keeper:
    """Keeps the samples of one gateway. `run` is its one task; `is_connected` says whether it makes sense.

    `has_hole` says whether stretches of the present journal are missing before what the database holds, and
    `oldest_unsent_at` since when something waits: nothing is deleted then that what comes late belongs to.
    """

    def __init__(
        self,
        dsn: str,
        *,
        gateway: str,
        settings: HistorianSettings,
        clock: Clock,
        is_connected: Callable[[], bool],
        has_hole: Callable[[], bool] = lambda: False,
        oldest_unsent_at: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._dsn, self._gateway, self._settings, self._clock = dsn, gateway, settings, clock
        self._is_connected = is_connected
        self._has_hole, self._oldest_unsent_at = has_hole, oldest_unsent_at
        self._told_waiting = False

    async def run(self) -> None:
        """Work until cancelled. A database that is away is left in peace."""
        deleted_s: float | None = None
        while True:
            if self._is_connected():
                now_s = self._clock.monotonic()
                retains = deleted_s is None or now_s - deleted_s >= _RETENTION_EVERY_S
                if await self.round(self._clock.now(), retains=retains) and retains:
                    deleted_s = now_s
            await self._clock.sleep(_ROUND_S)

    async def round(self, now: datetime, *, retains: bool = True, quiet: timedelta = QUIET) -> bool:
        """Roll up what is due and, where it is set, delete what is old; says whether the database let us."""
        try:
            connection = await connect(self._dsn, self._settings, f"andon {self._gateway} upkeep")
            try:
                await self.roll_up(connection, hour_of(now), quiet)
                if retains:
                    await self._delete(connection, now)
            finally:
                connection.terminate()
        except (SinkUnavailable, SinkRefused, *DATABASE_ERRORS) as error:
            log.warning("samples could not be rolled up or deleted; trying again later", reason=str(error))
            return False
        return True

    async def roll_up(self, connection: Connection, before: datetime, quiet: timedelta = QUIET) -> int:
        """Roll up the hours that begin before an instant and rest; says how many."""
        done = 0
        after: datetime | None = None
        while True:
            due = await connection.fetch(SQL["hours_due"], self._gateway, after, before, quiet, _HOURS)
            for row in due:
                began_s = self._clock.monotonic()
                await roll_up_hour(connection, self._gateway, row["hour"], row["touched"])
                after = row["hour"]
                done += 1
                # After an upgrade there are many: half of the server's time is for others.
                await self._clock.sleep(min(self._clock.monotonic() - began_s, 60.0))
            if len(due) < _HOURS:
                return done

    def _waits(self, now: datetime) -> str:
        """Why nothing may be deleted yet; empty when it may."""
        limits = [self._settings.retention, self._settings.rollup_retention]
        newest = max((now - limit for limit in limits if limit is not None), default=None)
        if newest is None:
            return ""
        if self._has_hole():
            return "samples of an outage are still on their way to the database"
        oldest = self._oldest_unsent_at()
        if oldest is not None and oldest < newest:
            return f"samples since {oldest.isoformat()} are not in the database yet"
        return ""

    async def _delete(self, connection: Connection, now: datetime) -> None:
        if waits := self._waits(now):
            if not self._told_waiting:
                log.warning("old samples are not deleted yet", reason=waits)
            self._told_waiting = True
            return
        self._told_waiting = False
        if (retention := self._settings.retention) is not None:
            info = await inspect(connection)
            deleted = await delete_old_samples(connection, info, self._gateway, now - retention)
            if deleted.samples or deleted.chunks:
                log.info(
                    "old samples deleted; their hours are kept",
                    before=hour_of(now - retention),
                    samples=deleted.samples,
                    chunks=deleted.chunks,
                )
        if (retention := self._settings.rollup_retention) is not None:
            hours = await delete_old_hours(connection, self._gateway, now - retention)
            if hours:
                log.info("old hours deleted", before=now - retention, hours=hours)


async def roll_up_hour(connection: Connection, gateway: str, hour: datetime, touched: int) -> None:
    """Make the rows of one hour again. What is written to it meanwhile leaves it due.

    Rows whose samples have been deleted stay as they are.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    ids = [row["tag_id"] for row in await connection.fetch(SQL["tags_of"], gateway)]
    for at in range(0, len(ids), _TAGS):
        await connection.execute(SQL["roll_up"], gateway, ids[at : at + _TAGS], hour, timeout=_STATEMENT_S)
    await connection.execute(SQL["hour_is_done"], gateway, hour, touched)


async def delete_old_samples(
    connection: Connection, info: ServerInfo, gateway: str, before: datetime
) -> Deleted:
    """Delete this gateway's samples older than the hour of an instant, once all their hours are rolled up.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    before = hour_of(before)
    for row in await connection.fetch(SQL["hours_due"], gateway, None, before, timedelta(0), None):
        await roll_up_hour(connection, gateway, row["hour"], row["touched"])
    await connection.execute(SQL["keep_from"], gateway, before)
    if info.timescale and await connection.fetchval(SQL["only_gateway"], gateway):
        samples = await connection.fetchval(SQL["samples_in_old_chunks"], before, timeout=_STATEMENT_S)
        chunks = await connection.fetchval(SQL["drop_old_chunks"], before, timeout=_STATEMENT_S)
        deleted = Deleted(samples if chunks else 0, chunks)
    else:
        deleted = Deleted(await _delete_rows(connection, gateway, before))
    if deleted.samples or deleted.chunks:
        await connection.execute(SQL["note_deleted"], gateway, deleted.samples)
    return deleted


async def _delete_rows(connection: Connection, gateway: str, before: datetime) -> int:
    deleted = 0
    for row in await connection.fetch(SQL["tags_of"], gateway):
        while True:
            oldest: datetime | None = await connection.fetchval(SQL["oldest_sample"], row["tag_id"])
            if oldest is None or oldest >= before:
                break
            done = await connection.execute(
                SQL["delete_samples"], row["tag_id"], min(oldest + _SLICE, before)
            )
            deleted += int(done.split()[-1])
    return deleted


async def delete_old_hours(connection: Connection, gateway: str, before: datetime) -> int:
    """Delete this gateway's hours that ended before an instant; says how many rows.

    Raises:
        asyncpg.PostgresError, OSError: as the connection does.
    """
    done = await connection.execute(SQL["delete_hours"], gateway, before - HOUR, timeout=_STATEMENT_S)
    return int(done.split()[-1])
