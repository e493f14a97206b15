"""A lane that is ended between its COMMIT and noting it is no other gateway."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.accounts.keeper import Accounts
from gateway.accounts.values import Losses
from gateway.clock import SystemClock
from gateway.historian import Historian
from gateway.historian.session import CursorMoved, Session
from tests.gateway.historian.databases import (
    EQUIPMENT,
    TAGS,
    Database,
    drained,
    historian_settings,
    running,
    until,
)
from tests.gateway.journal.builders import ManualClock, batch, kept_house, opened, transition


async def test_a_commit_nobody_noted_is_our_own(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, asked = Session.losses, 0

    async def losses(session: Session, since_batch: int) -> Losses:
        nonlocal asked
        asked += 1
        if asked == 2:  # the first after a COMMIT: here the other lane says that its range has moved
            raise CursorMoved
        return await found(session, since_batch)

    monkeypatch.setattr(Session, "losses", losses)
    clock = SystemClock()
    async with opened(tmp_path) as journal:
        accounts = await Accounts.open(journal, clock)
        historian = Historian(
            database.dsn,
            journal=journal,
            gateway="line-1",
            settings=historian_settings(database.dsn),
            clock=clock,
            tags=TAGS,
            equipment=EQUIPMENT,
            deliveries=accounts,
        )
        task = asyncio.create_task(historian.run())
        await journal.append([transition(1)], [batch(1)])
        await until(lambda: asked >= 3)
        await journal.append([transition(2)], [batch(2)])
        await drained(historian, journal)
        assert historian.status().moved_by_others == 0
        assert accounts.books.total("historian").delivered == 6
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await database.value("SELECT count(*) FROM andon.sample") == 6


async def test_books_that_begin_anew_leave_out_what_was_set_aside_before(
    database: Database, tmp_path: Path
) -> None:
    """Else more would be set aside than was handed over."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0), segment_bytes=60_000) as journal:
        accounts = await Accounts.open(journal, clock)
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().connected)
            await database.do("ALTER TABLE andon.sample ADD CONSTRAINT odd CHECK (quality = 7) NOT VALID")
            await journal.append([], [batch(1)])
            await drained(historian, journal)
            await database.do("ALTER TABLE andon.sample DROP CONSTRAINT odd")
            last = 1
            while journal.position.first_batch == 1:
                first, last = last + 1, last + 50
                for n in range(first, last + 1):
                    await journal.append([transition(n)], [batch(n, 20)])
                await drained(historian, journal)
                await accounts.close()  # kept, so that they need nothing of the journal
                if journal.stats().segments > 2:
                    await kept_house(journal, clock, lambda: journal.position.first_batch > 1)
        historian = Historian(
            database.dsn,
            journal=journal,
            gateway="line-1",
            settings=historian_settings(database.dsn),
            clock=SystemClock(),
            tags=TAGS,
            equipment=EQUIPMENT,
            deliveries=accounts,
        )
        task = asyncio.create_task(historian.run())
        await until(lambda: historian.status().connected)
        assert min(line.delivered for line in accounts.books.lines("historian").values()) == 0
        await journal.append([], [batch(last + 1)])
        await drained(historian, journal)
        line = accounts.books.total("historian")
        assert (line.recorded, line.delivered, line.set_aside, line.difference) == (3, 3, 0, 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
