"""Devices that err, chatter and contradict themselves, through the real pipeline, engine, journal and log."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import structlog

from connectors.base import Link
from connectors.errors import ConnectionLost
from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway import log
from gateway.config.schema import JournalSettings
from gateway.journal import Journal
from gateway.pipeline import Pipeline
from gateway.supervisor import Supervised
from statemodel.builtin import BUILTIN
from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentSpec
from statemodel.records import Recorded
from statemodel.types import Conformance, Gap, Quality, SampleBatch, TagSample, TagValue, Transition
from tests.support.manual_clock import ManualClock

#: A chattering contact, a hundred times a second, for so long.
CHATTER_HZ, CHATTER_S = 100, 20
PRESS = {
    "name": "press",
    "initial": "Stopped",
    "states": [
        {"name": "Running", "category": "productive"},
        {"name": "Stopped", "category": "standby"},
        {"name": "Fault", "category": "unscheduled-down"},
    ],
    "transitions": [{"from": "*", "to": ["Running", "Stopped", "Fault"]}],
    "rules": [
        {"state": "Fault", "when": "on == off", "for": "1s"},
        {"state": "Running", "when": "on and not off", "for": "500ms"},
        {"state": "Stopped", "when": "off and not on"},
    ],
}


def plc(*tags: str) -> ConnectionSettings:
    group = GroupSettings(
        name="all", interval=timedelta(seconds=1), tags=tuple(TagSettings(name=name) for name in tags)
    )
    return ConnectionSettings(name="plc", protocol="toy", endpoint="toy://plc", groups=(group,))


class Scripted:
    """A connector that runs one script for ever: a session each."""

    def __init__(self, script: Callable[[Link], Awaitable[None]]) -> None:
        self.script = script

    async def run(self, link: Link) -> None:
        await self.script(link)

    async def read_once(self) -> Sequence[TagSample]:
        return ()


class Plant:
    """One connection with all that is behind it."""

    def __init__(self, journal: Journal, clock: ManualClock, spec: EquipmentSpec) -> None:
        self.journal, self.clock = journal, clock
        self.pipeline = Pipeline(
            engine=Engine([spec], at=clock.now()),
            log=journal,
            connections=[plc("state", "on", "off")],
            listeners=(),
            clock=clock,
            heartbeat=timedelta(milliseconds=20),
            alive={},
            came_round=lambda: None,
        )

    async def give(self, **values: TagValue) -> None:
        """One batch of samples, read now."""
        now = self.clock.now()
        samples = tuple(
            TagSample(f"plc/{name}", value, Quality.GOOD, None, now) for name, value in values.items()
        )
        await self.pipeline.offer(SampleBatch("plc", now, samples))

    async def play(self, story: Callable[[], Awaitable[None]]) -> Sequence[Recorded]:
        """Work while the story is told; everything that was recorded."""
        work = asyncio.create_task(self.pipeline.run())
        await story()
        await self.pipeline.finish([])
        await work
        return await self.journal.read(0, 1_000_000)


@asynccontextmanager
async def plant(path: Path, spec: EquipmentSpec) -> AsyncIterator[Plant]:
    clock = ManualClock()
    journal = await Journal.open(path / "journal", gateway="g", settings=JournalSettings(), clock=clock)
    try:
        yield Plant(journal, clock, spec)
    finally:
        await journal.close()


def packml() -> EquipmentSpec:
    return EquipmentSpec(name="filler-1", path="a/b/filler-1", model=BUILTIN["packml"], state="plc/state")


def press() -> EquipmentSpec:
    model, problems = read_model(PRESS)
    assert model is not None, problems
    return EquipmentSpec(
        name="press-1", path="a/b/press-1", model=model, bind={"on": "plc/on", "off": "plc/off"}
    )


def moves(recorded: Sequence[Recorded]) -> list[Transition]:
    return [item.event for item in recorded if isinstance(item.event, Transition)]


def gap_free(recorded: Sequence[Recorded]) -> None:
    assert [item.seq for item in recorded] == list(range(1, len(recorded) + 1))
    transitions = moves(recorded)
    assert [item.sequence for item in transitions] == list(range(1, len(transitions) + 1))
    for before, after in pairwise(transitions):
        assert after.from_state == before.to_state
        assert after.at >= before.at


async def test_a_state_tag_that_chatters_is_kept_change_by_change(tmp_path: Path) -> None:
    """Execute and Held in turn, a hundred times a second, the held ones without the states between."""
    changes = CHATTER_HZ * CHATTER_S
    async with plant(tmp_path, packml()) as site:

        async def chatter() -> None:
            for number in range(changes):
                await site.give(state=6 if number % 2 else 11)
                site.clock.advance(1 / CHATTER_HZ)

        recorded = await site.play(chatter)

    gap_free(recorded)
    assert Counter(item.to_state for item in moves(recorded)) == {"Held": changes / 2, "Execute": changes / 2}
    judged = Counter(item.conformance for item in moves(recorded)[1:])
    assert sum(judged.values()) == changes - 1
    assert judged[Conformance.LEGAL] == 0, "what skips states, or must not be, is flagged"


async def test_a_contact_that_chatters_moves_nothing_that_asks_for_a_dwell(tmp_path: Path) -> None:
    async with plant(tmp_path, press()) as site:

        async def chatter() -> None:
            await site.give(on=False, off=True)
            for number in range(CHATTER_HZ * CHATTER_S):
                site.clock.advance(1 / CHATTER_HZ)
                await site.give(on=bool(number % 2), off=not number % 2)
            site.clock.advance(1 / CHATTER_HZ)
            await site.give(on=True, off=False)
            site.clock.advance(0.6)
            await site.give(state=1)  # time goes by

        recorded = await site.play(chatter)

    gap_free(recorded)
    assert [item.to_state for item in moves(recorded)] == ["Stopped", "Running"]
    assert moves(recorded)[1].duration_s > CHATTER_S


async def test_two_tags_that_contradict_each_other_are_a_fault_that_says_so(tmp_path: Path) -> None:
    async with plant(tmp_path, press()) as site:

        async def contradict() -> None:
            await site.give(on=False, off=True)
            site.clock.advance(1)
            await site.give(on=True)
            site.clock.advance(1.5)
            await site.give(state=1)  # time goes by
            await site.give(on=False)

        recorded = await site.play(contradict)

    gap_free(recorded)
    transitions = moves(recorded)
    assert [item.to_state for item in transitions] == ["Stopped", "Fault", "Stopped"]
    fault = transitions[1]
    assert fault.cause.rule == "on == off"
    assert {item.tag: item.value for item in fault.cause.inputs} == {"plc/on": True, "plc/off": True}
    assert fault.duration_s == 2.0, "dated to the instant its dwell was over"


async def test_a_move_the_model_forbids_is_flagged_with_its_reason(tmp_path: Path) -> None:
    async with plant(tmp_path, packml()) as site:

        async def jump() -> None:
            for code in (6, 9, 6):  # out of Aborted into Execute there is no way
                await site.give(state=code)
                site.clock.advance(0.01)

        recorded = await site.play(jump)

    gap_free(recorded)
    last = recorded[-1].event
    assert isinstance(last, Transition)
    assert (last.from_state, last.to_state) == ("Aborted", "Execute")
    assert last.conformance is Conformance.ILLEGAL


async def test_a_device_that_errs_a_thousand_times_a_second_bounds_log_and_journal(tmp_path: Path) -> None:
    """A minute of it: refusals that come and go, losses, and failures nobody foresaw."""
    stream, errors = io.StringIO(), 60_000
    log.configure("info", json=True, file=stream)
    async with plant(tmp_path, packml()) as site:

        async def errs(link: Link) -> None:
            await link.up()
            for number in range(errors):
                site.clock.advance(0.001)
                now = site.clock.now()
                link.refused("plc/on", f"error {number}" if number % 2 else "")
                link.gap(Gap("plc", now, now, "the server's queue overflowed", "plc/state"))
                if number % 10 == 0:
                    await link.emit(
                        SampleBatch("plc", now, (TagSample("plc/state", 6, Quality.GOOD, None, now),))
                    )
            raise ZeroDivisionError("unforeseen")

        supervised = Supervised(plc("state", "on", "off"), Scripted(errs), site.pipeline, site.clock)

        async def story() -> None:
            running = asyncio.create_task(supervised.run())
            async with asyncio.timeout(60):
                while not supervised.surprises:
                    await asyncio.sleep(0.01)
                while supervised.retry_at is None:
                    await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        try:
            recorded = await site.play(story)
        finally:
            structlog.get_config()["logger_factory"]().close()
            structlog.reset_defaults()

    gap_free(recorded)
    gaps = [item.event for item in recorded if isinstance(item.event, Gap)]
    assert supervised.gaps == errors
    assert len(gaps) <= 60 / 10 + 2
    assert (gaps[-1].until - gaps[0].at).total_seconds() > 59, "every loss lies within one that is told"
    lines = stream.getvalue().splitlines()
    assert len(lines) < 40
    assert sum(len(line) for line in lines) < 40_000
    told = [json.loads(line) for line in lines]
    refused = [line for line in told if line["message"].startswith("tag refused")]
    assert sum(line.get("held_back", 1) for line in refused) == errors / 2
    assert any("more like it in the last" in line["message"] for line in refused)


async def test_a_device_that_kicks_is_tried_ever_more_seldom_and_journalled_as_seldom(tmp_path: Path) -> None:
    async with plant(tmp_path, packml()) as site:
        tries: list[float] = []

        async def kicks(link: Link) -> None:
            tries.append(site.clock.monotonic())
            await link.up()
            raise ConnectionLost("closed by the device")

        supervised = Supervised(plc("state"), Scripted(kicks), site.pipeline, site.clock)

        async def an_hour() -> None:
            running = asyncio.create_task(supervised.run())
            began_s = site.clock.monotonic()
            async with asyncio.timeout(60):
                while site.clock.monotonic() - began_s < 3600:
                    while not site.clock.pauses:
                        await asyncio.sleep(0)
                    site.clock.advance(site.clock.pauses[0] + 0.001)
                    await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        recorded = await site.play(an_hour)

    assert len(tries) < 3600 / (30 * 0.75) + 10
    assert len(recorded) <= 2 * len(tries)
    pauses = {round(after - before) for before, after in pairwise(tries[8:])}
    assert len(pauses) > 5, "spread, so that many such devices do not come back at once"
