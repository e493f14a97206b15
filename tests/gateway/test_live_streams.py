"""The live view as streams and waiting requests use it: in step with what is shown, from memory if it can."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from api.ports import StreamPosition
from gateway.live import Live
from statemodel.builtin import BUILTIN
from statemodel.engine import EquipmentMemory, EquipmentSpec
from statemodel.records import Recorded, tell
from statemodel.types import Cause, Conformance, Gap, Transition

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
STREAM = "3f6c1f0e-8a55-4f0a-9d6e-0c7d4f6a1b2c"


class _Journal:
    """What is durable, which may be more than was announced; counts who reads it."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []
        self.damaged: set[int] = set()
        self.reads = 0

    def position(self) -> StreamPosition:
        return StreamPosition(STREAM, 1, len(self.log))

    async def events_after(self, seq: int, limit: int) -> Sequence[Recorded]:
        self.reads += 1
        await asyncio.sleep(0)
        return [event for event in self.log[seq : seq + limit] if event.seq not in self.damaged]

    def add(self, count: int = 1) -> Sequence[Recorded]:
        gap = Gap("plc", START, START, "buffer overflow")
        return [self.tell(gap) for _ in range(count)]

    def move(self, name: str, sequence: int) -> Recorded:
        return self.tell(
            Transition(
                equipment=name,
                path=f"filling/{name}",
                model="packml",
                sequence=sequence,
                from_state="Idle",
                to_state="Execute",
                code=6,
                category="productive",
                at=START,
                duration_s=1.0,
                conformance=Conformance.LEGAL,
                skipped=(),
                cause=Cause("code", ()),
            )
        )

    def tell(self, event: Gap | Transition) -> Recorded:
        told = tell(event, gateway="g", stream=STREAM, seq=len(self.log) + 1, recorded_at=START)
        self.log.append(told)
        return told


def _live(journal: _Journal, *names: str) -> Live:
    model = BUILTIN["packml"]
    specs = [EquipmentSpec(name, f"filling/{name}", model, "plc/state") for name in names]
    memories = {spec.name: EquipmentMemory(spec.name, "Unknown", None, START, 0) for spec in specs}
    return Live(gateway="g", connections=[], equipment=specs, memories=memories, last={}, source=journal)


async def _turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_is_up_to_date_is_told_from_memory() -> None:
    journal = _Journal()
    live = _live(journal)
    streams = [live.events(None) for _ in range(100)]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await _turns()
    for _ in range(3):
        news = journal.add(2)
        live.announce(news)
        async with asyncio.timeout(45):
            assert await asyncio.gather(*waiting) == [news] * 100
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    assert journal.reads == 0
    for task in waiting:
        task.cancel()


async def test_nothing_is_told_that_is_not_shown_yet() -> None:
    """A client that reconnects at once with what it was told is never called one from the future."""
    journal = _Journal()
    shown = journal.add(3)
    live = _live(journal)
    journal.add(2)  # durable, not announced
    stream = live.events(1)
    assert await anext(stream) == shown[1:]
    waiting = asyncio.ensure_future(anext(stream))
    await _turns()
    assert not waiting.done()
    assert live.position().last_seq == 3
    live.announce(journal.log[3:])
    async with asyncio.timeout(45):
        assert await waiting == journal.log[3:]


async def test_who_is_behind_reads_on_and_then_goes_over_to_memory() -> None:
    journal = _Journal()
    journal.add(1200)
    live = _live(journal)
    told: list[int] = []
    stream = live.events(0)
    while len(told) < 1200:
        told += [event.seq for event in await anext(stream)]
        if len(told) == 500:
            live.announce(journal.add(10))
    assert told == list(range(1, len(told) + 1))
    reads = journal.reads
    waiting = asyncio.ensure_future(anext(stream))
    await _turns()
    if waiting.done():
        told += [event.seq for event in waiting.result()]
        waiting = asyncio.ensure_future(anext(stream))
        reads = journal.reads
        await _turns()
    news = journal.add()
    live.announce(news)
    async with asyncio.timeout(45):
        assert await waiting == news
    assert journal.reads == reads


async def test_what_is_damaged_holds_nobody_up() -> None:
    journal = _Journal()
    journal.add(5)
    journal.damaged = {3, 4, 5}
    live = _live(journal)
    stream = live.events(0)
    assert [event.seq for event in await anext(stream)] == [1, 2]
    waiting = asyncio.ensure_future(anext(stream))
    await _turns()
    assert not waiting.done()
    news = journal.add()
    live.announce(news)
    async with asyncio.timeout(45):
        assert await waiting == news


async def test_who_waits_for_one_equipment_is_not_woken_by_another() -> None:
    journal = _Journal()
    live = _live(journal, "oven-1", "oven-2")
    waiting = asyncio.ensure_future(live.moved_beyond("oven-1", 0))
    await _turns()
    live.announce([journal.move("oven-2", 1)])
    await _turns()
    assert not waiting.done()
    live.announce([journal.move("oven-1", 1)])
    async with asyncio.timeout(45):
        await waiting
    await live.moved_beyond("oven-1", 1)  # at once: it is of event 2


async def test_who_waits_for_equipment_that_is_taken_out_is_not_left_waiting() -> None:
    live = _live(_Journal(), "oven-1")
    waiting = asyncio.ensure_future(live.moved_beyond("oven-1", 0))
    await _turns()
    live.exchange([], [], {}, {}, [])
    async with asyncio.timeout(45):
        await waiting


async def test_while_nothing_is_recorded_the_states_shown_say_so() -> None:
    journal = _Journal()
    live = _live(journal, "oven-1")
    live.announce([journal.move("oven-1", 1)])
    before = live.equipment_named("oven-1")
    assert before is not None
    assert before.state.reason is None
    assert b"stale" not in msgspec.json.encode(before.state)
    live.standstill = lambda: "not known since the journal takes nothing more: the disk is full"
    view = live.equipment_named("oven-1")
    assert view is not None
    assert (view.state.state, view.state.stale) == ("Execute", True)
    assert view.state.reason == "not known since the journal takes nothing more: the disk is full"
    assert live.equipment()[0].state.stale is True
    assert live.state("oven-1").stale is msgspec.UNSET  # brokers say it in their own way
    live.standstill = lambda: None
    assert live.equipment_named("oven-1") == before


async def test_a_stream_that_wants_nothing_of_it_is_not_woken_and_hears_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.live.PASSED_S", 0.05)
    journal = _Journal()
    live = _live(journal)
    stream = live.events(None, lambda event: event.seq == 4)
    waiting = asyncio.ensure_future(anext(stream))
    await _turns()
    live.announce(journal.add(2))
    await _turns()
    assert not waiting.done()
    async with asyncio.timeout(45):
        assert [event.seq for event in await waiting] == [2]  # passed over, so that the cursor moves
    live.announce(journal.add(2))
    async with asyncio.timeout(45):
        assert [event.seq for event in await anext(stream)] == [3, 4]
    assert journal.reads == 0
