"""A database that refuses a transaction for no row of it: the data waits, and the gateway goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.historian.databases import Database, drained, running, until
from tests.gateway.journal.builders import batch, opened, transition

REFUSE = """
CREATE FUNCTION andon.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not so'; END $$
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON andon.transition DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION andon.refuse()
"""
OTHERS = "CREATE TRIGGER refuse BEFORE {} ON andon.{} FOR EACH ROW EXECUTE FUNCTION andon.refuse()"


@pytest.mark.parametrize(
    ("table", "trigger"),
    [
        ("transition", AT_COMMIT),
        ("sink_cursor", OTHERS.format("UPDATE", "sink_cursor")),
        ("hour_due", OTHERS.format("INSERT", "hour_due")),
        ("equipment", OTHERS.format("INSERT", "equipment")),
    ],
)
async def test_a_transaction_refused_for_no_row_of_it_waits_until_it_is_taken(
    database: Database, tmp_path: Path, table: str, trigger: str
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await database.do(REFUSE, trigger, "DELETE FROM andon.hour_due")
        await journal.append([transition(2, "filler-2")], [batch(2)])
        await until(lambda: historian.status().alarm == "refused")
        assert "not so" in (historian.status().last_error or "")
        assert await database.value("SELECT count(*) FROM andon.set_aside") == 0
        await database.do(f"DROP TRIGGER refuse ON andon.{table}")
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await drained(historian, journal)
    assert await database.rows("SELECT seq FROM andon.transition ORDER BY 1") == [(1,), (2,)]
    assert await database.value("SELECT count(*) FROM andon.sample") == 6
