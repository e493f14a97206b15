"""A lane that is ended between its COMMIT and noting it is no other gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.accounts.keeper import Accounts
from gateway.accounts.values import Losses
from gateway.clock import SystemClock
from gateway.historian import Historian
from gateway.historian.session import CursorMoved, Session
from tests.gateway.historian.databases import EQUIPMENT, TAGS, Database, drained, historian_settings, until
from tests.gateway.journal.builders import batch, opened, transition


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
