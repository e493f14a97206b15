"""Report times on the way of the data: equipment sees all at once, topics and history as the rules say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.pipeline import Pipeline
from statemodel.definition import read_model
from statemodel.engine import Engine, EquipmentSpec
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample, Transition
from tests.gateway.test_pipeline import Hearer, MemoryLog
from tests.support.manual_clock import START, ManualClock

OVEN = {
    "name": "oven",
    "initial": "Cold",
    "states": [{"name": "Cold", "category": "standby"}, {"name": "Hot", "category": "productive"}],
    "transitions": [{"from": "Cold", "to": "Hot"}, {"from": "Hot", "to": "Cold"}],
    "rules": [{"state": "Hot", "when": "temp >= 180"}, {"state": "Cold", "when": "temp < 180"}],
}


class Site:
    """A pipeline with one oven and one tag, whose topic and history are remembered."""

    def __init__(self, **rules: Any) -> None:
        tag = TagSettings.model_validate({"name": "temp", **rules})
        group = GroupSettings(name="all", interval=timedelta(seconds=1), tags=(tag,))
        model, problems = read_model(OVEN)
        assert model is not None, problems
        spec = EquipmentSpec(name="oven-1", path="a/b/oven-1", model=model, bind={"temp": "plc/temp"})
        self.clock, self.log = ManualClock(), MemoryLog()
        self.hearer = Hearer(self.log)
        self.topic: list[TagSample] = []
        self.pipeline = Pipeline(
            engine=Engine([spec], at=self.clock.now()),
            log=self.log,
            connections=[ConnectionSettings(name="plc", protocol="toy", endpoint="toy://", groups=(group,))],
            listeners=[self.hearer],
            topics=[self.topic.extend],
            clock=self.clock,
            heartbeat=timedelta(milliseconds=5),
            alive={},
            came_round=lambda: None,
        )
        self.work = asyncio.create_task(self.pipeline.run())

    async def temp(self, value: float) -> None:
        """A reading, and what becomes of it."""
        now = self.clock.now()
        seen = self.pipeline.counts.samples
        await self.pipeline.offer(
            SampleBatch("plc", now, (TagSample("plc/temp", value, Quality.GOOD, None, now),))
        )
        async with asyncio.timeout(45):
            while self.pipeline.counts.samples == seen:
                await asyncio.sleep(0)

    async def end(self, *last_words: SourceLost) -> None:
        await self.pipeline.finish(last_words)
        await self.work

    @property
    def states(self) -> list[str]:
        return [item.event.to_state for item in self.hearer.heard if isinstance(item.event, Transition)]

    @property
    def history(self) -> list[tuple[float, object]]:
        return seconds([sample for batch in self.log.batches for sample in batch.samples])

    async def until(self, told: int) -> None:
        """Wait until so much has been told on the topic: nobody but time makes that happen."""
        async with asyncio.timeout(45):
            while len(self.topic) < told:
                await asyncio.sleep(0.001)


def seconds(samples: Sequence[TagSample]) -> list[tuple[float, object]]:
    return [((sample.received_at - START).total_seconds(), sample.value) for sample in samples]


async def test_equipment_is_not_delayed_by_what_its_topic_waits_for() -> None:
    site = Site(report_min="10s", swing=100.0, report_max="1h")
    for value in (20.0, 190.0, 20.0, 190.0, 30.0):
        await site.temp(value)
        site.clock.advance(1)
    assert seconds(site.topic) == [(0, 20.0)]

    site.clock.advance(6)
    await site.until(told=2)  # the time is up, although nothing comes from the device any more

    await site.end(SourceLost("plc", site.clock.now(), "stopped"))
    assert site.states == ["Cold", "Hot", "Cold", "Hot", "Cold", "Unknown"]
    assert [value for _, value in seconds(site.hearer.values)] == [20.0, 190.0, 20.0, 190.0, 30.0, None]
    assert seconds(site.topic) == [(0, 20.0), (4, 30.0), (11, None)]


async def test_what_is_held_back_is_recorded_before_the_loss_is() -> None:
    site = Site(swing=5.0)
    for value in (20.0, 21.0, 22.0):
        await site.temp(value)
        site.clock.advance(1)

    await site.end(SourceLost("plc", site.clock.now(), "the gateway was stopped"))

    assert site.history == [(0, 20.0), (2, 22.0), (3, None)]


async def test_a_heartbeat_is_told_when_the_group_was_read_and_never_overtakes_a_value() -> None:
    site = Site(heartbeat="10s")
    await site.temp(20.0)
    for _ in range(25):
        site.clock.advance(1)
        site.pipeline.read("plc", "all", site.clock.now())
    await site.until(told=2)
    await site.temp(21.0)

    await site.end()

    assert [value for _, value in seconds(site.topic)][:2] == [20.0, 20.0]
    assert seconds(site.topic)[-1] == (25, 21.0)
    times = [at for at, _ in seconds(site.topic)]
    assert times == sorted(times)
    assert site.history == seconds(site.topic)
    assert site.states == ["Cold"], "a heartbeat moves nothing"


async def test_the_range_a_device_gives_makes_a_percentage_a_deadband() -> None:
    class DeviceTag(TagSettings):
        range_from_device = True

    site = Site()
    tag = DeviceTag(name="temp", deadband="10%")
    group = GroupSettings(name="all", interval=timedelta(seconds=1), tags=(tag,))
    plc = ConnectionSettings(name="plc", protocol="toy", endpoint="toy://", groups=(group,))
    await site.end()
    site.pipeline = Pipeline(
        engine=Engine([], at=site.clock.now()),
        log=site.log,
        connections=[plc],
        listeners=[site.hearer],
        clock=site.clock,
        heartbeat=timedelta(milliseconds=5),
        alive={},
        came_round=lambda: None,
    )
    site.work = asyncio.create_task(site.pipeline.run())
    site.pipeline.ranges({"plc/temp": (0.0, 400.0)})
    for value in (20.0, 50.0, 61.0):
        await site.temp(value)
    await site.end()

    assert [value for _, value in site.history] == [20.0, 61.0]
