"""What a connection tells of itself: to people, to programs and to Prometheus, in bounded words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import pytest

from api.ports import StreamPosition
from connectors.base import Link
from connectors.errors import ConnectionLost
from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.live import Live
from gateway.metrics import Exposition
from gateway.pipeline import Pipeline
from gateway.supervisor import Supervised
from statemodel.engine import Engine
from statemodel.records import Recorded
from statemodel.types import Gap, Quality, SampleBatch, TagSample
from tests.api.twins import AccountsTwin
from tests.gateway.test_pipeline import MemoryLog
from tests.support.manual_clock import ManualClock

PLC = ConnectionSettings(
    name="plc",
    protocol="toy",
    endpoint="toy://plc",
    groups=tuple(
        GroupSettings(name=name, interval=timedelta(seconds=every_s), tags=(TagSettings(name=f"{name}-tag"),))
        for name, every_s in (("fast", 0.1), ("slow", 10))
    ),
)


class Talker:
    """A connector that says all a connector may say, then loses its device."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.warnings: Mapping[str, str] = {}
        self.ends = asyncio.Event()
        self.said = asyncio.Event()

    def figures(self) -> Mapping[str, float]:
        return {"answers": 7, "timeouts": 2}

    async def run(self, link: Link) -> None:
        now = self.clock.now()
        self.warnings = {"certificate": "the certificate expires in 12 days"}
        await link.up()
        bad = TagSample("plc/fast-tag", None, Quality.BAD, None, now, "device_failure")
        await link.emit(SampleBatch("plc", now, (bad,)))
        link.refused("plc/slow-tag", "no such register")
        link.gap(Gap("plc", now, now, "the queue overflowed"))
        for _ in range(700):
            link.cycle("fast", 0.002, 0.001, 0)
            self.clock.advance(0.05)
        link.cycle("fast", 0.050, 0.030, 3)
        self.said.set()
        await self.ends.wait()
        raise ConnectionLost("no answer within 3 s", hint="is it switched on?")

    async def read_once(self) -> Sequence[TagSample]:
        return ()


class Site:
    def __init__(self) -> None:
        self.clock, log = ManualClock(), MemoryLog()
        self.connector = Talker(self.clock)
        self.live = Live(gateway="g", connections=[PLC], equipment=(), memories={}, last={}, source=_Source())
        self.pipeline = Pipeline(
            engine=Engine([], at=self.clock.now()),
            log=log,
            connections=[PLC],
            listeners=[self.live],
            clock=self.clock,
            heartbeat=timedelta(milliseconds=5),
            alive={},
            came_round=lambda: None,
        )
        self.supervised = Supervised(PLC, self.connector, self.pipeline, self.clock)
        self.live.supervised = {"plc": self.supervised}
        self.metrics = Exposition(
            pipeline=self.pipeline,
            supervised=[self.supervised],
            sinks={},
            accounts=AccountsTwin(),
            journal=dict,
            clock=self.clock,
            version="1",
        )


class _Source:
    """No events: this is about connections."""

    def position(self) -> StreamPosition:
        return StreamPosition("s", 1, 0)

    async def events_after(self, _seq: int, _limit: int) -> Sequence[Recorded]:
        return ()

    async def wait_beyond(self, _seq: int) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    tasks = [asyncio.create_task(site.pipeline.run()), asyncio.create_task(site.supervised.run())]
    async with asyncio.timeout(45):
        await site.connector.said.wait()
        while site.pipeline.backlog:
            await asyncio.sleep(0)
    yield site
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_people_see_what_is_wrong_and_how_it_runs(site: Site) -> None:
    [view] = site.live.connections()

    assert (view.link, view.gaps, view.skipped_cycles) == ("up", 1, 3)
    assert view.bad_tags == {"plc/fast-tag": "bad: device failure", "plc/slow-tag": "no such register"}
    assert view.warnings == {"certificate": "the certificate expires in 12 days"}
    assert view.figures == {"answers": 7, "timeouts": 2}
    fast = view.cycles["fast"]
    assert (fast["count"], fast["interval_s"], fast["skipped"]) == (701, 0.1, 3)
    assert (fast["duration_max_s"], fast["lateness_max_s"]) == (0.05, 0.03)
    assert fast["duration_mean_s"] == pytest.approx((700 * 0.002 + 0.05) / 701)
    assert view.cycles["slow"] == {"interval_s": 10, "count": 0}


async def test_a_lost_link_is_told_with_what_may_help_and_hides_no_bad_tags_behind_it(site: Site) -> None:
    site.connector.ends.set()
    async with asyncio.timeout(45):
        while site.live.connections()[0].retry_at is None or site.pipeline.backlog:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    [view] = site.live.connections()

    assert (view.link, view.last_error, view.last_error_hint) == (
        "down",
        "no answer within 3 s",
        "is it switched on?",
    )
    assert view.retry_at is not None
    assert view.last_error_at is not None
    assert "plc/fast-tag" not in view.bad_tags, "that nothing is known of any tag is not said of each"


async def test_the_figures_are_metrics_by_connection_and_group(site: Site) -> None:
    text = site.metrics.render()[0].decode()

    for line in (
        'andon_connection_up{connection="plc"} 1.0',
        'andon_connection_warnings{connection="plc"} 1.0',
        'andon_connection_gaps_total{connection="plc"} 1.0',
        'andon_connector_count_total{connection="plc",what="timeouts"} 2.0',
        'andon_poll_cycles_total{connection="plc",group="fast"} 701.0',
        'andon_poll_cycle_seconds_max{connection="plc",group="fast"} 0.05',
        'andon_poll_cycles_total{connection="plc",group="slow"} 0.0',
    ):
        assert line in text
    labels = set(re.findall(r'(\w+)="', text))
    assert labels <= {"version", "connection", "group", "what", "sink", "table"}


async def test_the_last_minute_forgets_what_is_older(site: Site) -> None:
    site.clock.advance(61)

    assert site.supervised.view().cycles["fast"]["count"] == 0
    assert 'andon_poll_cycles_total{connection="plc",group="fast"} 701.0' in site.metrics.render()[0].decode()
