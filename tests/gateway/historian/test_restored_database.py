"""A database that was put back from a backup: the gateway goes on from where that ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from gateway.journal import Journal
from tests.gateway.historian.databases import PATIENCE_S, Database, drained, running
from tests.gateway.journal.builders import batch, opened, transition


async def test_what_the_journal_still_holds_is_written_again(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await journal.append([transition(n) for n in (1, 2)], [batch(1)])
            await drained(historian, journal)
            [early] = await database.rows("SELECT seq, batch FROM andon.sink_cursor")
            await journal.append([transition(n) for n in (3, 4, 5)], [batch(2), batch(3)])
            await drained(historian, journal)
        await database.do(
            f"DELETE FROM andon.transition WHERE seq > {early['seq']}",
            "DELETE FROM andon.sample WHERE at > (SELECT min(at) FROM andon.sample)",
            f"UPDATE andon.sink_cursor SET seq = {early['seq']}, batch = {early['batch']}",
        )
        async with running(journal, database.dsn) as historian:
            await historian.met()
            await drained(historian, journal)
            assert await database.value("SELECT array_agg(seq ORDER BY seq) FROM andon.transition") == [
                1,
                2,
                3,
                4,
                5,
            ]
            assert await database.value("SELECT count(*) FROM andon.sample") == 9
            assert await database.value("SELECT count(*) FROM andon.set_aside") == 0


async def test_what_was_emptied_under_a_running_gateway_is_written_again(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(n) for n in (1, 2)], [batch(1)])
        await drained(historian, journal)
        await database.do("BEGIN; DELETE FROM andon.sink_cursor; DELETE FROM andon.sample; COMMIT")
        await journal.append([transition(3)], [batch(2)])
        await at_the_end(database, journal)
        assert await database.value("SELECT array_agg(seq ORDER BY seq) FROM andon.transition") == [1, 2, 3]
        assert await database.value("SELECT count(*) FROM andon.sample") == 6
        assert historian.status().moved_by_others == 1


async def test_a_backup_put_back_under_a_running_gateway_gets_samples_under_its_own_numbers_of_tags(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await database.do(
            "BEGIN; TRUNCATE andon.transition, andon.sample, andon.sink_cursor, andon.equipment, andon.tag "
            "RESTART IDENTITY; INSERT INTO andon.tag (gateway, connection, name, tag, unit, kind) "
            "SELECT 'line-1', 'plc', 'other-' || n, 'plc/other-' || n, '', '' "
            "FROM generate_series(1, 20) AS n; COMMIT"
        )
        await journal.append([transition(2)], [batch(2)])
        await at_the_end(database, journal)
        assert await database.value("SELECT array_agg(seq ORDER BY seq) FROM andon.transition") == [1, 2]
        assert await database.value("SELECT count(*) FROM andon.sample") == 6
        assert await database.value(
            "SELECT array_agg(DISTINCT name ORDER BY name) FROM andon.sample JOIN andon.tag USING (tag_id)"
        ) == ["tag-0", "tag-1", "tag-2"]
        assert await database.value("SELECT array_agg(equipment) FROM andon.equipment") == ["filler-1"]


async def test_a_cursor_that_cannot_be_moved_is_told_and_not_tried_without_a_pause(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await database.do(
            "CREATE FUNCTION andon.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER nothing BEFORE UPDATE ON andon.sink_cursor "
            "FOR EACH ROW EXECUTE FUNCTION andon.nothing()",
        )
        await journal.append([transition(2)], [batch(2)])
        async with asyncio.timeout(PATIENCE_S):
            while historian.status().alarm != "refused":
                await asyncio.sleep(0.01)
        status = historian.status()
        assert not status.connected
        assert "does not let its cursor be moved" in str(status.last_error)
        assert "row security" in str(status.last_error)


async def test_a_journal_that_begins_where_the_database_knows_an_earlier_one_is_told_once(
    database: Database, tmp_path: Path
) -> None:
    told = "the database holds an earlier journal of this gateway"
    with capture_logs() as lines:
        async with opened(tmp_path / "one") as journal, running(journal, database.dsn) as historian:
            await journal.append([transition(1)], [batch(1)])
            await drained(historian, journal)
    assert not [line for line in lines if told in line["event"]]
    async with opened(tmp_path / "two") as journal:  # the disk of the first was not mounted
        for times in (1, 0):
            with capture_logs() as lines:
                async with running(journal, database.dsn) as historian:
                    await journal.append([transition(journal.position.last_seq + 1)], [batch(2)])
                    await drained(historian, journal)
            assert len([line for line in lines if told in line["event"]]) == times


async def at_the_end(database: Database, journal: Journal) -> None:
    """Return when the cursor in the database is where the journal is."""
    async with asyncio.timeout(PATIENCE_S):
        while (rows := await database.rows("SELECT seq, batch FROM andon.sink_cursor")) != [
            (journal.position.last_seq, journal.position.last_batch)
        ]:
            await asyncio.sleep(0.02)
            assert len(rows) <= 1
