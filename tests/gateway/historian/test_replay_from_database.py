"""`andon replay --from-database`: what the journal has freed is replayed from what the database kept."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import Loaded, load
from gateway.config.schema import HistorianSettings
from gateway.embedded_postgres import EmbeddedPostgres, dsn_of_running
from gateway.historian import EquipmentMeta, TagMeta
from gateway.historian.recorded import (
    NothingInDatabase,
    batches_of,
    joined_value,
    read_database,
    sample_of,
    with_marks,
)
from gateway.historian.rows import dated, split_value
from gateway.journal import Journal
from gateway.recording import read_journal
from statemodel.records import Recorded, tell
from statemodel.replay import in_order, memory_of, play, transitions_of
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample, TagValue
from tests.gateway.historian.databases import Database, drained, running
from tests.gateway.journal.builders import START, ManualClock
from tests.gateway.recorded_site import CONFIG, MODEL, record
from tests.gateway.test_commands import andon, later

TAGS = {f"plc/{name}": TagMeta("plc", name) for name in ("run", "temp", "level")}
EQUIPMENT = {"oven-1": EquipmentMeta("area/line/oven-1", "oven")}
HISTORIAN = '\n[historian]\ndsn = "env:ANDON_DATABASE"\n'


async def site(folder: Path, dsn: str) -> Loaded:
    """A site whose gateway recorded, was stopped, and recorded again; all of it is in the database."""
    (folder / "oven.toml").write_text(MODEL, encoding="utf-8")
    (folder / "hot.toml").write_text(MODEL.replace("180", "188"), encoding="utf-8")
    (folder / "andon.toml").write_text(CONFIG + HISTORIAN, encoding="utf-8")
    loaded = load(folder / "andon.toml", environment={"ANDON_DATABASE": dsn})
    await write(loaded, dsn, START, START + timedelta(minutes=1))
    return loaded


async def write(loaded: Loaded, dsn: str, *begins: datetime) -> None:
    """Record from some instants on, and hand all of it to the database."""
    for begin in begins:
        await record(loaded, begin)
    journal = await Journal.open(
        loaded.data_dir / "journal",
        gateway="g",
        settings=loaded.configuration.gateway.journal,
        clock=ManualClock(),
    )
    try:
        async with running(journal, dsn, gateway="g", tags=TAGS, equipment=EQUIPMENT) as historian:
            await drained(historian, journal)
    finally:
        await journal.close()


async def replay(folder: Path, dsn: str, *arguments: str) -> dict[str, Any]:
    """The answer of the command for the one oven all of whose tags are recorded."""
    done = await asyncio.to_thread(
        andon,
        *("replay", str(folder / "andon.toml"), "--equipment", "oven-1", "--json", *arguments),
        ANDON_DATABASE=dsn,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def test_the_database_gives_what_the_journal_gave(database: Database, tmp_path: Path) -> None:
    loaded = await site(tmp_path, database.dsn)
    settings = loaded.configuration.historian
    assert settings is not None
    tags = {"plc/run", "plc/temp"}
    found = await read_database(database.dsn, settings, "g", equipment=["oven-1"], tags=tags)
    kept = read_journal(loaded.data_dir / "journal", "g", tags).recording
    spec = next(spec for spec in loaded.equipment if spec.name == "oven-1")
    recorded = transitions_of(kept, "oven-1")
    assert len(recorded) == 12
    assert transitions_of(found, "oven-1") == recorded
    assert play([spec], found).transitions == recorded, "evidence and all"
    assert [e for e in found.entries if isinstance(e, SampleBatch)] == [
        e for e in kept.entries if isinstance(e, SampleBatch)
    ]
    assert [type(e) for e in found.entries if isinstance(e, SampleBatch) or not e.equipment] == [
        type(e) for e in kept.entries if isinstance(e, SampleBatch) or not e.equipment
    ], "losses stand where they stood"


async def test_what_is_still_on_its_way_to_the_database_is_said(database: Database, tmp_path: Path) -> None:
    await site(tmp_path, database.dsn)
    whole = await replay(tmp_path, database.dsn, "--from-database")
    assert not any("on its way" in warning for warning in whole["warnings"])
    begin, end = START + timedelta(seconds=70), START + timedelta(seconds=80)
    await database.do(
        "INSERT INTO andon.sink_range (gateway, stream, after_seq, after_batch, seq, batch) "
        "SELECT gateway, stream, seq + 10, batch + 10, seq + 20, batch + 20 FROM andon.sink_cursor",
        "INSERT INTO andon.late_range (gateway, stream, after_seq, after_batch, up_to_seq, up_to_batch, "
        "recorded_from, recorded_until) SELECT gateway, stream, seq, batch, seq + 10, batch + 10, "
        f"'{begin.isoformat()}', '{end.isoformat()}' FROM andon.sink_cursor",
    )
    [warning] = (await replay(tmp_path, database.dsn, "--from-database"))["warnings"]
    assert "from 2026-11-21 08:01:10.000 to 2026-11-21 08:01:20.000 not all is there yet" in warning
    before = await replay(tmp_path, database.dsn, "--from-database", "--to", begin.isoformat())
    assert before["warnings"] == whole["warnings"]
    settings = load(tmp_path / "andon.toml", environment={"ANDON_DATABASE": database.dsn})
    assert settings.configuration.historian is not None
    await database.do(
        "DELETE FROM andon.sample", "DELETE FROM andon.transition", "DELETE FROM andon.source_event"
    )
    with pytest.raises(NothingInDatabase, match="still on its way"):
        await read_database(
            database.dsn, settings.configuration.historian, "g", equipment=["oven-1"], tags={"plc/run"}
        )
    await database.do("UPDATE andon.late_range SET written_at = now()", "DELETE FROM andon.sink_range")
    with pytest.raises(NothingInDatabase, match="holds nothing"):
        await read_database(
            database.dsn, settings.configuration.historian, "g", equipment=["oven-1"], tags={"plc/run"}
        )


async def test_the_command_replays_what_the_journal_no_longer_has(database: Database, tmp_path: Path) -> None:
    loaded = await site(tmp_path, database.dsn)
    changed = await replay(tmp_path, database.dsn, "--model", str(tmp_path / "hot.toml"))
    shutil.rmtree(loaded.data_dir / "journal")
    same = await replay(tmp_path, database.dsn, "--from-database")
    assert same["difference"]["different_s"] == 0
    assert (same["transitions_before"], same["transitions_after"]) == (12, 12)
    other = await replay(tmp_path, database.dsn, "--from-database", "--model", str(tmp_path / "hot.toml"))
    assert [(i["before"], i["after"], i["duration_s"]) for i in other["difference"]["intervals"]] == [
        ("Baking", "Heating", 5.0),
        ("Baking", "Heating", 3.0),
    ] * 2
    assert other["difference"]["intervals"] == changed["difference"]["intervals"]
    assert other["transitions"] == changed["transitions"]


async def test_a_range_begins_in_the_state_then_in_force(database: Database, tmp_path: Path) -> None:
    settings = (await site(tmp_path, database.dsn)).configuration.historian
    assert settings is not None
    from_, to = (START + timedelta(seconds=s) for s in (78, 84))  # between samples
    found = await read_database(
        database.dsn, settings, "g", equipment=["oven-1"], tags=TAGS, begin=from_, end=to
    )
    assert (found.begin_at, found.end_at) == (from_, to), "the database knows what came after"
    memory = memory_of(found, "oven-1")
    assert memory is not None
    assert (memory.state, memory.since) == ("Baking", START + timedelta(seconds=72))
    assert [e.received_at for e in found.entries if isinstance(e, SampleBatch)] == [
        START + timedelta(seconds=80)
    ]
    to = START + timedelta(seconds=88)
    told = await replay(
        tmp_path, database.dsn, "--from-database", "--from", "2026-11-21T08:01:03Z", "--to", to.isoformat()
    )
    assert told["difference"]["different_s"] == 0
    assert told["transitions_before"] == told["transitions_after"] == 4


async def test_what_cannot_be_read_is_said(database: Database, tmp_path: Path) -> None:
    await site(tmp_path, database.dsn)
    settings = HistorianSettings(dsn=database.dsn)
    with pytest.raises(NothingInDatabase):
        await read_database(
            database.dsn, settings, "g", equipment=["oven-1"], tags=TAGS, begin=START + timedelta(days=9)
        )
    (tmp_path / "andon.toml").write_text(CONFIG + '\n[historian]\ndsn = "embedded"\n', encoding="utf-8")
    done = await later("replay", str(tmp_path / "andon.toml"), "--from-database")
    assert done.returncode == 2
    assert "the embedded database does not run" in done.stderr
    (tmp_path / "andon.toml").write_text(CONFIG, encoding="utf-8")
    done = await later("replay", str(tmp_path / "andon.toml"), "--from-database")
    assert done.returncode == 2
    assert "has no database" in done.stderr


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (False, "bool"),
        (7, "int"),
        (2**53 + 1, "int"),
        (-(2**2000), "int"),
        (7.0, "float"),
        (float("inf"), "float"),
        ("Infinity", "text"),
        ("0x1", "text"),
        ("", "text"),
        (None, ""),
    ],
)
def test_values_come_back_as_they_were(value: TagValue, kind: str) -> None:
    number, text = split_value(value)
    back = joined_value(number, text, kind)
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize("source_time", [True, False])
def test_a_batch_keeps_its_source_time(source_time: bool) -> None:
    earlier, long_ago = START - timedelta(seconds=1), START - timedelta(days=2)
    batch = SampleBatch(
        "plc",
        START,
        tuple(
            TagSample(f"plc/{at:%d%S}", 1, Quality.UNCERTAIN, at, START, "stale")
            for at in (long_ago, earlier)
        ),
        source_time,
    )

    def row(sample: TagSample) -> Mapping[str, Any]:
        at, source_at = dated(sample, source_time), sample.source_at
        return {
            "at": at,
            "received_at": sample.received_at,
            "source_at": None if source_at == at else source_at,
            "quality": 1,
            "value": 1.0,
            "text": None,
            "substatus": sample.substatus,
        }

    rows = [row(sample) for sample in batch.samples]
    back = [
        ("plc", r["at"], sample_of(sample.tag, "int", r))
        for sample, r in zip(batch.samples, rows, strict=True)
    ]
    assert batches_of(back) == [batch]


def test_a_loss_goes_before_what_its_connection_sent_afterwards() -> None:
    def batch(connection: str, second: int) -> SampleBatch:
        at = START + timedelta(seconds=second)
        return SampleBatch(connection, at, (TagSample(f"{connection}/x", 1, Quality.GOOD, None, at),))

    batches = [batch("a", 0), batch("b", 1), batch("a", 2), batch("b", 5)]

    def order(connection: str, at: int, recorded_at: int) -> list[str]:
        lost = SourceLost(connection, START + timedelta(seconds=at), "no answer")
        recorded = tell(
            lost, gateway="g", stream="s", seq=1, recorded_at=START + timedelta(seconds=recorded_at)
        )
        entries = in_order(with_marks(batches, [recorded]), [recorded])
        return ["lost" if isinstance(e, Recorded) else e.connection for e in entries]

    assert order("a", 0, 3) == ["a", "b", "lost", "a", "b"], "it had answered again before this was recorded"
    assert order("b", 1, 3) == ["a", "b", "a", "lost", "b"]
    assert order("b", 5, 9) == ["a", "b", "a", "b", "lost"]


async def test_a_journal_begun_anew_follows_the_one_before(database: Database, tmp_path: Path) -> None:
    """Two journals number their events alike: they are told apart by which the database met first."""
    loaded = await site(tmp_path, database.dsn)
    shutil.rmtree(loaded.data_dir / "journal")
    await write(loaded, database.dsn, START + timedelta(minutes=2))
    assert loaded.configuration.historian is not None
    found = await read_database(
        database.dsn, loaded.configuration.historian, "g", equipment=["oven-1"], tags=TAGS
    )
    events = [e for e in found.entries if isinstance(e, Recorded)]
    assert len({e.stream for e in events}) == 2
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert [e.at for e in events] == sorted(e.at for e in events)
    same = await replay(tmp_path, database.dsn, "--from-database")
    assert (same["difference"]["different_s"], same["transitions_after"]) == (0, 18)


async def test_an_embedded_database_is_found_while_it_runs(tmp_path: Path) -> None:
    for name in ("short", "long" * 25):  # the socket of the second lies elsewhere
        server = EmbeddedPostgres(tmp_path / name)
        dsn = await server.start()
        try:
            assert dsn_of_running(tmp_path / name) == dsn
        finally:
            await server.stop()
        assert dsn_of_running(tmp_path / name) is None
