"""What users of the journal rely on: numbers without gaps, durable order, cursors, freeing, waiting."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.errors import JournalFailed
from gateway.journal import Cursor, files
from gateway.journal.losses import Losses
from gateway.journal.segment import Segment
from gateway.journal.store import Store
from statemodel.types import Gap, Quality, SampleBatch, SourceLost, TagSample, TagValue, Transition
from tests.gateway.journal.builders import (
    PATIENCE_S,
    START,
    ManualClock,
    batch,
    eventually,
    fill,
    kept_house,
    last_numbers,
    opened,
    transition,
)


async def test_events_are_numbered_told_and_there_after_reopening(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        stream = journal.stream
        first = await journal.append([transition(1), SourceLost("plc", START, "silent")])
        second = await journal.append([Gap("plc", START, START + timedelta(seconds=9), "full", "plc/a")])
        recorded = [*first, *second]
        assert [r.seq for r in recorded] == [1, 2, 3]
        assert [r.type for r in recorded] == ["transition", "source_lost", "gap"]
        assert {r.recorded_at for r in recorded} == {START}
        assert await journal.read(0, 10) == recorded
        assert await journal.read(1, 1) == recorded[1:2]
    async with opened(tmp_path) as journal:
        assert journal.stream == stream
        assert await journal.read(0, 10) == recorded
        assert [r.seq for r in await journal.append([transition(4)])] == [4]


async def test_a_new_directory_gets_a_stream_of_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        assert one.stream != other.stream
        assert one.position.last_seq == 0
        assert one.position.first_seq == 1


async def test_batches_have_numbers_of_their_own(tmp_path: Path) -> None:
    batches = [batch(n, size) for n, size in ((1, 1), (2, 300), (3, 0))]
    async with opened(tmp_path) as journal:
        await journal.append([transition(1)], batches[:2])
        await journal.append([], batches[2:])
        assert await journal.read_batches(0, 10) == list(enumerate(batches, 1))
    async with opened(tmp_path) as journal:
        assert await journal.read_batches(1, 1) == [(2, batches[1])]
        assert (journal.position.last_seq, journal.position.last_batch) == (1, 3)


async def test_batches_are_read_until_there_are_enough_samples(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([], [batch(n, 10) for n in range(9)])
        assert len(await journal.read_batches(2, 10, samples_max=25)) == 3
    async with opened(tmp_path) as journal:
        assert len(await journal.read_batches(2, 10, samples_max=25)) == 3


async def test_values_no_encoding_holds_do_not_stop_the_journal(tmp_path: Path) -> None:
    at = START
    values: list[TagValue] = [
        2**70,
        -(2**63) - 1,
        10**400,
        float("nan"),
        float("inf"),
        "\ud800",
        "a\x00b",
        None,
        True,
        2**64 - 1,
    ]
    batch = SampleBatch("plc", at, tuple(TagSample("plc/x", v, Quality.GOOD, at, at) for v in values))
    async with opened(tmp_path) as journal:
        await journal.append([], [batch])
    async with opened(tmp_path) as journal:
        [(_, read)] = await journal.read_batches(0, 1)
    told = [sample.value for sample in read.samples]
    assert told[0] == 2.0**70
    assert told[2] == float("inf")
    assert told[3] != told[3]
    assert told[4:] == [float("inf"), "?", "a\x00b", None, True, 2**64 - 1]


async def test_reading_goes_across_segments(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 4)
    async with opened(tmp_path) as journal:
        assert journal.stats().segments == 4
        assert [r.seq for r in await journal.read(0, 10**6)] == list(range(1, last + 1))
        assert [r.seq for r in await journal.read(3, last - 5)] == list(range(4, last - 1))
        assert [n for n, _ in await journal.read_batches(0, 10**6)] == list(range(1, last + 1))


async def test_transitions_are_found_by_equipment_and_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.require("database", events=True, batches=True)
        first = [await journal.append([transition(n, name)]) for n, name in ((1, "a"), (2, "b"), (3, "a"))]
        last = await fill(journal, 3, equipment="b")
        await journal.append([transition(last + 1, "a")])
        of_a = [r.seq for r in await journal.transitions("a", after=0, from_=None, to=None, limit=9)]
        assert of_a == [1, 3, last + 1]
        at = START + timedelta(seconds=3)
        assert await journal.transitions("a", after=0, from_=at, to=None, limit=1) == first[2]
        assert await journal.transitions("a", after=0, from_=None, to=at, limit=9) == first[0]
        assert await journal.transitions("a", after=1, from_=None, to=at, limit=9) == []
        assert await journal.transition_before("a", at) == first[2][0]
        assert await journal.transition_before("a", at - timedelta(microseconds=1)) == first[0][0]
        assert await journal.transition_before("a", START) is None
        newest = await journal.transition_before("a", at + timedelta(days=1))
        assert newest is not None
        assert newest.seq == last + 1


async def test_nothing_is_freed_before_every_required_sink_has_read_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        journal.require("database", events=True, batches=True)
        journal.require("mqtt", events=True, batches=False)
        last = await fill(journal, 4)

        async def stand(database: Cursor, mqtt: Cursor, segments: int) -> None:
            await journal.advance("database", database)
            await journal.advance("mqtt", mqtt)
            await kept_house(
                journal, clock, lambda: journal.stats().sinks == {"database": database, "mqtt": mqtt}
            )
            await kept_house(journal, clock, lambda: journal.stats().segments <= segments)
            assert journal.stats().segments == segments

        first, second, third = last_numbers(tmp_path)
        await stand(Cursor(last, first - 1), Cursor(last, 0), 4)
        await stand(Cursor(last, first), Cursor(last, 0), 3)
        assert journal.position.first_seq == journal.position.first_batch == first + 1
        await stand(Cursor(last, second), Cursor(last, 0), 2)
        await stand(Cursor(last, third), Cursor(last, 0), 1)
        assert [r.seq for r in await journal.read(third, 10**6)] == list(range(third + 1, last + 1))
    async with opened(tmp_path) as journal:
        assert [r.seq for r in await journal.read(0, 10**6)] == list(range(third + 1, last + 1))


async def test_whoever_sees_that_a_segment_was_freed_sees_where_the_journal_begins_now(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        journal.require("database", events=True, batches=True)
        last = await fill(journal, 4)
        [first, *_] = last_numbers(tmp_path)
        await journal.advance("database", Cursor(last, first))
        seen: list[tuple[int, int, int]] = []

        def keep_house() -> None:
            """In the journal's thread: the loop has not heard of it yet."""
            journal._store.keep_house()
            position = journal.position
            seen.append((journal.stats().segments, position.first_seq, position.first_batch))

        await journal._call(keep_house)
        assert seen == [(3, first + 1, first + 1)]


async def test_a_sink_of_events_alone_holds_them_too(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        journal.require("mqtt", events=True, batches=False)
        last = await fill(journal, 2)
        [end] = last_numbers(tmp_path)
        await journal.advance("mqtt", Cursor(end - 1, 0))
        await kept_house(journal, clock, lambda: journal.stats().sinks == {"mqtt": Cursor(end - 1, 0)})
        assert journal.stats().segments == 2
        await journal.advance("mqtt", Cursor(last, 0))
        await kept_house(journal, clock, lambda: journal.stats().segments == 1)


async def test_the_transition_up_to_a_number_is_found_across_segments(tmp_path: Path) -> None:
    async with opened(tmp_path, clock=ManualClock()) as journal:
        last = await fill(journal, 3)
        events = await journal.read(0, 10**6)
        for seq in (0, 1, 2, *last_numbers(tmp_path), last, last + 9):
            for name in {r.equipment for r in events} | {"nobody-1"}:
                wanted = [r for r in events if r.equipment == name and r.seq <= seq]
                assert await journal.transition_up_to(name, seq) == (wanted[-1] if wanted else None)


async def test_what_was_read_stays_for_a_while(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(
        tmp_path, clock=clock, keep=timedelta(hours=2), segment_age=timedelta(days=9)
    ) as journal:
        await fill(journal, 3)
        clock.move(timedelta(minutes=10))
        await fill(journal, 4)
        await kept_house(journal, clock, lambda: journal.stats().segments < 4, by=timedelta(minutes=1))
        assert journal.stats().segments == 2
        waited = clock.now() - START
        assert timedelta(hours=2) <= waited <= timedelta(hours=2, minutes=9)


async def test_a_segment_is_begun_by_age_but_not_when_there_is_nothing_in_it(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(
        tmp_path, clock=clock, keep=timedelta(days=9), segment_age=timedelta(hours=1)
    ) as journal:
        await journal.append([transition(1)])
        await kept_house(journal, clock, lambda: journal.stats().segments == 2, by=timedelta(minutes=20))
        assert clock.now() - START == timedelta(hours=1)
        for _ in range(3):
            clock.move(timedelta(hours=1))
            await journal.advance("reader", Cursor(1, 0))
        assert journal.stats().segments == 2


async def test_a_new_segment_carries_all_that_must_survive_freeing(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, keep=timedelta(0)) as journal:
        proofs = {"plc": START, "oven": START}
        [kept] = await journal.append([transition(1, "quiet")], (), proofs)
        await journal.append([], (), {"oven": None})
        await journal.advance("database", Cursor(1, 0))
        while journal.position.first_seq < 2:
            n = journal.position.last_seq + 1
            await journal.append([transition(n)], [batch(n, 400)])
    async with opened(tmp_path) as journal:
        assert journal.position.first_seq > 1
        newest = await journal.last_transitions()
        assert newest["quiet"] == kept
        assert newest["filler-1"].seq == n
        assert await journal.alive() == {"plc": START}
        assert await journal.cursor("database") == Cursor(1, 0)
        assert await journal.transition_before("quiet", START + timedelta(days=1)) == kept
        assert await journal.transition_before("quiet", START) is None


async def test_a_cursor_never_goes_back_and_survives(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        assert await journal.cursor("database") == Cursor(0, 0)
        await journal.append([transition(n) for n in range(9)], [batch(1)])
        await journal.advance("database", Cursor(7, 0))
        await journal.advance("database", Cursor(5, 1))
        assert await journal.cursor("database") == Cursor(7, 1)
    async with opened(tmp_path) as journal:
        assert await journal.cursor("database") == Cursor(7, 1)


async def test_what_others_ask_to_keep_is_carried_from_segment_to_segment(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as journal:
        assert await journal.kept("tally") is None
        await journal.keep("tally", b"1")
        await journal.keep("other", b"\x00\xff")
        assert await journal.kept("tally") == b"1"
        await fill(journal, 3)
        await journal.keep("tally", b"2")
    async with opened(tmp_path) as journal:
        assert (await journal.kept("tally"), await journal.kept("other")) == (b"2", b"\x00\xff")


async def test_what_is_kept_is_durable_with_the_next_commit(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "live", clock=clock) as journal:
        await journal.keep("tally", b"1")
        await journal.append([transition(1)])
        await journal.keep("tally", b"2")
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    async with opened(tmp_path / "copy") as journal:
        assert (journal.position.last_seq, await journal.kept("tally")) == (1, b"1")


async def test_what_is_kept_now_is_durable_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "live", clock=ManualClock()) as journal:
        await journal.keep("number", b"7", now=True)
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    async with opened(tmp_path / "copy") as journal:
        assert await journal.kept("number") == b"7"


async def test_waiting_ends_with_the_next_event_or_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        waiting = asyncio.create_task(journal.wait_beyond(0, 0))
        await asyncio.sleep(0)
        assert not waiting.done()
        await journal.append([], [batch(1)])
        await asyncio.wait_for(waiting, PATIENCE_S)
        waiting = asyncio.create_task(journal.wait_beyond(0, 1))
        await journal.append([transition(1)])
        await asyncio.wait_for(waiting, PATIENCE_S)


async def test_waiting_ends_when_the_journal_closes(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        waiting = asyncio.create_task(journal.wait_beyond(0, 0))
        await asyncio.sleep(0)
    with pytest.raises(JournalFailed):
        await asyncio.wait_for(waiting, PATIENCE_S)


async def test_a_cancelled_append_is_either_whole_or_absent(tmp_path: Path) -> None:
    cancelled = 0
    async with opened(tmp_path) as journal:
        for n in range(40):
            task = asyncio.create_task(journal.append([transition(n)], [batch(n)]))
            for _ in range(n % 8):
                await asyncio.sleep(0)
            task.cancel()  # the disk may have been quicker
            await asyncio.wait({task})
            cancelled += task.cancelled()
        assert cancelled >= 5, "some were cancelled before they began"
        await journal.append([transition(99)], [batch(99)])
        position = journal.position
        live = await journal.read(0, 100)
    assert [r.seq for r in live] == list(range(1, position.last_seq + 1))
    assert position.last_seq == position.last_batch
    async with opened(tmp_path) as journal:
        assert await journal.read(0, 100) == live


async def test_appends_at_the_same_time_are_one_commit_in_the_order_of_the_calls(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, segment_bytes=10**9) as journal:
        asked = [journal.append([transition(n), transition(n)], [batch(n)]) for n in range(300)]
        tasks = [asyncio.create_task(append) for append in asked]
        told = await asyncio.gather(*tasks)
        assert [r.seq for recorded in told for r in recorded] == list(range(1, 601))
        assert [r.event for recorded in told for r in recorded] == [transition(n // 2) for n in range(600)]
        read = await journal.read_batches(0, 300, samples_max=10**6)
        assert read == [(n + 1, batch(n)) for n in range(300)]
        await kept_house(journal, clock, lambda: journal.stats().events == 600)
        assert journal.stats().commits <= 4
    async with opened(tmp_path) as journal:
        assert [r.seq for r in await journal.read(0, 1000)] == list(range(1, 601))


async def test_what_cannot_be_written_down_fails_alone(tmp_path: Path) -> None:
    odd = msgspec.structs.replace(transition(7), path=object())
    async with opened(tmp_path) as journal:
        asked = [journal.append([transition(1)]), journal.append([odd]), journal.append([transition(2)])]
        first, refused, last = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, TypeError)
        assert not isinstance(first, BaseException)
        assert not isinstance(last, BaseException)
        assert [r.seq for r in (*first, *last)] == [1, 2]


async def test_what_fails_after_it_is_durable_is_not_written_twice(tmp_path: Path) -> None:
    class Broken:
        name = "broken"

        def __init__(self) -> None:
            self.heard = 0

        def appended(self, _: int, __: Sequence[SampleBatch]) -> None:
            self.heard += 1
            if self.heard == 2:
                raise ValueError("a defect")

        def to_keep(self) -> bytes:
            return b""

        def held_from(self) -> int:
            return 0

    async with opened(tmp_path) as journal:
        await journal.watch(Broken())
        asked = [journal.append([transition(n)]) for n in (1, 2, 3)]
        _, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(other) for other in others] == [ValueError, ValueError]
        assert [r.seq for r in await journal.append([transition(4)])] == [4]
    async with opened(tmp_path) as journal:
        told = [r.event for r in await journal.read(0, 9)]
        assert [event.sequence for event in told if isinstance(event, Transition)] == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["_refresh", "end_shedding", "fold"])
async def test_no_number_is_given_twice_whatever_fails_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError(method)

    owner = {"_refresh": Store, "end_shedding": Losses, "fold": Segment}[method]
    async with opened(tmp_path) as journal:
        stream = journal.stream
        with monkeypatch.context() as patched:
            patched.setattr(owner, method, fails)
            if method == "_refresh":  # called when it begins or ends that there is no room
                patched.setattr(journal._store, "stats", msgspec.structs.replace(journal.stats(), full="no"))
            with pytest.raises(MemoryError):
                await journal.append([transition(1)], [batch(1)])
        [second] = await journal.append([transition(2)], [batch(2)])
        assert second.seq == 2
        assert [(r.seq, r.event) for r in await journal.read(0, 9)] == [
            (1, transition(1)),
            (2, transition(2)),
        ]
        assert await journal.read_batches(0, 9) == [(1, batch(1)), (2, batch(2))]
        assert not await journal.verify()
    async with opened(tmp_path) as journal:
        assert (journal.stream, journal.position.last_seq) == (stream, 2)


async def test_a_cancelled_append_that_waits_takes_no_number(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        tasks = [asyncio.create_task(journal.append([transition(n)])) for n in range(1, 4)]
        await asyncio.sleep(0)  # the first is on its way to the disk, the others wait
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [r.event.sequence for r in await journal.read(0, 9)] == [1, 3]  # type: ignore[union-attr]


async def test_closing_refuses_what_waits_for_room_and_ends_what_was_begun(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        tasks = [asyncio.create_task(journal.append([transition(n)])) for n in range(1, 4)]
        await asyncio.sleep(0)
        await journal.close()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert not isinstance(done[0], BaseException)
        assert all(isinstance(one, JournalFailed) for one in done[1:])
    async with opened(tmp_path) as journal:
        assert journal.position.last_seq == 1


async def test_a_full_journal_makes_the_append_wait_and_goes_on_by_itself(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock, bytes_max=1_000_000, keep=timedelta(days=1)) as journal:
        journal.require("database", events=True, batches=True)

        async def produce() -> None:
            for n in range(1, 200):
                await journal.append([transition(n)], [batch(n, 4000)])

        producing = asyncio.create_task(produce())
        await eventually(lambda: journal.stats().full != "")
        stuck_at = journal.position.last_seq
        assert "1000000" in journal.stats().full
        clock.move(timedelta(seconds=5))
        await journal.cursor("database")
        assert journal.position.last_seq == stuck_at
        while not producing.done():
            position = journal.position
            await journal.advance("database", Cursor(position.last_seq, position.last_batch))
            clock.move(timedelta(seconds=1))
            await asyncio.sleep(0.002)
        await producing
        assert journal.position.last_seq == 199
        assert journal.stats().full == ""
        assert journal.stats().bytes <= 1_000_000


async def test_recent_events_are_read_without_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        recorded = await journal.append([transition(n) for n in range(5)])
        assert (await journal.read(2, 2))[0] is recorded[2]


async def test_on_a_full_disk_house_is_kept_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither cursors nor the turn of a segment end the gateway for want of room."""
    clock, looks, free = ManualClock(), 0, 0

    def free_bytes(_: Path) -> int:
        nonlocal looks
        looks += 1
        return free

    async with opened(tmp_path, clock=clock) as journal:
        await journal.append([transition(1)])
        monkeypatch.setattr(files, "free_bytes", free_bytes)
        await journal.advance("database", Cursor(1, 0))
        clock.move(timedelta(days=2))  # the segment is old enough to be turned over
        await kept_house(journal, clock, lambda: looks > 8)
        assert journal.stats().segments == 1
        free = 10**12
        await kept_house(journal, clock, lambda: journal.stats().segments == 2)
        assert [r.seq for r in await journal.append([transition(2)])] == [2]
        free = 0
        await journal.advance("database", Cursor(2, 0))
    async with opened(tmp_path) as journal:  # it closed, and what it could not keep is only behind
        assert await journal.cursor("database") == Cursor(1, 0)


async def test_cursors_the_disk_refuses_are_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may fill up between a look at it and the write: SQLite then says SQLITE_FULL."""
    clock, refusals = ManualClock(), 0
    write = Segment.write

    def refuse(segment: Segment, *args: Any) -> None:
        nonlocal refusals
        refusals += 1
        segment._db.execute("PRAGMA max_page_count = 1")
        try:
            big = {f"sink-{n}": Cursor(n, n) for n in range(10_000)}
            write(segment, None, {}, big)
        finally:
            segment._db.execute("PRAGMA max_page_count = 1073741823")

    async with opened(tmp_path, clock=clock) as journal:
        await journal.append([transition(1)])
        with monkeypatch.context() as full:
            full.setattr(Segment, "write", refuse)
            await journal.advance("database", Cursor(1, 0))
            await kept_house(journal, clock, lambda: refusals > 2)
        assert [r.seq for r in await journal.append([transition(2)])] == [2]
        await journal.advance("database", Cursor(2, 0))
        monkeypatch.setattr(Segment, "write", refuse)
    monkeypatch.undo()
    async with opened(tmp_path) as journal:
        assert journal.position.last_seq == 2
        assert await journal.cursor("database") == Cursor(1, 0)
