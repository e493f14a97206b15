"""While nothing is recorded no state is known to be so still: what depends on one is not sent, nor is
anything else, since a command is on record before it goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.commanding import CommandRefused, CommandRequest
from gateway.config.control import AllowSettings
from gateway.control import settling
from gateway.control.judging import LAST, STAGES, judge
from gateway.control.plant import LivePlant
from gateway.control.readings import Readings
from gateway.journal import Cursor, words
from statemodel.records import Recorded
from statemodel.types import CommandStatus, CommandTold
from tests.gateway.control.bench import ANNA, TAG, Bench, request, rules
from tests.gateway.control.test_judging import facts
from tests.gateway.journal.builders import ManualClock, batch, eventually, opened, transition

STILL = "not known since the journal takes nothing more: the disk is full"
PACKML: dict[str, Any] = {"command": "plc/cmd", "request": "plc/request", "commands": ["Start"]}


@pytest.mark.parametrize("stages", [STAGES, LAST], ids=["at first", "in the last line before the write"])
def test_a_state_that_stands_still_is_no_known_state(stages: Any) -> None:
    halted = judge(facts(standstill=STILL), stages)
    assert halted is not None
    assert (halted.code, halted.reason) == ("state_unknown", f"the state of m-1 is {STILL}")


def test_commands_by_name_depend_on_the_state_even_without_a_list_of_states() -> None:
    rule = AllowSettings.model_validate({"equipment": "m-1", "packml": PACKML})
    named = facts(rule=rule, request=CommandRequest(key="k", equipment="m-1", command="Start"))
    assert judge(named) is None
    halted = judge(msgspec.structs.replace(named, standstill=STILL))
    assert halted is not None
    assert halted.code == "state_unknown"


def test_what_does_not_depend_on_the_state_is_not_halted_for_it() -> None:
    assert judge(facts(rule_states=[], standstill=STILL)) is None


class _Live:
    """As much of the live view as is asked here."""

    def __init__(self) -> None:
        self.standstill = lambda: STILL


def test_the_plant_says_what_the_live_view_says() -> None:
    plant = LivePlant(_Live(), Readings(ManualClock(), {}), [], [])  # type: ignore[arg-type]
    assert plant.standstill() == STILL


async def test_what_comes_to_a_standstill_on_the_way_is_not_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    record = bench.record

    async def then_nothing_more(event: CommandTold) -> Recorded:
        recorded = await record(event)
        bench.machine.standstill = STILL
        return recorded

    bench.record = then_nothing_more  # type: ignore[method-assign]
    async with bench.open() as desk:
        with pytest.raises(CommandRefused) as refused:
            await desk.submit(request(), ANNA, "rest")
    assert refused.value.code == "state_unknown"
    assert bench.machine.received == []


@pytest.mark.parametrize(
    ("states", "code"), [(["Idle"], "state_unknown"), ([], "journal_unavailable")], ids=["states", "none"]
)
async def test_while_the_journal_is_really_full_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: list[str], code: str
) -> None:
    """With an interlock on a state for want of the state, without one for want of the record. Once there is
    room again the next is sent, and of the refused one it is on record that it was refused."""
    clock = ManualClock()
    bench = Bench(tmp_path, rules(rule_states=states))
    async with opened(tmp_path, clock=clock, bytes_max=1_000_000, keep=timedelta(0)) as journal:
        journal.require("database", events=True, batches=True)

        async def record(event: CommandTold) -> Recorded:
            return (await journal.append([event]))[0]

        def standstill() -> str | None:
            full = words.full(journal.stats())
            return f"not known since the journal {full}" if full else None

        async def fill() -> None:
            for n in range(1, 200):
                await journal.append([transition(n)], [batch(n, 4000)])

        bench.record = record  # type: ignore[method-assign]
        async with bench.open(runs=False) as desk:
            filling = asyncio.create_task(fill())
            await eventually(lambda: journal.stats().full != "")
            bench.machine.standstill = standstill()
            assert bench.machine.standstill is not None

            with monkeypatch.context() as hasty:
                hasty.setattr(settling, "JOURNAL_S_MAX", 0.1)
                hasty.setattr(settling, "SETTLE_S_MAX", 0.1)
                with pytest.raises(CommandRefused) as refused:
                    await desk.submit(request(key="k-1"), ANNA, "rest")
            assert refused.value.code == code
            assert bench.machine.received == []

            while not filling.done():
                position = journal.position
                await journal.advance("database", Cursor(position.last_seq, position.last_batch))
                clock.move(timedelta(seconds=1))
                await asyncio.sleep(0.002)
            await filling
            bench.machine.standstill = standstill()
            assert bench.machine.standstill is None
            done = await desk.submit(request(key="k-2"), ANNA, "rest")
            assert done.status is CommandStatus.VERIFIED
            assert bench.machine.received == [(TAG, 90.0)]
