"""Noticing another gateway with our id on the same database, and letting it notice us.

Each process tells of itself in `andon.gateway_run` every few seconds and looks whether others do. Gateways
too old to tell of themselves are known by the cursors they move. This only tells people: recording goes on,
since nobody here can know which of the two is the right one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import structlog

from connectors.base import Clock
from gateway.errors import GatewayError
from gateway.historian.connection import Readers
from gateway.journal.sqlfile import read_statements
from gateway.reconcile.signs import Sign, Signs, sign_of_cursor, sign_of_run

log = structlog.get_logger(__name__)

SQL = read_statements(__package__, "sql/runs.sql")
#: Time between two looks.
LOOK_EVERY_S = 2.0
#: The same, until the database has been told of this process.
_FIRST_EVERY_S = 0.25
#: Processes remembered of each gateway.
_RUNS_KEPT = 100
_GOODBYE_S_MAX = 2.0
_REMEDY = "stop one of them, or give it an id of its own"


class TwinWatch:
    """Watches for others with our id. `run` is its one task.

    `ready` is whether the database may be asked; `moved` counts how often somebody else moved the cursor of
    this very journal.
    """

    def __init__(
        self,
        readers: Readers,
        *,
        gateway: str,
        stream: str,
        clock: Clock,
        ready: Callable[[], bool],
        moved: Callable[[], int],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._readers, self._gateway, self._stream, self._clock = readers, gateway, stream, clock
        self._ready, self._moved, self._every_s = ready, moved, every_s
        self._run_id, self._started_at = str(uuid4()), clock.now()
        self._signs = Signs()
        self._told = self._tidied = False
        self.others: tuple[str, ...] = ()
        self.noticed_at: datetime | None = None

    def trouble(self) -> str | None:
        """Who else writes as us, in words; None when nobody does."""
        if not self.others:
            return None
        who = "; ".join(self.others)
        return f"another gateway with this id writes to the same database: {who}; {_REMEDY}"

    async def run(self) -> None:
        """Tell and look until cancelled, then say goodbye where the database is there."""
        try:
            while True:
                if self._ready():
                    try:
                        await self.look()
                    except GatewayError as error:
                        self._told = False
                        log.debug("could not look for other gateways", reason=error.reason)
                await self._clock.sleep(self._every_s if self._told else min(self._every_s, _FIRST_EVERY_S))
        finally:
            await self._leave()

    async def look(self) -> None:
        """Tell of ourselves and look for others, once.

        Raises:
            SinkUnavailable, SinkRefused: the database does not answer.
        """
        host, process = socket.gethostname(), os.getpid()
        await self._readers.fetch(
            SQL["tell"], self._gateway, self._run_id, self._stream, host, process, self._started_at
        )
        self._told = True
        if not self._tidied:
            await self._readers.fetch(SQL["forget"], self._gateway, _RUNS_KEPT)
            self._tidied = True
        runs = await self._readers.fetch(SQL["others"], self._gateway, self._run_id)
        told = {row["stream"] for row in runs}
        cursors = await self._readers.fetch(SQL["other_cursors"], self._gateway, self._stream)
        signs = [sign_of_run(dict(row)) for row in runs]
        signs += [sign_of_cursor(dict(row)) for row in cursors if row["stream"] not in told]
        signs.append(Sign("cursor", "somebody moves the cursor of this very journal", self._moved()))
        self._judge(tuple(dict.fromkeys(self._signs.note(signs, self._clock.monotonic()))))

    async def _leave(self) -> None:
        """Say that this process ends, so that the next one is not taken for a second."""
        try:
            if self._told:
                async with asyncio.timeout(_GOODBYE_S_MAX):
                    await self._readers.fetch(SQL["end"], self._gateway, self._run_id)
        except (GatewayError, TimeoutError) as error:
            log.debug("could not tell the database that this process ends", reason=str(error))
        finally:
            self._readers.drop()

    def _judge(self, others: tuple[str, ...]) -> None:
        if others and not self.others:
            self.noticed_at = self._clock.now()
            log.error(
                "another gateway with this id writes to the same database",
                gateway=self._gateway,
                others=list(others),
                hint=_REMEDY,
            )
        elif self.others and not others:
            log.info(
                "the other gateway with this id is gone", gateway=self._gateway, others=list(self.others)
            )
        self.others = others
