"""What was written is what is read afterwards by the connector itself, or it is said that it is not.

A write is never repeated, whatever is read.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from api.commanding import CommandRefused
from connectors.base import WriteOutcome
from statemodel.types import Quality
from tests.gateway.control.bench import (
    ANNA,
    SHOWN,
    TAG,
    WITHIN_S,
    Bench,
    in_vain,
    request,
    rules,
    until,
)
from tests.support.loop_time import later


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_another_value_is_a_mismatch_and_an_alarm_and_never_tried_again(bench: Bench) -> None:
    bench.machine.off_by = -5.0
    async with bench.open() as desk:
        view = await in_vain(bench, desk, after=lambda: bench.machine.samples[SHOWN].value == 85.0)
        assert (view.status, view.code, view.read) == ("mismatch", "read_back", 85.0)
        assert len(bench.machine.received) == 1
        assert bench.statuses(view.id) == ["accepted", "mismatch"]
        assert TAG in desk.alarms
        bench.machine.off_by = 0.0
        await desk.submit(request(key="k-2"), ANNA, "rest")
        assert not desk.alarms


async def test_within_the_tolerance_it_is_the_same(bench: Bench) -> None:
    bench.machine.off_by = 0.4
    async with bench.open() as desk:
        assert (await desk.submit(request(), ANNA, "rest")).status == "verified"


async def test_a_reading_of_before_counts_for_nothing(bench: Bench) -> None:
    bench.machine.value = 90.0
    bench.machine.show()
    bench.machine.shows = False
    async with bench.open() as desk:
        view = await in_vain(bench, desk, after=lambda: bool(bench.machine.received))
        assert (view.status, view.code) == ("written", "not_read")


async def test_a_tag_without_news_is_read_when_its_group_was_read_twice_since(bench: Bench) -> None:
    bench.machine.value = 90.0
    bench.machine.show()
    bench.machine.shows = False
    async with bench.open() as desk:
        waiting = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
        await until(lambda: bool(bench.machine.received and bench.machine.readings._waiting))
        bench.machine.readings.cycle("plc", "all", 60.0)  # one that began long before the write
        bench.machine.readings.cycle("plc", "all", 60.0)
        await asyncio.sleep(0.02)
        assert not waiting.done()
        bench.machine.readings.cycle("plc", "all", 0.0)
        bench.machine.readings.cycle("plc", "all", 0.0)
        assert (await waiting).status == "verified"


async def test_what_is_read_before_the_machine_has_settled_does_not_count(tmp_path: Path) -> None:
    readback = {"tag": "plc/shown", "within": "60s", "settle": "30s", "tolerance": 0.5}
    bench = Bench(tmp_path, rules(rule_readback=readback))
    machine = bench.machine
    machine.shows = False
    async with bench.open() as desk:
        waiting = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
        await until(lambda: bool(machine.received and machine.readings._waiting))
        machine.show()
        await asyncio.sleep(0.02)
        assert not waiting.done()
        bench.clock.shift_s += 31.0
        machine.value = 80.0
        machine.show()
        await asyncio.sleep(0.02)
        later(60.0)
        view = await waiting
        assert (view.status, view.read) == ("mismatch", 80.0)


async def test_a_bad_reading_confirms_nothing(bench: Bench) -> None:
    bench.machine.shows = False
    async with bench.open() as desk:
        waiting = asyncio.create_task(desk.submit(request(), ANNA, "rest"))
        await until(lambda: bool(bench.machine.received and bench.machine.readings._waiting))
        bench.machine.show(Quality.BAD)
        await asyncio.sleep(0.02)
        later(WITHIN_S)
        view = await waiting
        assert view.status == "written"
        assert "bad quality" in view.reason


async def test_a_value_that_changes_right_after_is_told_as_it_is_read(bench: Bench) -> None:
    news = bench.machine.readings.news

    async def and_then_another(within_s: float) -> bool:
        found = await news(within_s)
        # Read back as it was written; before anybody is told, the machine has changed it.
        asyncio.get_running_loop().call_soon(change)
        return found

    def change() -> None:
        bench.machine.value = 12.0
        bench.machine.show()

    bench.machine.readings.news = and_then_another  # type: ignore[method-assign]
    async with bench.open() as desk:
        carrier = desk._sending._carriers["tag"]
        carry = carrier.carry

        async def slowly(order, check):  # type: ignore[no-untyped-def]
            carried = await carry(order, check)
            assert carried.status == "verified"
            await asyncio.sleep(0.02)
            return carried

        carrier.carry = slowly  # type: ignore[method-assign]
        view = await desk.submit(request(), ANNA, "rest")
        assert (view.status, view.code, view.read) == ("mismatch", "changed_after", 12.0)


async def test_a_lost_answer_is_verified_when_it_is_read_back(bench: Bench) -> None:
    bench.machine.outcome = WriteOutcome.UNKNOWN
    async with bench.open() as desk:
        view = await desk.submit(request(), ANNA, "rest")
        assert (view.status, view.code) == ("verified", "unanswered")
        assert len(bench.machine.received) == 1


async def test_a_lost_answer_without_a_reading_is_unknown_and_stays_so(bench: Bench) -> None:
    bench.machine.outcome, bench.machine.acts = WriteOutcome.UNKNOWN, False
    async with bench.open() as desk:
        shown = bench.machine.shown
        view = await in_vain(bench, desk, after=lambda: bench.machine.shown > shown)
        assert (view.status, view.read) == ("unknown", 50.0)
        assert (await desk.submit(request(), ANNA, "rest")) == view
        assert len(bench.machine.received) == 1
        assert desk.alarms


async def test_what_the_device_refuses_is_refused_with_its_words(bench: Bench) -> None:
    bench.machine.outcome = WriteOutcome.REFUSED
    async with bench.open() as desk:
        with pytest.raises(CommandRefused) as refused:
            await desk.submit(request(), ANNA, "rest")
        assert (refused.value.code, refused.value.reason) == ("device_refused", "so it was made")
        assert refused.value.view is not None
        assert bench.audit.of(refused.value.view.id) == ["accepted", "refused"]
