"""Snapshots beside the gateway's work: at one place of the journal, in chains, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.schema import SnapshotSettings
from gateway.errors import JournalFailed
from gateway.journal import Journal
from gateway.snapshots.failures import NotWritten
from gateway.snapshots.folder import SnapshotFolder
from gateway.snapshots.keeper import FOLDER, REQUEST, Identity, Keeper
from statemodel.engine import Engine
from statemodel.snapshot import EngineSnapshot, KeptEquipment
from tests.gateway.journal.builders import PATIENCE_S, ManualClock, eventually, opened
from tests.gateway.snapshots.builders import AT, sample, spec

IDENTITY = Identity("line-1", "1.0", "c0" * 32, {"packml": "d0" * 32}, ("historian",))
KEPT = msgspec.msgpack.Decoder(KeptEquipment)


class Gateway:
    """An engine and a journal that are fed together, as the pipeline does it, and the keeper beside them."""

    def __init__(
        self,
        journal: Journal,
        clock: ManualClock,
        data_dir: Path,
        settings: SnapshotSettings,
        heartbeat: timedelta,
    ) -> None:
        self.journal, self.clock = journal, clock
        self.engine = Engine([spec("m1"), spec("m2")], at=AT)
        self.keeper = Keeper(
            data_dir, identity=IDENTITY, settings=settings, journal=journal, clock=clock, heartbeat=heartbeat
        )
        self.keeper.engine = self.engine.snapshot
        self.folder: SnapshotFolder = self.keeper.folder
        self.second = 0

    async def see(self, name: str, code: int) -> None:
        self.second += 1
        batch = sample(name, code, self.second)
        outcome = self.engine.step(batch)
        await self.journal.append([*outcome.transitions], [batch], {"plc": batch.received_at})
        self.keeper.committed()

    async def pass_(self, minutes: float) -> None:
        """Time goes by, a heartbeat's commit a second."""
        for _ in range(int(minutes * 60)):
            self.clock.advance(1)
            await asyncio.sleep(0)
            self.keeper.committed()
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)

    def taken(self) -> list[tuple[str, str]]:
        return [(e.header.kind, e.header.reason) for e in self.folder.entries() if e.header is not None]


@asynccontextmanager
async def gateway(
    tmp_path: Path, heartbeat: timedelta = timedelta(seconds=1), **changed: Any
) -> AsyncIterator[Gateway]:
    settings = SnapshotSettings(**{"every": timedelta(minutes=10), "full_every": 3, **changed})
    clock = ManualClock()
    async with opened(tmp_path / "journal", clock=clock) as journal:
        made = Gateway(journal, clock, tmp_path, settings, heartbeat)
        task = asyncio.create_task(made.keeper.run())
        try:
            await eventually(lambda: task.done() or bool(clock.pauses))
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(made: Gateway, count: int) -> None:
    """Time goes by until so many snapshots have been taken."""
    async with asyncio.timeout(PATIENCE_S):
        while made.keeper.status.taken < count:
            await made.pass_(0.5)


async def test_one_is_full_and_the_others_build_on_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        for count in range(1, 5):
            await made.see("m1", 6 if count % 2 else 11)
            await until(made, count)

        assert made.taken() == [
            ("full", "every"),
            ("incremental", "every"),
            ("incremental", "every"),
            ("full", "every"),
        ]
        loaded = [made.folder.load(e.header.name) for e in made.folder.entries() if e.header is not None]
        assert [s.header.seq for s in loaded] == [1, 2, 3, 4]
        assert [KEPT.decode(s.content.equipment["m1"]).memory.sequence for s in loaded] == [1, 2, 3, 4]
        assert all(set(s.content.equipment) == {"m1", "m2"} for s in loaded)
        assert loaded[-1].content.last.keys() == {"m1"}
        assert loaded[-1].header.stream == made.journal.stream
        status = made.keeper.status
        assert (status.count, status.failed, status.newest) == (4, "", loaded[-1].header.name)


async def test_a_snapshot_is_of_exactly_one_place_in_the_journal(tmp_path: Path) -> None:
    """What the engine has been through without a commit yet is not in it."""
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)
        asked = asyncio.create_task(made.keeper.take("command"))
        await asyncio.sleep(0)
        made.engine.step(sample("m1", 11, 50))  # stepped, not committed: no moment to take it at
        await asyncio.sleep(0.02)
        assert not asked.done()
        await made.see("m2", 4)
        header = await asked
        assert header is not None
        found = made.folder.load(header.name)
        assert found.header.seq == made.journal.position.last_seq
        assert found.header.batch == made.journal.position.last_batch == 2


async def test_a_busy_gateway_takes_more_for_its_next_start_and_keeps_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.snapshots.keeper.TAIL_BATCHES", 5)
    async with gateway(tmp_path) as made:
        for count in range(1, 4):
            for _ in range(5):
                await made.see("m1", 6)
            await until(made, count)
        assert made.taken() == [("full", "tail")]
        assert made.folder.entries()[0].header.batch == 15  # type: ignore[union-attr]
        await made.pass_(3)
        assert made.keeper.status.taken == 3, "nothing new, nothing taken"
        await until(made, 4)
        assert made.taken() == [("full", "every")]
        await made.see("m1", 11)
        await until(made, 5)
        assert made.taken() == [("full", "every"), ("incremental", "every")]


async def test_one_that_is_asked_for_is_full_and_asked_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / REQUEST).touch()
        await until(made, 1)
        await made.pass_(2)
        assert made.taken() == [("full", "command")]
        assert not (tmp_path / FOLDER / REQUEST).exists()


async def test_a_failing_disk_is_told_and_tried_again_and_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path) as made:
        write = SnapshotFolder.write

        def full(*_: Any) -> Any:
            raise NotWritten("no space left", hint="make room")

        monkeypatch.setattr(SnapshotFolder, "write", full)
        await made.see("m1", 6)
        async with asyncio.timeout(PATIENCE_S):
            while made.keeper.status.failures < 2:
                await made.pass_(0.5)
        assert "no space left" in made.keeper.status.failed
        await made.see("m1", 11)
        assert made.journal.position.last_seq == 2
        monkeypatch.setattr(SnapshotFolder, "write", write)
        await until(made, 1)
        assert made.keeper.status.failed == ""
        assert made.taken() == [("full", "every")]


async def test_a_real_disk_without_a_place_to_write_is_told(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        (tmp_path / FOLDER).write_text("not a folder")
        await made.see("m1", 6)
        asked = asyncio.create_task(made.keeper.take("command"))
        await asyncio.sleep(0)
        made.keeper.committed()
        assert await asked is None
        assert FOLDER in made.keeper.status.failed


async def test_a_parent_that_was_removed_is_followed_by_a_full_one(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)
        await until(made, 1)
        for path in (tmp_path / FOLDER).glob("*.snap"):
            path.unlink()
        await made.see("m1", 11)
        await until(made, 2)
        assert made.taken() == [("full", "every")]


async def test_the_last_one_is_of_what_was_recorded_last(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)
        await made.keeper.finish()
        [entry] = made.folder.entries()
        assert entry.header is not None
        assert (entry.header.reason, entry.header.seq, entry.header.kind) == ("stop", 1, "full")


async def test_switched_off_nothing_is_taken(tmp_path: Path) -> None:
    async with gateway(tmp_path, enabled=False) as made:
        await made.see("m1", 6)
        await made.pass_(11)
        await made.keeper.finish()
        assert made.taken() == []


async def test_they_are_encrypted_where_a_key_is_set(tmp_path: Path) -> None:
    async with gateway(tmp_path, encryption_key="ab" * 32) as made:
        await made.see("m1", 6)
        await made.keeper.finish()
        [path] = (tmp_path / FOLDER).glob("*.snap")
        assert b"plc/m1" not in path.read_bytes()
        assert SnapshotFolder(tmp_path / FOLDER, "ab" * 32).verify()[0].problem == ""
        assert "encrypted" in SnapshotFolder(tmp_path / FOLDER).verify()[0].problem


async def test_nothing_that_is_committed_costs_a_look_at_the_engine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as made:
        looks = 0

        def look() -> EngineSnapshot:
            nonlocal looks
            looks += 1
            return made.engine.snapshot()

        made.keeper.engine = look
        for _ in range(50):
            await made.see("m1", 6)
        assert looks == 0


@pytest.mark.parametrize("asked", ["last_transitions", "alive", "cursor"])
async def test_a_journal_that_takes_no_more_questions_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)

        async def busy(*_: Any) -> Any:
            raise JournalFailed("10000 calls wait for the journal", hint="is its disk failing?")

        with monkeypatch.context() as patched:
            patched.setattr(made.journal, asked, busy)
            async with asyncio.timeout(PATIENCE_S):
                while not made.keeper.status.failures:
                    await made.pass_(0.5)
            assert "10000 calls wait" in made.keeper.status.failed
        await until(made, 1)
        assert made.keeper.status.failed == ""


async def test_what_is_too_old_and_cannot_be_removed_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path) as made:
        await made.see("m1", 6)

        def refused(*_: Any) -> Any:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(SnapshotFolder, "prune", refused)
        await made.keeper.finish()
        assert "Operation not permitted" in made.keeper.status.failed


async def test_a_gateway_that_seldom_commits_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.snapshots.keeper._MOMENT_S", 0.01)
    async with gateway(tmp_path, heartbeat=timedelta(hours=1)) as made:
        await made.see("m1", 6)
        asked = asyncio.create_task(made.keeper.take("command"))
        done, _ = await asyncio.wait([asked], timeout=0.1)
        assert not done
        made.keeper.committed()
        assert await asked is not None


async def test_a_gateway_that_commits_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.snapshots.keeper._MOMENT_S", 0.01)
    async with gateway(tmp_path, heartbeat=timedelta(milliseconds=10)) as made:
        assert await made.keeper.take("command") is None
        assert "nothing was committed within 0.02 s" in made.keeper.status.failed


async def test_the_last_one_does_not_wait_behind_one_that_waits_for_a_commit(tmp_path: Path) -> None:
    async with gateway(tmp_path, heartbeat=timedelta(hours=1)) as made:
        await made.see("m1", 6)
        asked = asyncio.create_task(made.keeper.take("every"))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            await made.keeper.finish()
        assert await asked is not None
        assert {reason for _, reason in made.taken()} == {"every", "stop"}
