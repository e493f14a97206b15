"""A database that was put back from a backup: the gateway goes on from where that ends."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.historian.databases import Database, drained, running
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
