"""When room runs out: samples leave off first and are counted, events last, and all of it is told."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.errors import StartFailed
from gateway.journal import Cursor, Journal, files, room
from gateway.journal.losses import Losses, gaps
from gateway.journal.store import Store
from statemodel.types import Gap
from tests.gateway.journal.builders import (
    START,
    ManualClock,
    batch,
    eventually,
    fill,
    kept_house,
    opened,
    transition,
)
from tests.gateway.journal.faults import segments

NAMES = ("plc", "other")


async def tell(journal: Journal) -> list[Gap]:
    """Append what waits to be told, as the pipeline does."""
    told = list(gaps(journal.untold(), NAMES))
    if told:
        await journal.append(told)
    return told


async def fill_for_samples(journal: Journal) -> int:
    """Append until samples are left out; the number of the last append."""
    n = 0
    while not journal.stats().shedding:
        n += 1
        await journal.append([transition(n)], [batch(n, 800)])
        assert n < 1000
    return n


async def test_samples_leave_off_before_events_and_are_counted_and_told(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, bytes_max=4_000_000) as journal:
        journal.require("database", events=True, batches=True)
        n = await fill_for_samples(journal)
        assert "for events" in journal.stats().shedding
        assert journal.position.last_batch == n - 1
        for more in range(n + 1, n + 20):
            [recorded] = await journal.append([transition(more)], [batch(more, 800)])
            assert recorded.seq == more
        batches = journal.position.last_batch
        assert batches < n + 9
        assert len(await journal.read_batches(0, 10**6, samples_max=10**9)) == batches
        left_out = n + 19 - batches
        assert journal.stats().full == ""
        # A sink catches up: there is room again.
        await journal.advance("database", Cursor(n + 19, batches))
        await journal.append([transition(n + 20)], [batch(n + 20, 800)])
        assert journal.stats().shedding == ""
        assert dict(journal.stats().shed) == {f"plc/tag-{i}": left_out for i in range(800)}
        told = await tell(journal)
        assert {gap.connection for gap in told} == {"plc"}
        assert told[0].at == START + timedelta(seconds=n)
        assert sum(int(gap.reason.split()[0]) for gap in told) == 800 * left_out
        assert "samples were not recorded: the journal takes" in told[0].reason
        assert await tell(journal) == []
    async with opened(tmp_path, bytes_max=4_000_000) as journal:
        assert journal.untold() == ()
        assert journal.stats().shed["plc/tag-0"] == left_out


async def test_a_crash_forgets_neither_what_was_shed_nor_who_was_told(tmp_path: Path) -> None:
    clock = ManualClock()
    live, crashed = tmp_path / "live", tmp_path / "crashed"
    async with opened(live, clock=clock, bytes_max=1_500_000) as journal:
        journal.require("database", events=True, batches=True)
        n = await fill_for_samples(journal)
        await kept_house(journal, clock, lambda: clock.now() > START + timedelta(seconds=3))
        await journal.append([transition(n + 1)])
        shutil.copytree(live, crashed)
    for _ in range(2):  # told nobody: it is there again
        async with opened(crashed, bytes_max=1_500_000) as journal:
            [loss] = journal.untold()
            assert (loss.connection, loss.at) == ("plc", START + timedelta(seconds=n))
    async with opened(crashed, bytes_max=1_500_000) as journal:
        assert len(await tell(journal)) == 1
    async with opened(crashed, bytes_max=1_500_000) as journal:
        assert journal.untold() == ()


async def test_a_loss_whose_telling_found_no_room_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who told of it was cancelled while the disk was full: it was not told."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, bytes_max=1_500_000) as journal:
        journal.require("database", events=True, batches=True)
        await fill_for_samples(journal)
        await kept_house(journal, clock, lambda: clock.now() > START + timedelta(seconds=3))
    async with opened(tmp_path, clock=clock, bytes_max=1_500_000) as journal:
        before = journal.untold()
        assert before
        monkeypatch.setattr(Store, "_commit", lambda *_: "the disk is full")
        asked = asyncio.create_task(tell(journal))
        await eventually(lambda: bool(journal.stats().full))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert journal.untold() == before
        monkeypatch.undo()
    async with opened(tmp_path, bytes_max=1_500_000) as journal:
        assert journal.untold() == before


async def test_what_found_no_room_is_shed_once(
    tmp_path: Path, small_disk: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that would have counted it found the disk full: it is tried again."""
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        small_disk["free"] = 7_000_000
        await journal.append([transition(1)], [batch(1)])
        monkeypatch.setattr(Store, "_commit", lambda *_: "the disk is full")
        waiting = asyncio.create_task(journal.append([transition(2)], [batch(2), batch(3)]))
        await eventually(lambda: bool(journal.stats().full))
        assert journal._store._losses.shed == {f"plc/tag-{i}": 1 for i in range(3)}
        monkeypatch.undo()
        monkeypatch.setattr(files, "free_bytes", lambda _: 7_000_000)
        await kept_house(journal, clock, waiting.done)
    async with opened(tmp_path) as journal:
        assert dict(journal.stats().shed) == {f"plc/tag-{i}": 3 for i in range(3)}
        [loss] = journal.untold()
        assert loss.reason.startswith("9 samples were not recorded")


def test_what_goes_on_for_long_is_told_in_pieces() -> None:
    losses = Losses()
    for minute in range(13):
        losses.take_shed([batch(60 * minute)], "no room")
    assert [(loss.at, loss.until) for loss in losses.waiting] == [
        (START + timedelta(minutes=m), START + timedelta(minutes=m + 5)) for m in (0, 6)
    ]
    losses.end_shedding()
    assert losses.waiting[-1].at == START + timedelta(minutes=12)
    again = Losses(losses.to_keep())
    assert again.waiting == losses.waiting
    assert again.shed.total() == 39
    assert again.told(gaps(again.waiting[:2], NAMES))
    assert again.waiting == losses.waiting[2:]


def test_losses_that_nobody_takes_are_bounded() -> None:
    losses = Losses()
    for n in range(500):
        losses.take_damage((f"journal-{n}", n, 0), START, START + timedelta(seconds=n), f"reason {n}")
    assert len(losses.waiting) == 200
    assert losses.waiting[0].until == START + timedelta(seconds=300)
    assert Losses(b"\xc1nonsense").waiting == ()


async def test_damage_and_missing_segments_are_told_once_with_their_bounds(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 4)
        times = {r.seq: r.recorded_at for r in await journal.read(0, 10**6)}
    one, two, _, _ = segments(tmp_path)
    two.unlink()
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        journal.require("database", events=True, batches=True)
        await kept_house(journal, clock, lambda: bool(journal.untold()))
        assert len(await tell(journal)) == 2
        [gap, other] = (await journal.read(last, 9))[:2]
        assert isinstance(gap.event, Gap)
        assert isinstance(other.event, Gap)
        assert {gap.event.connection, other.event.connection} == set(NAMES)
        first, after = (int(p.name.split("-")[2]) for p in segments(tmp_path)[:2])
        assert gap.event.at <= times[after]
        assert gap.event.at >= times[first]
        assert "missing" in gap.event.reason
    async with opened(tmp_path, clock=clock) as journal:
        await kept_house(journal, clock, lambda: clock.now() > START + timedelta(seconds=5))
        assert journal.stats().damaged
        assert journal.untold() == (), "it was told at the start before"
    assert one.exists()


async def test_what_every_sink_has_passed_is_no_loss(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 3)
    _, two, _ = segments(tmp_path)
    two.unlink()
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        journal.require("database", events=True, batches=True)
        await journal.advance("database", Cursor(last, last))
        await kept_house(journal, clock, lambda: clock.now() > START + timedelta(seconds=5))
        assert journal.stats().damaged
        assert journal.untold() == ()


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk whose free space is told by hand, from which the reserve is taken and to which it goes back."""
    disk = {"free": 10**9}

    def free_bytes(directory: Path) -> int:
        return disk["free"] - files.ballast_bytes(directory)

    monkeypatch.setattr(files, "free_bytes", free_bytes)
    return disk


async def test_on_a_full_disk_samples_leave_off_the_reserve_is_spent_and_taken_again(
    tmp_path: Path, small_disk: dict[str, int]
) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        await kept_house(journal, clock, lambda: files.ballast_bytes(tmp_path) == files.BALLAST_BYTES)
        await journal.append([transition(1)], [batch(1)])
        assert (journal.position.last_seq, journal.position.last_batch) == (1, 1)
        small_disk["free"] = files.BALLAST_BYTES + 7_000_000
        await journal.append([transition(2)], [batch(2)])
        assert (journal.position.last_seq, journal.position.last_batch) == (2, 1)
        assert files.ballast_bytes(tmp_path) == files.BALLAST_BYTES, "events have room without it"
        small_disk["free"] = files.BALLAST_BYTES  # somebody filled the disk to the last byte
        await journal.append([transition(3)], [batch(3)])
        assert (journal.position.last_seq, journal.position.last_batch) == (3, 1)
        left = files.ballast_bytes(tmp_path)
        assert 0 < left < files.BALLAST_BYTES - room.MARGIN_BYTES, "only what was needed"
        assert str(tmp_path) in journal.stats().shedding
        small_disk["free"] = 3_000_000  # and eats what was given up as well
        waiting = asyncio.create_task(journal.append([transition(4)], [batch(4)]))
        await eventually(lambda: journal.stats().full != "")
        assert files.ballast_bytes(tmp_path) == 0
        small_disk["free"] = 10**9
        await kept_house(journal, clock, waiting.done)
        assert (journal.position.last_seq, journal.position.last_batch) == (4, 2)
        assert (journal.stats().full, journal.stats().shedding) == ("", "")
        await kept_house(journal, clock, lambda: files.ballast_bytes(tmp_path) == files.BALLAST_BYTES)
        assert dict(journal.stats().shed) == {f"plc/tag-{i}": 2 for i in range(3)}


async def test_a_disk_below_the_minimum_is_refused_with_path_need_and_have(
    tmp_path: Path, small_disk: dict[str, int]
) -> None:
    small_disk["free"] = 5_000_000
    with pytest.raises(StartFailed) as refused:
        async with opened(tmp_path):
            pass
    for told_of in (str(tmp_path), str(room.DISK_BYTES_MIN), "5000000"):
        assert told_of in refused.value.reason
    assert not segments(tmp_path)


async def test_an_existing_journal_opens_on_a_full_disk_and_can_be_read(
    tmp_path: Path, small_disk: dict[str, int]
) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        await journal.append([transition(1)], [batch(1)])
        await kept_house(journal, clock, lambda: files.ballast_bytes(tmp_path) > 0)
    small_disk["free"] = files.BALLAST_BYTES
    async with opened(tmp_path) as journal:
        assert [r.seq for r in await journal.read(0, 9)] == [1]
        assert [r.seq for r in await journal.append([transition(2)], [batch(2)])] == [2]
        assert journal.position.last_batch == 1


@pytest.mark.parametrize("held", [files.BALLAST_BYTES, 1])
def test_the_reserve_is_spent_by_what_is_wanted(tmp_path: Path, held: int) -> None:
    (tmp_path / "ballast").write_bytes(b"\x00" * held)
    assert files.spend_ballast(tmp_path, 1_000_000)
    assert files.ballast_bytes(tmp_path) == max(0, held - 1_000_000)
    assert (tmp_path / "ballast").exists() == (held > 1_000_000)
