"""The life of a connection: losses said once, growing pauses, sessions silent after their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from connectors.base import Link
from connectors.errors import ConnectionLost, DeviceRefused
from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.supervisor import Supervised
from statemodel.types import DeviceEvent, Gap, Quality, SampleBatch, SourceLost, SourceRestored, TagSample
from tests.support.manual_clock import START, ManualClock

PLC = ConnectionSettings(
    name="plc",
    protocol="toy",
    endpoint="toy://plc",
    groups=(GroupSettings(name="all", interval=timedelta(seconds=1), tags=(TagSettings(name="state"),)),),
)

Session = Callable[[Link], Awaitable[None]]


class Collector:
    """Takes the place of the pipeline and remembers."""

    def __init__(self) -> None:
        self.events: list[SampleBatch | SourceLost | SourceRestored | Gap | DeviceEvent] = []
        self.proofs: list[datetime] = []
        self.read_groups: list[str] = []

    async def offer(self, event: SampleBatch | SourceLost | SourceRestored | Gap | DeviceEvent) -> None:
        self.events.append(event)

    def seen(self, _connection: str, at: datetime) -> None:
        self.proofs.append(at)

    def read(self, _connection: str, group: str, _at: datetime) -> None:
        self.read_groups.append(group)


class Scripted:
    """A connector whose sessions are functions, one after the other; then it waits for ever."""

    def __init__(self, *sessions: Session) -> None:
        self.sessions = list(sessions)
        self.runs = 0

    async def run(self, link: Link) -> None:
        self.runs += 1
        if self.sessions:
            await self.sessions.pop(0)(link)
        await asyncio.Event().wait()

    async def read_once(self) -> Sequence[TagSample]:
        return ()


class Bench:
    def __init__(self, *sessions: Session, known_down: bool = False) -> None:
        self.clock = ManualClock()
        self.collector = Collector()
        self.connector = Scripted(*sessions)
        self.supervised = Supervised(
            PLC,
            self.connector,
            self.collector,  # type: ignore[arg-type]
            self.clock,
            known_down=known_down,
        )
        self.task = asyncio.create_task(self.supervised.run())

    async def until_pausing(self) -> float:
        """Let it run until it waits for the next try; returns how long that pause is."""
        while not self.clock.pauses:
            await asyncio.sleep(0)
        return self.clock.pauses[0]

    async def until_running(self, runs: int) -> None:
        while self.connector.runs < runs or self.connector.sessions:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    def said(self) -> list[str]:
        return [type(event).__name__ for event in self.collector.events]


def batch(at: datetime) -> SampleBatch:
    return SampleBatch("plc", at, (TagSample("plc/state", 6, Quality.GOOD, None, at),))


async def unreachable(_link: Link) -> None:
    raise ConnectionLost("connection refused", hint="is it switched on?")


async def test_a_device_that_is_away_is_reported_once_however_often_it_is_tried() -> None:
    bench = Bench(unreachable, unreachable, unreachable)
    for _ in range(3):
        bench.clock.advance(await bench.until_pausing() + 0.001)
        await asyncio.sleep(0)
    await bench.until_running(4)

    [lost] = bench.collector.events
    assert lost == SourceLost("plc", START, "connection refused")
    view = bench.supervised.view()
    assert (view.link, view.last_error, view.attempts) == ("down", "connection refused", 4)
    bench.task.cancel()


async def test_pauses_grow_and_have_a_bound() -> None:
    bench = Bench(*[unreachable] * 12)
    pauses = []
    for _ in range(12):
        pauses.append(await bench.until_pausing())
        bench.clock.advance(pauses[-1] + 0.001)
        await asyncio.sleep(0)

    assert pauses[0] < 0.7
    assert pauses[2] > pauses[0] * 2
    assert max(pauses) <= 5  # a device that is back, or has let go of a dead connection, is found soon
    bench.task.cancel()


async def test_a_silent_unit_among_others_is_tried_ever_more_rarely() -> None:
    async def silent(_link: Link) -> None:
        raise ConnectionLost("unit 3 did not answer", sparse=True)

    bench = Bench(*[silent] * 9)
    pauses = []
    for _ in range(9):
        pauses.append(await bench.until_pausing())
        bench.clock.advance(pauses[-1] + 0.001)
        await asyncio.sleep(0)

    assert pauses[0] < 0.7
    assert 22 < pauses[-1] <= 30 * 1.25
    bench.task.cancel()


async def test_a_device_that_kicks_at_once_is_not_hammered() -> None:
    async def kick(link: Link) -> None:
        await link.up()
        raise ConnectionLost("closed by the device")

    bench = Bench(*[kick] * 6)
    pauses = []
    for _ in range(6):
        pauses.append(await bench.until_pausing())
        bench.clock.advance(pauses[-1] + 0.001)
        await asyncio.sleep(0)

    assert pauses[5] > pauses[0] * 8
    bench.task.cancel()


async def test_a_loss_dates_from_the_last_proof_of_life() -> None:
    bench: Bench

    async def answers_then_falls_silent(link: Link) -> None:
        await link.up()
        await link.emit(batch(bench.clock.now()))
        bench.clock.advance(2)
        link.seen(bench.clock.now())
        bench.clock.advance(5)
        raise ConnectionLost("no answer for 5 s")

    bench = Bench(answers_then_falls_silent)
    await bench.until_pausing()

    assert bench.said() == ["SourceRestored", "SampleBatch", "SourceLost"]
    assert bench.collector.events[-1] == SourceLost("plc", START + timedelta(seconds=2), "no answer for 5 s")
    assert bench.supervised.view().link == "down"
    bench.task.cancel()


async def test_a_loss_never_dates_from_before_the_link_was_told_to_stand() -> None:
    async def stands_without_proof(link: Link) -> None:
        await link.up()
        raise ConnectionLost("silent since it was taken up", last_seen_at=START - timedelta(seconds=8))

    bench = Bench(stands_without_proof)
    await bench.until_pausing()

    restored, lost = bench.collector.events
    assert isinstance(restored, SourceRestored)
    assert isinstance(lost, SourceLost)
    assert lost.at == restored.at
    bench.task.cancel()


async def test_a_refusal_waits_for_a_person_at_the_longest_pause() -> None:
    async def refused(_link: Link) -> None:
        raise DeviceRefused("the certificate is not trusted", hint="approve it")

    bench = Bench(refused)

    assert await bench.until_pausing() >= 30
    view = bench.supervised.view()
    assert (view.link, view.last_error) == ("refused", "the certificate is not trusted")
    bench.task.cancel()


async def test_an_error_nobody_foresaw_is_a_loss_like_others() -> None:
    async def broken(link: Link) -> None:
        await link.up()
        raise ZeroDivisionError("division by zero")

    bench = Bench(broken)
    await bench.until_pausing()

    assert bench.said() == ["SourceRestored", "SourceLost"]
    assert bench.supervised.surprises == 1
    assert "ZeroDivisionError" in str(bench.supervised.view().last_error)
    bench.task.cancel()


async def test_a_session_that_is_over_cannot_speak_any_more() -> None:
    kept: list[Link] = []

    async def leaks(link: Link) -> None:
        kept.append(link)
        await link.up()
        raise ConnectionLost("gone")

    bench = Bench(leaks)
    await bench.until_pausing()
    before = list(bench.collector.events)

    await kept[0].emit(batch(bench.clock.now()))
    kept[0].seen(bench.clock.now())
    await kept[0].up()

    assert bench.collector.events == before
    assert bench.collector.proofs == []
    bench.task.cancel()


async def test_what_a_restart_has_already_admitted_is_not_reported_again() -> None:
    bench = Bench(unreachable, known_down=True)
    await bench.until_pausing()

    assert bench.collector.events == []
    bench.task.cancel()


async def test_a_loss_on_record_by_a_stop_is_not_reported_again_when_it_runs_again() -> None:
    """A change of the configuration that is taken back runs again what it had stopped."""

    async def up(link: Link) -> None:
        await link.up()
        await asyncio.Event().wait()

    bench = Bench(up, unreachable, up)
    while bench.supervised.link != "up":
        await asyncio.sleep(0)
    bench.task.cancel()
    await asyncio.gather(bench.task, return_exceptions=True)
    said = bench.supervised.farewell(bench.clock.now(), "the configuration changes")
    assert [type(words).__name__ for words in said] == ["SourceLost"]
    assert bench.supervised.reported_down
    assert bench.supervised.farewell(bench.clock.now()) == ()

    bench.task = asyncio.create_task(bench.supervised.run())
    bench.clock.advance(await bench.until_pausing())
    while bench.supervised.link != "up":
        await asyncio.sleep(0)
    assert bench.said() == ["SourceRestored", "SourceRestored"]
    bench.task.cancel()


async def test_refused_tags_are_shown_and_taken_back() -> None:
    async def refuses_a_tag(link: Link) -> None:
        await link.up()
        link.refused("plc/state", "no such node")
        await asyncio.Event().wait()

    bench = Bench(refuses_a_tag)
    while not bench.supervised.bad_tags:
        await asyncio.sleep(0)

    assert bench.supervised.view().bad_tags == {"plc/state": "no such node"}
    bench.task.cancel()


async def test_a_gap_is_recorded_ahead_of_the_batch_it_came_with() -> None:
    gap = Gap("plc", START, START + timedelta(seconds=1), "the server's queue overflowed", "plc/state")

    async def overflows(link: Link) -> None:
        await link.up()
        link.gap(gap)
        await link.emit(batch(START + timedelta(seconds=1)))
        raise ConnectionLost("gone")

    bench = Bench(overflows)
    await bench.until_pausing()

    assert bench.said() == ["SourceRestored", "Gap", "SampleBatch", "SourceLost"]
    assert bench.supervised.gaps == 1
    bench.task.cancel()


async def test_cycle_figures_are_those_of_the_last_minute() -> None:
    async def polls(link: Link) -> None:
        await link.up()
        link.cycle("all", 0.5, 0.0, 0)
        bench.clock.advance(61)
        link.cycle("all", 0.1, 0.02, 2)
        link.cycle("all", 0.3, 0.01, 0)
        await asyncio.Event().wait()

    bench = Bench(polls)
    while bench.supervised.skipped_cycles == 0:
        await asyncio.sleep(0)

    figures = bench.supervised.view().cycles["all"]
    assert figures["count"] == 2
    assert figures["duration_max_s"] == 0.3
    assert abs(figures["duration_mean_s"] - 0.2) < 1e-9
    assert bench.supervised.skipped_cycles == 2
    assert "all" in bench.collector.read_groups, "each complete reading keeps the group's tags fresh"
    bench.task.cancel()


def alarm(at: datetime) -> DeviceEvent:
    return DeviceEvent("plc", at, "OffNormalAlarmType", "press", 700, "oil", "01", None, at)


async def test_an_event_of_the_device_goes_between_its_samples_after_what_was_lost() -> None:
    done = asyncio.Event()
    gap = Gap("plc", START, START, "the server's event queue overflowed", "plc/_events")

    async def session(link: Link) -> None:
        await link.up()
        await link.emit(batch(START))
        link.gap(gap)
        await link.event(alarm(START + timedelta(seconds=3)))
        await link.emit(batch(START))
        done.set()

    bench = Bench(session)
    await done.wait()

    assert bench.said() == ["SourceRestored", "SampleBatch", "Gap", "DeviceEvent", "SampleBatch"]
    assert bench.collector.events[2] == gap
    bench.task.cancel()


async def test_events_of_a_session_that_ended_are_nobodys() -> None:
    kept: list[Link] = []

    async def session(link: Link) -> None:
        await link.up()
        kept.append(link)
        raise ConnectionLost("gone")

    bench = Bench(session)
    await bench.until_pausing()
    await kept[0].event(alarm(START))

    assert "DeviceEvent" not in bench.said()
    bench.task.cancel()
