"""What is in the journal is in the database, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.assembly import ending
from gateway.errors import JournalForeign, SinkRefused
from gateway.historian import EquipmentMeta, TagMeta
from gateway.historian.portions import Portion
from gateway.historian.session import CursorMoved, open_session
from gateway.journal import Cursor
from statemodel.types import (
    Cause,
    CauseInput,
    DeviceEvent,
    Gap,
    Quality,
    Rejection,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    TagValue,
)
from tests.gateway.historian.databases import (
    EQUIPMENT,
    PATIENCE_S,
    TAGS,
    Database,
    Proxy,
    build,
    drained,
    historian_settings,
    running,
    until,
)
from tests.gateway.journal.builders import START, batch, fill, opened, transition

ALARM = DeviceEvent(
    connection="plc",
    at=START,
    kind="OffNormalAlarmType",
    source="Press",
    severity=700,
    message="Öl fehlt",
    event_id="0aff",
    source_at=START - timedelta(days=1),
    received_at=START,
    condition="Oil",
    condition_node="ns=2;s=Press.Oil",
    active=True,
    acknowledged=False,
    refreshed=True,
)

COUNTS = """
SELECT
    (SELECT count(*) FROM andon.transition), (SELECT count(DISTINCT (stream, seq)) FROM andon.transition),
    (SELECT count(*) FROM andon.sample), (SELECT count(DISTINCT (tag_id, at, value)) FROM andon.sample)
"""


async def counts(database: Database) -> tuple[int, int, int, int]:
    return tuple((await database.rows(COUNTS))[0])


async def test_events_arrive_with_their_columns_and_their_very_bytes(
    database: Database, tmp_path: Path
) -> None:
    why = Cause("code", (CauseInput("plc/state", 7, Quality.GOOD, None, START),), "seven")
    rejection = Rejection("filler-1", "area/line/filler-1", "packml", "Idle", "Execute", START, "not so", why)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        told = await journal.append(
            [
                transition(1),
                rejection,
                SourceLost("plc", START, "silent"),
                SourceRestored("plc", START),
                Gap("plc", START, START + timedelta(seconds=3), "full", "plc/a"),
                ALARM,
                DeviceEvent("plc", START, "BaseEventType", "", None, "NUL \x00 in it", "", None, START),
            ]
        )
        await drained(historian, journal)
        [row] = await database.rows("SELECT * FROM andon.transition")
        assert row["gateway"] == "line-1"
        assert str(row["stream"]) == journal.stream
        assert (row["seq"], row["equipment"], row["sequence"]) == (1, "filler-1", 1)
        assert (row["from_state"], row["to_state"], row["code"]) == ("Idle", "Execute", 6)
        assert (row["category"], row["conformance"]) == ("productive", "legal")
        assert (row["at"], row["recorded_at"]) == (START + timedelta(seconds=1), START)
        assert json.loads(row["cause"])["rule"] == "code"
        assert row["body"].encode() == told[0].json
        [row] = await database.rows("SELECT * FROM andon.rejection")
        assert (row["seq"], row["attempted"], row["reason"]) == (2, "Execute", "not so")
        rows = await database.rows("SELECT * FROM andon.source_event ORDER BY seq")
        assert [(r["seq"], r["type"], r["connection"], r["tag"]) for r in rows] == [
            (3, "source_lost", "plc", ""),
            (4, "source_restored", "plc", ""),
            (5, "gap", "plc", "plc/a"),
        ]
        assert rows[2]["until"] == START + timedelta(seconds=3)
        row, poor = await database.rows("SELECT * FROM andon.device_event ORDER BY seq")
        assert (row["seq"], row["connection"], row["kind"]) == (6, "plc", "OffNormalAlarmType")
        assert (row["source"], row["severity"], row["message"]) == ("Press", 700, "Öl fehlt")
        assert (row["condition"], row["event_id"], row["refreshed"]) == ("Oil", "0aff", True)
        assert (row["active"], row["acknowledged"], row["confirmed"]) == (True, False, None)
        assert (row["at"], row["source_at"]) == (START, START - timedelta(days=1))
        assert (row["received_at"], row["recorded_at"]) == (START, START)
        assert row["body"].encode() == told[5].json
        assert (poor["severity"], poor["source_at"], poor["active"]) == (None, None, None)
        assert poor["message"] == "NUL \ufffd in it"
        assert await historian.events_after(0, 100) == told
        assert await historian.events_after(5, 1) == told[5:6]
        assert await historian.events_after(2, 2) == told[2:4]


async def test_samples_arrive_with_time_quality_and_value(database: Database, tmp_path: Path) -> None:
    late, early = START + timedelta(seconds=5), START - timedelta(days=2)
    at = START + timedelta(microseconds=123456)
    samples = (
        TagSample("plc/tag-0", 1.5, Quality.GOOD, None, at),
        TagSample("plc/tag-0", 2.5, Quality.GOOD, None, late),
        TagSample("plc/tag-1", True, Quality.GOOD, START, late),
        TagSample("plc/tag-2", -7, Quality.UNCERTAIN, early, at, "last_usable"),
        TagSample("plc/tag-3", None, Quality.BAD, None, at, "no_communication"),
        TagSample("plc/tag-4", "Läuft", Quality.GOOD, None, at),
    )
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([], [SampleBatch("plc", at, samples, source_time=True)])
        await drained(historian, journal)
        rows = await database.rows("SELECT * FROM andon.tag_sample ORDER BY tag, at")
        assert [tuple(r) for r in rows] == [
            ("line-1", "plc/tag-0", at, 1.5, None, "bar", "good", None, at, None),
            ("line-1", "plc/tag-0", late, 2.5, None, "bar", "good", None, late, None),
            ("line-1", "plc/tag-1", START, 1.0, None, "bar", "good", None, late, None),
            ("line-1", "plc/tag-2", at, -7.0, None, "bar", "uncertain", "last_usable", at, early),
            ("line-1", "plc/tag-3", at, None, None, "bar", "bad", "no_communication", at, None),
            ("line-1", "plc/tag-4", at, None, "Läuft", "bar", "good", None, at, None),
        ]
        kinds = await database.rows("SELECT kind FROM andon.tag ORDER BY tag LIMIT 5")
        assert [k[0] for k in kinds] == ["float", "bool", "int", "", "text"]


async def test_no_value_stops_the_stream(database: Database, tmp_path: Path) -> None:
    values: list[TagValue] = [
        *(math.nan, math.inf, -math.inf, 1e308, 2**53 + 1, 2**64 - 1, -(2**63), 2**90, 10**400),
        *("", "a\x00b", "\ud800", "x" * 100_000, True, None),
    ]
    bad = "NUL \x00, surrogate \udfff"
    why = Cause("rule \x00", (CauseInput("plc/tag-0", "a\x00b", Quality.GOOD, START, START),), "\x00")
    odd = Rejection("filler-1", "p", "packml", "Idle", "Ex\x00ecute", START, "a\x00reason", why)
    batch_ = SampleBatch(
        "plc", START, tuple(TagSample("plc/tag-0", v, Quality.GOOD, None, START, "s\x00") for v in values)
    )
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        told = await journal.append([odd], [batch_])
        await drained(historian, journal)
        status = historian.status()
        assert (status.samples, status.set_aside) == (len(values), 0)
        rows = await database.rows("SELECT value, text FROM andon.sample")
        stored = [tuple(r) for r in rows]
        assert stored[:4] == [(None, "NaN"), (None, "Infinity"), (None, "-Infinity"), (1e308, None)]
        assert stored[4] == (float(2**53 + 1), str(2**53 + 1))
        assert stored[5] == (float(2**64 - 1), str(2**64 - 1))
        assert stored[10] == (None, "a\ufffdb")
        assert len(stored[12][1]) == 100_000
        assert await historian.events_after(0, 9) == told
        assert await database.value("SELECT cause ->> 'text' FROM andon.rejection") == "\ufffd"
    assert bad  # the surrogate itself never reaches an event: JSON cannot carry it


async def test_a_restart_goes_on_where_the_database_is(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n in range(1, 40):
            await journal.append([transition(n)], [batch(n)])
            if n % 7 == 0:
                async with running(journal, database.dsn):
                    await asyncio.sleep(n / 2000)  # sometimes it gets far, sometimes not
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    assert await counts(database) == (39, 39, 117, 117)


async def test_a_new_database_gets_all_the_journal_still_holds(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1)], [batch(1)])
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
        await database.do("DROP SCHEMA andon CASCADE")
        await journal.append([transition(2)], [batch(2)])
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
            assert historian.status().missing == 0
    assert await counts(database) == (2, 2, 6, 6)


async def test_a_range_written_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        events = await journal.append([transition(n) for n in range(1, 6)], [batch(1), batch(2)])
        batches = await journal.read_batches(0, 9)
        portion = Portion(Cursor(), Cursor(5, 2), events, batches)
        async with open_session(
            database.dsn,
            place="here",
            gateway="line-1",
            stream=journal.stream,
            settings=historian_settings(database.dsn),
            tags=TAGS,
            equipment=EQUIPMENT,
        ) as session:
            await session.write(portion)
            for again in (session.write, session.write_carefully):
                with pytest.raises(CursorMoved):
                    await again(portion)
            assert await session.cursor() == Cursor(5, 2)
        assert await counts(database) == (5, 5, 6, 6)
        await database.do("UPDATE andon.sink_cursor SET seq = 2")
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
        assert await counts(database) == (5, 5, 6, 6)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_line_cut_around_the_commit_neither_loses_nor_doubles(
    database: Database, tmp_path: Path, cut: str
) -> None:
    proxy = Proxy(database.dsn)
    async with (
        opened(tmp_path) as journal,
        proxy.listening() as dsn,
        running(journal, dsn) as historian,
    ):
        for n in range(1, 5):
            await until(lambda: historian.status().connected)
            proxy.cut = cut
            await journal.append([transition(n)], [batch(n)])
            await until(lambda n=n: proxy.cuts == n)  # type: ignore[misc]
            await drained(historian, journal)
        assert historian.status().connects >= 4
    assert await counts(database) == (4, 4, 12, 12)


async def test_a_database_that_turns_read_only_is_left_and_found_again(
    database: Database, tmp_path: Path
) -> None:
    name = database.dsn.partition("?")[0].rpartition("/")[2]
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)])
        await drained(historian, journal)
        await database.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await database.disconnect_others()
        await journal.append([transition(2)], [batch(1)])
        await until(
            lambda: (
                "read-only" in (historian.status().last_error or "")
                and historian.status().oldest_unsent_at is not None
            )
        )
        status = historian.status()
        assert not status.connected
        assert (status.lag_events, status.lag_batches) == (1, 1)
        assert status.oldest_unsent_at is not None
        await database.do(
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
        )
        await drained(historian, journal)
        assert historian.status().last_error is None
    assert (await counts(database))[:2] == (2, 2)


async def test_a_row_the_database_refuses_is_set_aside_and_the_others_arrive(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)], [batch(1)])
        await drained(historian, journal)
        await database.do(
            "ALTER TABLE andon.sample ADD CONSTRAINT small CHECK (value < 1000);"
            "ALTER TABLE andon.transition ADD CONSTRAINT never CHECK (sequence <> 13)"
        )
        at = START
        values = [float(n) if n not in (17, 55) else 5000.0 for n in range(100)]
        samples = tuple(TagSample("plc/tag-0", v, Quality.GOOD, None, at) for v in values)
        told = await journal.append([transition(n) for n in range(2, 20)], [SampleBatch("plc", at, samples)])
        await drained(historian, journal)
        await journal.append([transition(20)], [batch(2)])
        await drained(historian, journal)
        assert historian.status().set_aside == 3
        rows = await database.rows(
            "SELECT kind, type, first, sqlstate, reason, body FROM andon.set_aside ORDER BY kind"
        )
        assert [(r["kind"], r["sqlstate"]) for r in rows] == [
            ("event", "23514"),
            ("sample", "23514"),
            ("sample", "23514"),
        ]
        assert (rows[0]["type"], rows[0]["first"]) == ("transition", 13)
        assert rows[0]["body"].encode() == told[11].json
        assert "small" in rows[1]["reason"]
        assert json.loads(rows[1]["body"])["tag"] == "plc/tag-0"
        assert await counts(database) == (19, 19, 3 + 98 + 3, 3 + 98 + 3)
        assert [r.seq for r in await historian.events_after(0, 100)] == list(range(1, 21)), (
            "set aside, not lost"
        )


async def test_a_table_that_takes_nothing_any_more_is_a_persons_business(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.historian.session._SET_ASIDE_MAX", 100)
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(1)])
        await drained(historian, journal)
        await database.do("ALTER TABLE andon.sample ADD CONSTRAINT nothing CHECK (false)")
        await journal.append([], [batch(n, 400) for n in range(4)])
        await until(lambda: historian.status().alarm == "refused")
        assert "row after row" in (historian.status().last_error or "")
        assert await database.value("SELECT count(*) FROM andon.set_aside") == 0


async def test_what_the_journal_cannot_give_is_noted_with_its_numbers(
    database: Database, tmp_path: Path
) -> None:
    async with opened(tmp_path, keep=timedelta(0)) as journal:
        while journal.position.first_seq < 3:
            n = journal.position.last_seq + 1
            await journal.append([transition(n)], [batch(n, 400)])
        await journal.append([transition(99)], [batch(99)])
        first, last = journal.position.first_seq, journal.position.last_seq
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await drained(historian, journal)
        rows = await database.rows(
            "SELECT kind, numbering, first, last FROM andon.set_aside ORDER BY numbering"
        )
        assert [tuple(r) for r in rows] == [
            ("missing", "batch", 1, journal.position.first_batch - 1),
            ("missing", "event", 1, first - 1),
        ]
        assert historian.first_seq == first
        assert historian.status().missing == first + journal.position.first_batch - 2
    assert (await counts(database))[0] == last - first + 1


async def live_then_set_back(database: Database, tmp_path: Path) -> Path:
    """A journal that is a copy from before what the database holds: 3 events there, 5 here."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    async with opened(live) as journal:
        await journal.append([transition(n) for n in (1, 2, 3)], [batch(1)])
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    shutil.copytree(live, copy)
    async with opened(live) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(n) for n in (4, 5)], [batch(2)])
        await drained(historian, journal)
    return copy


async def test_an_older_copy_of_the_journal_ends_the_gateway(database: Database, tmp_path: Path) -> None:
    copy = await live_then_set_back(database, tmp_path)
    async with opened(copy) as journal:
        historian = build(journal, database.dsn)
        # What it writes before the database answers hides nothing: its numbers have caught up.
        await journal.append([transition(n) for n in range(20, 40)], [batch(n) for n in range(20, 40)])
        with pytest.raises(JournalForeign, match="older copy") as refused:
            await historian.run()
    assert (refused.value.exit_code, historian.status().connected) == (3, False)
    assert str(copy) in refused.value.hint
    assert await counts(database) == (5, 5, 6, 6)


async def test_nobody_hears_of_an_older_copy_that_the_database_knows(
    database: Database, tmp_path: Path
) -> None:
    copy = await live_then_set_back(database, tmp_path)
    told: list[str] = []

    async def publish() -> None:
        told.append("published")

    async with opened(copy) as journal:
        historian = build(journal, database.dsn)
        telling = asyncio.create_task(ending.publish_when_met(publish, historian))
        with pytest.raises(JournalForeign):
            await historian.run()
        assert not telling.done()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    assert told == []


async def test_a_database_that_cannot_be_asked_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "MEETING_S_MAX", 2 * PATIENCE_S)
    told = asyncio.Event()

    async def publish() -> None:
        told.set()

    async with (
        opened(tmp_path) as journal,
        running(journal, "postgresql://andon@127.0.0.1:9/andon") as historian,
    ):
        async with asyncio.timeout(PATIENCE_S):
            await ending.publish_when_met(publish, historian)
    assert told.is_set()


async def test_an_older_copy_is_known_by_its_events_after_further_restarts(
    database: Database, tmp_path: Path
) -> None:
    """The database was away when the copy was put back, and while the numbering passed the cursor."""
    copy = await live_then_set_back(database, tmp_path)
    async with opened(copy) as journal:
        await journal.append([transition(n) for n in range(20, 40)], [batch(n) for n in range(20, 40)])
    async with opened(copy) as journal:
        with pytest.raises(JournalForeign, match="event 5 of this journal's stream as something else"):
            await build(journal, database.dsn).run()
    assert await counts(database) == (5, 5, 6, 6)


async def test_an_older_copy_is_found_when_the_database_comes_back(
    database: Database, tmp_path: Path
) -> None:
    copy = await live_then_set_back(database, tmp_path)
    await database.do("ALTER TABLE andon.sink_cursor RENAME TO away")
    async with opened(copy) as journal:
        historian = build(journal, database.dsn)
        task = asyncio.create_task(historian.run())
        await until(lambda: historian.status().last_error is not None)
        await journal.append([transition(n) for n in range(20, 40)], [batch(20), batch(21)])
        await database.do("ALTER TABLE andon.away RENAME TO sink_cursor")
        task.cancel()  # rather than to wait for the end of its pause
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(JournalForeign):
            await historian.run()
    assert await counts(database) == (5, 5, 6, 6)


@pytest.mark.parametrize("cursor", [5, 3])
async def test_a_cursor_within_the_very_same_journal_is_fine(
    database: Database, tmp_path: Path, cursor: int
) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(n) for n in range(1, 6)], [batch(1)])
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    await database.do(f"UPDATE andon.sink_cursor SET seq = {cursor}")
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await drained(historian, journal)
        await journal.append([transition(6)])
        await drained(historian, journal)
    assert await counts(database) == (6, 6, 3, 3)


async def test_of_a_trimmed_journal_nothing_is_compared(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("historian", events=True, batches=True)
        await fill(journal, 2)
        seq = (await journal.read(0, 10**6))[-1].seq
        async with running(journal, database.dsn) as historian:
            await drained(historian, journal)
    # The database was restored from a backup, and its last event has been freed here since.
    await database.do("UPDATE andon.sink_cursor SET seq = 1", "DELETE FROM andon.transition WHERE seq > 1")
    (tmp_path / "journal-00000001-1-1.db").unlink()
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        assert journal.position.first_seq > 1
        await drained(historian, journal)
        assert historian.drained.seq == seq


async def test_gateways_share_a_database_without_touching(database: Database, tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "a", gateway="a") as one,
        opened(tmp_path / "b", gateway="b") as other,
        running(one, database.dsn, gateway="a") as first,
        running(other, database.dsn, gateway="b") as second,
    ):
        await one.append([transition(1)], [batch(1)])
        await other.append([transition(1)], [batch(1), batch(2)])
        await drained(first, one)
        await drained(second, other)
        rows = await database.rows("SELECT gateway, count(*) FROM andon.tag_sample GROUP BY 1 ORDER BY 1")
        assert [tuple(r) for r in rows] == [("a", 3), ("b", 6)]
        assert len(await first.events_after(0, 9)) == 1


async def test_what_has_left_the_configuration_still_arrives(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([transition(1, "oven-9")], [batch(1)])
        async with running(journal, database.dsn, tags={}, equipment={}) as historian:
            await drained(historian, journal)
            rows = await database.rows("SELECT equipment, path, model FROM andon.equipment")
            assert [tuple(r) for r in rows] == [("oven-9", "area/line/oven-9", "packml")]
            rows = await database.rows("SELECT DISTINCT tag FROM andon.tag_sample ORDER BY 1")
            assert [r[0] for r in rows] == ["plc/tag-0", "plc/tag-1", "plc/tag-2"]


async def test_a_changed_configuration_renames_units_and_paths(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().connected)
        tags, equipment = (
            {"plc/tag-0": TagMeta("plc", "tag-0", "°C")},
            {"filler-1": EquipmentMeta("b/c", "run-stop")},
        )
        async with running(journal, database.dsn, tags=tags, equipment=equipment) as historian:
            await until(lambda: historian.status().connected)
        assert await database.value("SELECT unit FROM andon.tag WHERE tag = 'plc/tag-0'") == "°C"
        [row] = await database.rows("SELECT path, model FROM andon.equipment")
        assert tuple(row) == ("b/c", "run-stop")


async def test_the_views_tell_states_and_intervals(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await journal.append([transition(n) for n in (1, 2, 5)])
        await drained(historian, journal)
        [row] = await database.rows("SELECT * FROM andon.current_state")
        assert (row["state"], row["seq"], row["since"]) == ("Execute", 3, START + timedelta(seconds=5))
        rows = await database.rows("SELECT state, duration_s, until FROM andon.state_interval ORDER BY since")
        assert [(r["state"], r["duration_s"]) for r in rows] == [
            ("Execute", 1.0),
            ("Idle", 3.0),
            ("Execute", None),
        ]


async def test_old_samples_go_and_transitions_stay(database: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    samples = [TagSample("plc/tag-0", d, Quality.GOOD, None, now - timedelta(days=d)) for d in (30, 9, 7, 0)]
    retention = timedelta(days=5)
    async with opened(tmp_path) as journal:
        await journal.append(
            [transition(1, at=now - timedelta(days=30))], [SampleBatch("plc", now, tuple(samples))]
        )
        async with running(journal, database.dsn, retention=retention) as historian:
            await drained(historian, journal)
            assert await historian.keeper.round(now)
            rows = await database.rows("SELECT value FROM andon.sample")
            assert [r[0] for r in rows] == [0.0]
            assert (await counts(database))[0] == 1


async def test_a_server_that_will_not_have_us_is_named_and_tried_again(
    database: Database, tmp_path: Path
) -> None:
    before, _, query = database.dsn.partition("?")
    missing = f"{before}_missing" + (f"?{query}" if query else "")
    async with opened(tmp_path) as journal, running(journal, missing) as historian:
        await until(lambda: historian.status().alarm == "refused")
        assert "does not exist" in (historian.status().last_error or "")
        assert historian.status().retry_at is not None
        # What comes during the pause is seen to wait, although nothing is tried again for half a minute.
        [told] = await journal.append([transition(1)])
        await until(lambda: historian.status().oldest_unsent_at is not None, within_s=25)
        assert (historian.status().lag_events, historian.status().oldest_unsent_at) == (1, told.recorded_at)
        with pytest.raises(SinkRefused):
            await historian.check()
        with pytest.raises(SinkRefused):
            await historian.transition_before("filler-1", START)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE andon.transition RENAME TO gone",
        "ALTER TABLE andon.transition DROP COLUMN code CASCADE",
        "ALTER TABLE andon.sink_cursor DROP CONSTRAINT sink_cursor_pkey",
    ],
)
async def test_a_changed_schema_is_named_as_such(database: Database, tmp_path: Path, statement: str) -> None:
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().connected)
        await database.do(statement)
        await journal.append([transition(1)])
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().alarm == "refused")
            assert "the schema was changed" in (historian.status().last_error or "")


async def test_a_check_says_what_server_it_is_and_changes_nothing(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        info = await build(journal, database.dsn).check()
    assert info.version_number >= 150_000
    assert info.durable
    assert str(info).startswith("PostgreSQL 1")
    assert not await database.value("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'andon')")
