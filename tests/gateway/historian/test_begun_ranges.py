"""A range whose beginning got no answer and took effect only later is found, and nothing is written twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.historian.migrate import SQL
from tests.gateway.historian.databases import Database, drained, running, until
from tests.gateway.journal.builders import batch, opened, transition


async def test_a_range_that_was_begun_after_all(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server waits for its standby: the connection is gone, the transaction is not."""
    monkeypatch.setattr("gateway.historian.drain._PROOF_OF_LIFE_S", 0.1)
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await journal.append([transition(1)], [batch(1)])
            await drained(historian, journal)
        for n in range(2, 101):
            await journal.append([transition(n)], [batch(n)])
        lost = await database.connect()
        await lost.execute("BEGIN")
        await lost.fetchval("SELECT true FROM andon.sink_cursor FOR UPDATE")
        assert await lost.fetchval(SQL["begin_range"], "line-1", journal.stream, 1, 1, 100, 100, None)
        for n in range(101, 201):
            await journal.append([transition(n)], [batch(n)])
        async with running(journal, database.dsn, batch_rows=30, backlog_rate=0) as historian:
            await until(lambda: historian.status().connected)
            waits = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while not await database.value(waits):
                assert not await database.value("SELECT count(*) FROM andon.sink_range")
            await lost.execute("COMMIT")
            await lost.close()
            await drained(historian, journal)
            await until(lambda: not historian._drain.held.beyond)
            await journal.append([transition(201)], [batch(201)])
            await drained(historian, journal)
            assert historian.status().moved_by_others <= 1
    assert await database.value("SELECT count(*) FROM andon.transition") == 201
    assert await database.value("SELECT count(*) FROM andon.sample") == 3 * 201
    assert await database.rows("SELECT * FROM andon.sink_range") == []


async def test_a_range_that_was_begun_where_all_is_written_already_is_none(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.historian.drain._PROOF_OF_LIFE_S", 0.1)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        for n in range(1, 51):
            await journal.append([transition(n)], [batch(n)])
        await drained(historian, journal)
        await database.do(
            "INSERT INTO andon.sink_range (gateway, stream, after_seq, after_batch, seq, batch) "
            "SELECT gateway, stream, 20, 20, 20, 20 FROM andon.sink_cursor"
        )
        await journal.append([transition(51)], [batch(51)])
        await drained(historian, journal)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(52)], [batch(52)])
        await drained(historian, journal)
    assert await database.value("SELECT count(*) FROM andon.sample") == 3 * 52
