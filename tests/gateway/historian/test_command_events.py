"""Commands and anchors of the audit trail in the database: told again word for word, kept on the way back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gateway.historian.migrate import migrate, migrations
from statemodel.records import read_told
from statemodel.types import AuditAnchor, CommandStatus, CommandTold
from tests.gateway.historian.databases import Database, drained, running
from tests.gateway.journal.builders import START, opened, transition

EVENTS = (
    CommandTold(
        *("c-1", "filler-1", "area/line/filler-1", "plc/sp", "", 90.5, "anna", "rest"),
        *(CommandStatus.ACCEPTED, START + timedelta(seconds=1)),
        key="k",
    ),
    CommandTold(
        *("c-1", "filler-1", "area/line/filler-1", "plc/sp", "", 90.5, "anna\x00", "rest"),
        *(
            CommandStatus.MISMATCH,
            START + timedelta(seconds=2),
            "read_back",
            "read 80",
            True,
            "berta",
            True,
            "k",
        ),
    ),
    CommandTold("c-2", "", "", "", "Start", None, "bo", "mqtt", CommandStatus.REFUSED, START, "not_allowed"),
    AuditAnchor(7, "00ff", "ab", "key-1", START),
)


async def test_they_are_told_again_as_they_were(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        made = await journal.append([transition(1), *EVENTS])
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
            assert await historian.events_after(0, 10) == list(made)
            assert await historian.events_after(2, 2) == list(made[2:4])
    rows = await database.rows("SELECT * FROM andon.command ORDER BY seq")
    assert [(r["status"], r["value"], r["read"], r["dry_run"]) for r in rows] == [
        ("accepted", "90.5", None, False),
        ("mismatch", "90.5", "True", True),
        ("refused", None, None, False),
    ]
    assert rows[1]["requested_by"] == "anna\ufffd"
    (anchor,) = await database.rows("SELECT * FROM andon.audit_anchor")
    assert (anchor["n"], anchor["hash"], anchor["signature"], anchor["key"]) == (7, "00ff", "ab", "key-1")
    assert await database.value("SELECT count(*) FROM andon.equipment WHERE equipment = ''") == 0


async def test_the_way_back_keeps_all_of_them(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        made = await journal.append(EVENTS)
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    number = next(step.number for step in migrations() if step.name == "commands")
    connection = await database.connect()
    try:
        await migrate(connection, to=number - 1)
    finally:
        await connection.close()
    rows = await database.rows("SELECT first, type, body FROM andon.set_aside ORDER BY first")
    assert [read_told(row["body"].encode(), row["type"]) for row in rows] == list(made)
    assert await database.value("SELECT to_regclass('andon.command') IS NULL")
    assert await database.value("SELECT to_regclass('andon.audit_anchor') IS NULL")
