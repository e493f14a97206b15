"""The numbered migrations end at the schema people read, once, whoever else migrates at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from gateway.errors import SinkRefused
from gateway.historian.migrate import inspect, migrate, migrations, use_timescale
from gateway.journal.sqlfile import read_sql
from tests.gateway.historian.databases import Database

COLUMNS = """
SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_schema = 'andon' ORDER BY 1, 3
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'andon' ORDER BY 1, 2"
CONSTRAINTS = """
SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'andon'::regnamespace ORDER BY 1, 2, 3
"""
VIEWS = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'andon' ORDER BY 1"


async def shape(database: Database) -> Sequence[Any]:
    return [
        [tuple(row) for row in await database.rows(sql)] for sql in (COLUMNS, INDEXES, CONSTRAINTS, VIEWS)
    ]


async def migrated(database: Database) -> list[int]:
    connection = await database.connect()
    try:
        return await migrate(connection)
    finally:
        await connection.close()


async def test_the_migrations_end_at_the_schema(database: Database) -> None:
    await database.do(read_sql("gateway.historian", "sql/schema.sql"))
    wanted = await shape(database)
    await database.do("DROP SCHEMA andon CASCADE")
    assert await migrated(database) == [step.number for step in migrations()]
    assert await shape(database) == wanted
    assert len(wanted[0]) > 60


async def test_every_key_column_is_not_null(database: Database) -> None:
    await migrated(database)
    loose = await database.rows("""
        SELECT a.attrelid::regclass, a.attname FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        JOIN pg_class AS c ON c.oid = i.indrelid
        WHERE c.relnamespace = 'andon'::regnamespace AND NOT a.attnotnull
    """)
    assert loose == []


async def test_several_gateways_may_start_at_once(database: Database) -> None:
    done = await asyncio.gather(*(migrated(database) for _ in range(5)))
    assert sorted(done) == [[], [], [], [], [step.number for step in migrations()]]


async def test_a_newer_database_is_left_alone(database: Database) -> None:
    await migrated(database)
    await database.do("INSERT INTO andon.migration (number, name) VALUES (999, 'from_the_future')")
    with pytest.raises(SinkRefused, match="999"):
        await migrated(database)


async def test_a_migration_that_fails_leaves_the_old_shape(database: Database) -> None:
    await database.do("CREATE SCHEMA andon", "CREATE TABLE andon.set_aside (in_the_way integer)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrated(database)
    assert await database.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'andon'") == 1
    await database.do("DROP TABLE andon.set_aside")
    await migrated(database)


async def test_samples_are_a_hypertable_where_the_server_can(database: Database) -> None:
    connection = await database.connect()
    try:
        await migrate(connection)
        for _ in range(2):
            info = await use_timescale(connection, await inspect(connection))
        if not info.timescale:
            assert (
                await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
                == 0
            )
            return
        found = await connection.fetch(
            "SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables"
        )
        assert [tuple(row) for row in found] == [("sample", info.policies)]
    finally:
        await connection.close()
