"""Rows that are gone, changed, doubled or too many are found, and mended only where that does no harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.reconcile import parts
from tests.gateway.historian.databases import Database
from tests.gateway.journal.builders import batch
from tests.gateway.reconcile.plants import Site, kinds, site


async def events_of(database: Database) -> Sequence[tuple[int, str]]:
    rows = await database.rows("SELECT seq, body::text FROM andon.transition ORDER BY seq")
    return [(row[0], row[1]) for row in rows]


async def test_what_agrees_is_left_alone(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(30, samples=40)
        before = await events_of(database)
        report = await at.reconcile(repair=True, full=True)
        assert (report.agree, report.differences, report.left_out) == (True, [], 0)
        assert {part.part: part.compared for part in report.parts} == {
            "memory": 6,
            "states": 3,
            "events": 30,
            "sequence": 3,
            "samples": 40,
        }
        assert all(part.reason is None for part in report.parts)
        assert await events_of(database) == before


@pytest.mark.parametrize("gone", [(7,), (1,), (30,), (28, 29, 30), tuple(range(1, 31)), (2, 11, 23)])
async def test_deleted_rows_are_found_and_written_again_byte_for_byte(
    database: Database, tmp_path: Path, gone: tuple[int, ...]
) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(30)
        before = await events_of(database)
        await database.rows("DELETE FROM andon.transition WHERE seq = ANY($1::bigint[])", list(gone))
        told = await at.reconcile()
        missing = [found for found in told.differences if found.kind == "event_missing"]
        assert [found.place for found in missing] == [f"event {seq}" for seq in gone]
        assert all(found.harmless and found.outcome == "told" for found in missing)
        assert not told.agree
        assert len(await events_of(database)) == 30 - len(gone), "nobody asked for a repair"
        mended = await at.reconcile(repair=True)
        assert mended.agree, mended
        assert {found.outcome for found in mended.differences} == {"repaired"}
        assert await events_of(database) == before
        assert (await at.reconcile()).differences == []


async def test_a_repair_that_does_not_help_is_not_called_one(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(9)
        await database.do(
            "DELETE FROM andon.transition WHERE seq = 5",
            "CREATE FUNCTION andon.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER swallow BEFORE INSERT ON andon.transition "
            "FOR EACH ROW WHEN (new.seq = 5) EXECUTE FUNCTION andon.swallow()",
        )
        report = await at.reconcile(repair=True)
        outcomes = {found.place: found.outcome for found in report.differences}
        assert outcomes["event 5"] == "not repaired"
        assert "repaired" not in outcomes.values()
        assert not report.agree
        assert (at.reconciler.repaired, at.reconciler.unrepaired) == (0, 1)
        assert "event_missing" in (at.reconciler.trouble() or "")


async def test_a_changed_body_is_told_and_never_overwritten(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(30)
        await database.do(
            "UPDATE andon.transition SET body = replace(body::text, 'packml', 'packm1')::json WHERE seq = 12"
        )
        before = await events_of(database)
        for _ in range(2):
            report = await at.reconcile(repair=True)
            assert kinds(report) == [("event_differs", "event 12")]
            assert (report.differences[0].harmless, report.differences[0].outcome) == (False, "told")
            assert not report.agree
        assert await events_of(database) == before
        first, second = reversed(at.reconciler.reports())
        assert first.differences[0].since == second.differences[0].since


async def test_changed_columns_are_told_though_the_body_is_whole(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(30)
        await database.do("UPDATE andon.transition SET to_state = 'Held' WHERE seq IN (11, 29)")
        found = kinds(await at.reconcile(repair=True))
        assert ("columns_differ", "event 11") in found
        assert ("columns_differ", "event 29") in found
        assert ("state_differs", "equipment capper-1") in found
        assert ("sequence_gap", "transition 14 of capper-1") in found
        assert len(found) == 4


async def test_rows_beyond_what_the_journal_gave_out_are_told(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(6)
        await database.do(
            "INSERT INTO andon.rejection SELECT gateway, stream, 4711, equipment, path, model, to_state, '', "
            "at, recorded_at, '', cause, body FROM andon.transition WHERE seq = 3"
        )
        report = await at.reconcile(repair=True)
        assert [(found.kind, found.found) for found in report.differences] == [
            ("database_ahead", "event 4711")
        ]


async def test_two_rows_under_one_number_are_told(database: Database, tmp_path: Path) -> None:
    """In two tables: the journal gave the number out once."""
    async with site(database, tmp_path) as at:
        await at.happen(6)
        await database.do(
            "INSERT INTO andon.rejection SELECT gateway, stream, 3, equipment, path, model, to_state, '', "
            "at, recorded_at, '', cause, '{\"a\":1}'::json FROM andon.transition WHERE seq = 3"
        )
        report = await at.reconcile(repair=True)
        assert kinds(report) == [("event_differs", "event 3")]


async def test_what_was_set_aside_is_no_difference(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(3)
        await database.do("ALTER TABLE andon.transition ADD CONSTRAINT no_5 CHECK (seq <> 5)")
        await at.happen(6, samples=20)
        assert at.historian.status().set_aside == 1
        report = await at.reconcile(repair=True, full=True)
        assert report.differences == []
        await database.do(
            "INSERT INTO andon.set_aside (gateway, stream, kind, type, numbering, first, last, sqlstate, "
            "reason, body) SELECT gateway, stream, 'missing', '', 'event', 8, 8, '', '', '' "
            "FROM andon.sink_cursor",
            "DELETE FROM andon.transition WHERE seq = 8",
        )
        assert {kind for kind, _ in kinds(await at.reconcile(full=True))} <= {"state_missing"}


async def test_live_and_engine_are_held_to_the_journal(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(9)
        at.live["filler-1"] = msgspec.structs.replace(at.live["filler-1"], state="Aborted")
        at.memories["oven-1"] = msgspec.structs.replace(at.memories["oven-1"], sequence=2)
        report = await at.reconcile(repair=True)
        assert kinds(report) == [
            ("live_differs", "equipment filler-1"),
            ("engine_differs", "equipment oven-1"),
        ]
        assert "Aborted" in report.differences[0].found
        assert not any(found.harmless for found in report.differences)


async def test_an_engine_whose_news_wait_for_room_in_the_journal_is_not_compared(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(9)
        at.memories["oven-1"] = msgspec.structs.replace(at.memories["oven-1"], sequence=99)
        there = at.journal.stats()
        monkeypatch.setattr(at.journal, "stats", lambda: msgspec.structs.replace(there, full="no room"))
        report = await at.reconcile()
        assert report.differences == []
        [memory] = [part for part in report.parts if part.part == "memory"]
        assert memory.reason == "not compared: the journal takes nothing more: no room"


async def test_samples_that_are_gone_or_doubled_are_told(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(3, samples=40)
        await database.do(
            "INSERT INTO andon.sample SELECT * FROM andon.sample ORDER BY tag_id, at LIMIT 1",
            "DELETE FROM andon.sample WHERE tag_id = (SELECT max(tag_id) FROM andon.sample)",
        )
        report = await at.reconcile(repair=True)
        counted = [found.kind for found in report.differences]
        assert counted.count("samples_doubled") == 1
        assert counted.count("samples_missing") == 1
        assert not report.agree


async def test_the_last_sample_of_the_stream_before_and_the_loss_told_at_its_instant_are_two(
    database: Database, tmp_path: Path
) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(3, samples=40)
        await database.do(
            "INSERT INTO andon.sample (tag_id, quality, at, received_at, source_at, value, text, substatus) "
            "SELECT tag_id, 2, at, received_at, source_at, NULL, NULL, 'no_communication' FROM andon.sample "
            "ORDER BY tag_id, at LIMIT 1"
        )
        report = await at.reconcile(full=True)
        assert [found for found in report.differences if found.kind.startswith("samples_")] == []


async def test_only_the_newest_are_looked_at_unless_all_are_asked_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "NEWEST_EVENTS", 1_000)
    async with site(database, tmp_path) as at:
        for _ in range(4):
            await at.happen(999)
        await database.do("DELETE FROM andon.transition WHERE seq IN (17, 1500, 3500)")
        assert kinds(await at.reconcile())[0] == ("event_missing", "event 3500")
        found = [place for kind, place in kinds(await at.reconcile(full=True)) if kind == "event_missing"]
        assert sorted(found) == ["event 1500", "event 17", "event 3500"]
        assert (await at.reconcile(full=True, repair=True)).agree


@pytest.mark.parametrize("parted", range(0, 31, 3))
async def test_while_two_lanes_drain_nothing_on_its_way_is_a_difference(
    database: Database, tmp_path: Path, parted: int
) -> None:
    """What the database says it has: up to event 6, then a hole, then 19 to 24, and the rest is to come."""
    async with site(database, tmp_path) as at:
        await at.happen(30)
        await at.end_writing()
        await two_lanes(database, 6, 18, 24)
        await database.do(f"DELETE FROM andon.transition WHERE seq > 6 AND seq <= {min(18, parted)}")
        await database.do(f"DELETE FROM andon.transition WHERE seq > 24 AND seq > {parted}")
        report = await at.reconcile(repair=True, full=True)
        assert report.differences == []
        assert {part.part: part.compared for part in report.parts}["states"] == 3
        assert all(part.reason is None for part in report.parts)


async def test_while_two_lanes_drain_what_is_lacking_beyond_the_hole_is_found_and_mended(
    database: Database, tmp_path: Path
) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(30)
        await at.end_writing()
        await two_lanes(database, 6, 18, 24)
        await database.do("DELETE FROM andon.transition WHERE seq > 6 AND seq <= 18 OR seq > 22")
        whole = await events_of(database)
        await database.do("DELETE FROM andon.transition WHERE seq = 22")
        missing = [("state_missing", f"equipment {name}") for name in ("capper-1", "filler-1", "oven-1")]
        report = await at.reconcile()
        assert sorted(kinds(report)) == missing
        assert [found.expected.rpartition(" ")[2] for found in report.differences] == ["22", "23", "24"]
        mended = await at.reconcile(repair=True)
        assert mended.agree
        seqs = [seq for seq, _ in await events_of(database)]
        assert seqs == [*(seq for seq, _ in whole), 23, 24]
        await database.do(
            "UPDATE andon.transition SET to_state = 'Held' WHERE seq = 23",
            "UPDATE andon.transition SET sequence = 99 WHERE seq = 24",
        )
        assert sorted(kinds(await at.reconcile(repair=True))) == [
            ("state_differs", "equipment capper-1"),
            ("state_differs", "equipment oven-1"),
        ]


async def two_lanes(database: Database, cursor: int, after: int, up_to: int) -> None:
    """Say that everything up to `cursor` is there, and what lies in `after < seq <= up_to`."""
    await database.do(
        f"UPDATE andon.sink_cursor SET seq = {cursor}",
        "INSERT INTO andon.sink_range (gateway, stream, after_seq, after_batch, seq, batch) "
        f"SELECT gateway, stream, {after}, 0, {up_to}, 0 FROM andon.sink_cursor",
    )


async def test_no_more_is_told_than_a_report_holds(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        for _ in range(3):
            await at.happen(999)
        await database.do("DELETE FROM andon.transition")
        report = await at.reconcile(full=True)
        assert len(report.differences) <= 200
        assert report.left_out > 2_000
        assert not report.agree
        for _ in range(20):
            if (await at.reconcile(full=True, repair=True)).left_out == 0:
                break
        assert (await at.reconcile(full=True)).agree
        assert len(await events_of(database)) == 2997


async def test_a_database_that_is_away_is_not_compared(database: Database, tmp_path: Path) -> None:
    async with site(database, tmp_path) as at:
        await at.happen(9)
        name = await database.value("SELECT current_database()")
        server = database.dsn.replace(str(name), "postgres", 1)
        await Database(server).do(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            await disconnect(server, str(name))
            report = await at.reconcile(repair=True)
        finally:
            await Database(server).do(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        away = {part.part: part.reason for part in report.parts if part.compared == 0}
        assert set(away) == {"states", "events", "sequence", "samples"}
        assert all(reason and reason.startswith("not compared: ") for reason in away.values())
        assert report.differences == []


async def disconnect(server: str, name: str) -> None:
    await Database(server).rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )


async def test_what_is_on_its_way_is_no_difference(database: Database, tmp_path: Path) -> None:
    """The reconciler looks again and again while transitions are written."""
    async with site(database, tmp_path) as at:
        await at.happen(3)
        reports = [await both(at) for _ in range(8)]
        assert all(report == [] for report in reports), reports


async def both(at: Site) -> list[tuple[str, str]]:
    import asyncio

    happening = asyncio.create_task(many(at))
    try:
        return kinds(await at.reconcile(full=True))
    finally:
        await happening


async def many(at: Site) -> None:
    for _ in range(5):
        await at.happen(30, samples=10)


async def test_samples_of_one_instant_cut_in_two_are_not_doubled(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only some of the batches received at an instant are looked at; the database has those of all."""
    monkeypatch.setattr(parts, "_BATCHES_MAX", 3)
    async with site(database, tmp_path) as at:
        for received in (1, 2, 2, 3, 4):
            await at.journal.append([], [batch(received, 4)])
        await at.happen(3)
        report = await at.reconcile()
        assert report.differences == []
        assert {part.part: part.compared for part in report.parts}["samples"] == 8
        await database.do("DELETE FROM andon.sample WHERE value = (SELECT max(value) FROM andon.sample)")
        assert [found.kind for found in (await at.reconcile()).differences] == ["samples_missing"]


async def test_a_gap_in_the_count_is_found_though_the_states_fit(database: Database, tmp_path: Path) -> None:
    """Two moves of one equipment are gone: the state before and after is the same, the count is not."""
    async with site(database, tmp_path) as at:
        await at.happen(30)
        await database.do("DELETE FROM andon.transition WHERE seq IN (4, 7)")
        found = kinds(await at.reconcile())
        assert ("sequence_gap", "transition 10 of filler-1") in found
        mended = await at.reconcile(repair=True)
        assert mended.agree
        assert {found.outcome for found in mended.differences} == {"repaired"}
