"""Every question about history finds its rows by an index, as the planner itself says after ANALYZE."""

from __future__ import annotations

import asyncpg
import pytest

from gateway.historian.migrate import SQL
from tests.benchmarks import filling, queries
from tests.gateway.historian.databases import Database, historian_settings

_TRANSITIONS, _SAMPLES = 20_000, 100_000


@pytest.fixture
async def filled(database: Database) -> Database:
    """A database with so much in it that reading all of it is never the cheaper plan."""
    connection: asyncpg.Connection[asyncpg.Record] = await database.connect()
    try:
        await filling.fill(
            connection,
            historian_settings(database.dsn, chunk=filling.END - filling.END.replace(day=1, month=8)),
            transitions=_TRANSITIONS,
            samples=_SAMPLES,
            rolled_up=False,
        )
        await connection.execute(
            "INSERT INTO andon.sample_hour SELECT t.tag_id, h.* FROM andon.tag AS t "
            "CROSS JOIN LATERAL andon.hours_of_samples(t.tag_id, '-infinity', 'infinity') AS h"
        )
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return database


async def test_no_question_reads_a_whole_table(filled: Database) -> None:
    connection = await filled.connect()
    try:
        plans = await queries.plans(connection)
    finally:
        await connection.close()
    assert len(plans) == len(queries.QUESTIONS) > 10
    assert {name: bad for name, plan in plans.items() if (bad := queries.whole_tables(plan))} == {}
    assert "Index" in plans["transition_before"]


async def test_a_whole_table_would_be_seen(filled: Database) -> None:
    await filled.do(
        "DROP INDEX andon.transition_by_time, andon.transition_by_seq",
        "DROP INDEX andon.sample_by_tag",
        "ALTER TABLE andon.transition DROP CONSTRAINT transition_pkey",
    )
    connection = await filled.connect()
    try:
        plans = await queries.plans(connection)
    finally:
        await connection.close()
    assert queries.whole_tables(plans["transitions_by_time"])
    assert queries.whole_tables(plans["sample_buckets"])
    assert set(plans) <= set(SQL)
