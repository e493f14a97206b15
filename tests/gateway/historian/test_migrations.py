"""The numbered migrations end at the schema people read, once, whoever else migrates at the same time.

Each can be taken back, and whenever a connection ends, the shape is that before a step or the one after.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.errors import SinkRefused
from gateway.historian.migrate import applied, inspect, migrate, migrations, use_timescale
from gateway.journal.sqlfile import read_sql
from tests.gateway.historian.databases import Database, historian_settings

#: By place, for a column that was taken away leaves a hole in the numbers.
COLUMNS = """
SELECT table_name, column_name, row_number() OVER (PARTITION BY table_name ORDER BY ordinal_position),
    data_type, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_schema = 'andon' ORDER BY 1, 3
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'andon' ORDER BY 1, 2"
CONSTRAINTS = """
SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'andon'::regnamespace ORDER BY 1, 2, 3
"""
VIEWS = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'andon' ORDER BY 1"
ROUTINES = """
SELECT p.proname::text, pg_get_function_identity_arguments(p.oid), p.prokind::text, p.prosrc
FROM pg_proc AS p WHERE pronamespace = 'andon'::regnamespace ORDER BY 1, 2
"""
TRIGGERS = """
SELECT tgname, pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
WHERE c.relnamespace = 'andon'::regnamespace AND NOT tgisinternal ORDER BY 1, 2
"""
CATALOGUE = (COLUMNS, INDEXES, CONSTRAINTS, VIEWS, ROUTINES, TRIGGERS)
NEWEST = len(migrations())
STREAM = UUID("11111111-1111-4111-8111-111111111111")


async def shape(database: Database) -> Sequence[Any]:
    connection = await database.connect()
    try:
        return [[tuple(row) for row in await connection.fetch(sql)] for sql in CATALOGUE]
    finally:
        await connection.close()


async def migrated(database: Database, to: int | None = None) -> list[int]:
    connection = await database.connect()
    try:
        return await migrate(connection, to)
    finally:
        await connection.close()


async def test_the_migrations_end_at_the_schema(database: Database) -> None:
    await database.do(read_sql("gateway.historian", "sql/schema.sql"))
    wanted = await shape(database)
    await database.do("DROP SCHEMA andon CASCADE")
    assert await migrated(database) == [step.number for step in migrations()]
    assert await shape(database) == wanted
    assert len(wanted[0]) > 60


@pytest.mark.timeout(400)
async def test_every_step_can_be_taken_back_and_made_again(database: Database) -> None:
    shapes = {}
    for number in range(NEWEST + 1):
        await migrated(database, number)
        shapes[number] = await shape(database)
    for number in range(NEWEST - 1, -1, -1):
        assert await migrated(database, number) == [number + 1]
        assert await shape(database) == shapes[number], f"taken back to {number}"
        await migrated(database)
        assert await shape(database) == shapes[NEWEST], f"made again from {number}"
        assert await migrated(database, number) == list(range(NEWEST, number, -1))
        assert await shape(database) == shapes[number], f"taken back to {number} at once"
    assert await database.value("SELECT count(*) FROM andon.migration") == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("down", [False, True])
async def test_a_connection_lost_at_any_moment_leaves_one_shape_or_the_next(
    database: Database, down: bool
) -> None:
    shapes = []
    for number in range(NEWEST + 1):
        await migrated(database, number)
        shapes.append(await shape(database))
    begin, end = (NEWEST, 0) if down else (0, NEWEST)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await migrated(database, 0)
    await migrated(database)
    whole_s = (loop.time() - began_s) / 2
    seen: set[int] = set()
    rolled = random.Random(4)
    times = 0
    while times < 20 or (len(seen) < 2 and times < 100):
        times += 1
        await migrated(database, begin)
        connection = await database.connect()
        work = asyncio.create_task(migrate(connection, end))
        await asyncio.wait({work}, timeout=rolled.uniform(0, whole_s))
        whole_s *= 0.8 if work.done() else 1.1  # the machine may have been slower, or quicker, than it is now
        connection.terminate()  # no farewell: to the server as if the process was killed
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await work
        await database.disconnect_others()
        found = await shape(database)
        assert found in shapes, "between two shapes"
        number = shapes.index(found)
        rows = await database.rows("SELECT number FROM andon.migration ORDER BY 1")
        assert [row[0] for row in rows] == list(range(1, number + 1))
        seen.add(number)
    assert len(seen) > 1, "the line was always cut at the same place"


async def test_rows_of_the_released_shape_stay(database: Database) -> None:
    """Up from the shape that was released, with data in it, and back: nothing that has a place is lost."""
    await migrated(database, 2)
    at = datetime(2026, 11, 22, 3, tzinfo=UTC)
    await fill(database, at)
    before = await contents(database)
    await migrated(database)
    assert await contents(database) == before
    await migrated(database, 2)
    assert await contents(database) == before
    await migrated(database, 1)
    told = await database.rows(
        "SELECT type, first, body FROM andon.set_aside WHERE kind = 'event' ORDER BY first"
    )
    assert [tuple(row) for row in told] == [("device_event", 3, '{"seq":3,  "kept": "to the byte"}')]
    await migrated(database)
    assert await database.value("SELECT count(*) FROM andon.transition") == 1


async def fill(database: Database, at: datetime) -> None:
    """A row in each table of the released shape."""
    connection = await database.connect()
    try:
        await connection.execute(
            "INSERT INTO andon.tag (gateway, tag, connection, name, unit, kind) "
            "VALUES ('line-1', 'plc/speed', 'plc', 'speed', '1/min', 'float')"
        )
        await connection.executemany(
            "INSERT INTO andon.sample (tag_id, quality, at, received_at, value) "
            "SELECT tag_id, 0, $1::timestamptz, $1, $2 FROM andon.tag",
            [(at.replace(minute=minute), float(minute)) for minute in range(30)],
        )
        await connection.execute(
            "INSERT INTO andon.equipment VALUES ('line-1', 'filler-1', 'a/l/f', 'packml', $1)", at
        )
        await connection.execute(
            "INSERT INTO andon.transition VALUES "
            "('line-1', $1, 1, 'filler-1', 'a/l/f', 'packml', 1, '', 'Idle', 4, 'standby', $2, $2, 0, "
            "'legal', '{}', '{}')",
            *(STREAM, at),
        )
        await connection.execute(
            "INSERT INTO andon.source_event VALUES "
            "('line-1', $1, 2, 'source_lost', 'plc', '', $2, NULL, $2, 'gone', '{}')",
            *(STREAM, at),
        )
        await connection.execute(
            "INSERT INTO andon.device_event VALUES "
            "('line-1', $1, 3, 'plc', 'event', 'pump', 500, 'hot', 'x', '', '', "
            "NULL, NULL, NULL, false, $2, $2, $2, $2, $3)",
            *(STREAM, at, '{"seq":3,  "kept": "to the byte"}'),
        )
        await connection.execute(
            "INSERT INTO andon.sink_cursor VALUES ('line-1', $1, 3, 9, $2, $2)", STREAM, at
        )
        await connection.execute(
            "INSERT INTO andon.set_aside "
            "(gateway, stream, kind, type, numbering, first, last, sqlstate, reason, body) "
            "VALUES ('line-1', $1, 'sample', '', 'batch', 9, 9, '23514', 'no', '{}')",
            STREAM,
        )
    finally:
        await connection.close()


async def contents(database: Database) -> Sequence[Any]:
    """All rows of the tables of the released shape, by the columns they had."""
    asked = (
        "SELECT * FROM andon.tag_sample ORDER BY at",
        "SELECT * FROM andon.current_state",
        "SELECT * FROM andon.source_event",
        "SELECT * FROM andon.device_event",
        "SELECT gateway, stream, seq, batch, began_at, moved_at FROM andon.sink_cursor",
        "SELECT kind, numbering, first, last, sqlstate, reason, body, set_aside_at FROM andon.set_aside",
    )
    return [[tuple(row) for row in await database.rows(sql)] for sql in asked]


async def test_every_key_column_is_not_null(database: Database) -> None:
    await migrated(database)
    loose = await database.rows("""
        SELECT a.attrelid::regclass, a.attname FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid
            AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1])
        JOIN pg_class AS c ON c.oid = i.indrelid
        WHERE c.relnamespace = 'andon'::regnamespace AND NOT a.attnotnull
    """)
    assert loose == []


async def test_several_gateways_may_start_at_once(database: Database) -> None:
    done = await asyncio.gather(*(migrated(database) for _ in range(5)))
    assert sorted(number for numbers in done for number in numbers) == [step.number for step in migrations()]


async def test_a_newer_database_is_left_alone_and_says_who_takes_it_back(database: Database) -> None:
    await migrated(database)
    await database.do(
        "CREATE TABLE andon.future (x integer)",
        "INSERT INTO andon.migration (number, name, version) "
        f"VALUES ({NEWEST + 1}, 'from_the_future', '9.9.0')",
    )
    with pytest.raises(SinkRefused, match=str(NEWEST + 1)) as refused:
        await migrated(database)
    command = f"`andon database migrate CONFIG --to {NEWEST}` of version 9.9.0"
    assert "9.9.0" in refused.value.reason
    assert command in refused.value.hint
    assert "this version" not in refused.value.hint
    with pytest.raises(SinkRefused, match="how to take it back"):
        await migrated(database, NEWEST)
    assert await database.value("SELECT to_regclass('andon.future') IS NOT NULL")


async def test_an_older_gateway_takes_a_newer_database_back_by_what_is_written_in_it(
    database: Database,
) -> None:
    await migrated(database)
    wanted = await shape(database)
    await database.do(
        "CREATE TABLE andon.future (x integer)",
        "INSERT INTO andon.migration (number, name, version, down) "
        f"VALUES ({NEWEST + 1}, 'from_the_future', '9.9.0', 'DROP TABLE andon.future')",
    )
    with pytest.raises(SinkRefused) as refused:
        await migrated(database)
    assert "this version can do it as well" in refused.value.hint
    assert await migrated(database, NEWEST) == [NEWEST + 1]
    assert await shape(database) == wanted
    assert await migrated(database) == []


async def test_every_step_has_its_way_back_in_the_database(database: Database) -> None:
    await migrated(database, 2)
    await migrated(database)
    connection = await database.connect()
    try:
        seen = await applied(connection)
    finally:
        await connection.close()
    assert [(step.number, step.name, step.down) for step in seen] == [
        (step.number, step.name, step.down) for step in migrations()
    ]
    assert all(step.version for step in seen[2:])


async def test_there_is_no_step_of_that_number(database: Database) -> None:
    for number in (-1, NEWEST + 1):
        with pytest.raises(ValueError, match=f"no migration {number}"):
            await migrated(database, number)


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
        settings = historian_settings(database.dsn)
        for _ in range(2):
            info = await use_timescale(connection, await inspect(connection), settings)
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
