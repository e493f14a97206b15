"""The pipeline turns at one place of its queue: what is untouched goes on with what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.pipeline import Pipeline
from gateway.sieve import Sieve
from gateway.waiting import Turn
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.types import Quality, SampleBatch, SourceLost, TagSample, Transition
from tests.gateway.test_pipeline import Hearer, MemoryLog
from tests.support.manual_clock import ManualClock

AT = datetime(2026, 11, 22, 8, tzinfo=UTC)


def connection(name: str, *tags: TagSettings, stale: timedelta | None = None) -> ConnectionSettings:
    group = GroupSettings(name="all", interval=timedelta(seconds=1), tags=tags or (TagSettings(name="x"),))
    return ConnectionSettings(name=name, protocol="toy", endpoint="toy://", groups=(group,), stale=stale)


def batch(name: str, value: float, seconds: float = 0.0) -> SampleBatch:
    at = AT + timedelta(seconds=seconds)
    return SampleBatch(name, at, (TagSample(f"{name}/x", value, Quality.GOOD, None, at),))


def exchanged(sieve: Sieve) -> None:
    """Another connection goes, one is read otherwise, one comes."""
    sieve.exchange(("gone", "other"), (connection("other", TagSettings(name="y")), connection("new")))


def test_what_an_untouched_tag_said_before_is_no_news_afterwards() -> None:
    sieve = Sieve(
        [connection("plc", TagSettings(name="x", deadband=2.0)), connection("gone"), connection("other")]
    )
    assert sieve.filter.apply(batch("plc", 5)).samples
    exchanged(sieve)
    assert not sieve.filter.apply(batch("plc", 6, 1)).samples, "within the deadband of what was told"
    assert sieve.filter.apply(batch("plc", 8, 2)).samples


def test_a_connection_that_is_read_otherwise_begins_anew() -> None:
    sieve = Sieve([connection("plc"), connection("gone"), connection("other")])
    sieve.filter.apply(batch("other", 5))
    exchanged(sieve)
    assert sieve.filter.apply(batch("other", 5, 1)).samples


def test_what_waits_for_its_report_time_waits_on_and_what_is_gone_is_told_no_more() -> None:
    slow = TagSettings(name="x", report_min=timedelta(seconds=10))
    sieve = Sieve([connection("plc", slow), connection("gone", slow), connection("other", slow)])
    for name in ("plc", "gone", "other"):
        for value, seconds in ((1.0, 0.0), (2.0, 1.0)):
            told = batch(name, value, seconds)
            sieve.reporter.take(told, told)
    assert sieve.wake_at() == AT + timedelta(seconds=10)
    exchanged(sieve)
    due = sieve.reporter.due(AT + timedelta(seconds=11))
    assert list(due) == ["plc"]
    assert [sample.value for sample in due["plc"].topics] == [2.0]
    assert sieve.wake_at() is None


def test_stale_tags_are_watched_as_before_and_those_that_are_gone_no_more() -> None:
    limit = timedelta(seconds=5)
    sieve = Sieve([connection(name, stale=limit) for name in ("plc", "gone", "other")])
    for name in ("plc", "gone", "other"):
        sieve.stale.note(batch(name, 1))
    sieve.exchange(("gone", "other"), (connection("other", stale=2 * limit),))
    sieve.stale.note(batch("other", 1, 1))
    first = sieve.stale.overdue(AT + timedelta(seconds=6))
    assert [found.connection for found in first] == ["plc"]
    assert sieve.wake_at() == AT + timedelta(seconds=11)
    assert not sieve.stale.read("gone/all", AT), "nobody asks for its groups any more"


def test_tags_that_are_not_recorded_follow_the_connections() -> None:
    quiet = TagSettings(name="x", record=False)
    sieve = Sieve([connection("plc", quiet), connection("gone", quiet)])
    sieve.exchange(("gone",), (connection("new", quiet),))
    assert sieve.unrecorded == {"plc/x", "new/x"}


class Bench:
    """A pipeline over two connections; equipment `m` on the first of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog()
        self.hearer = Hearer(self.log)
        self.engine = self.engine_of(self.spec("m"))
        self.pipeline = Pipeline(
            engine=self.engine,
            log=self.log,
            connections=[connection("plc"), connection("gone")],
            listeners=[self.hearer],
            clock=self.clock,
            heartbeat=timedelta(seconds=1),
            alive={},
            came_round=lambda: None,
        )

    @staticmethod
    def spec(name: str) -> EquipmentSpec:
        return EquipmentSpec(name=name, path=name, model=BUILTIN["packml"], state="plc/x")

    def engine_of(self, *specs: EquipmentSpec) -> Engine:
        return Engine(specs, at=self.clock.now())

    def batch(self, name: str, value: int) -> SampleBatch:
        self.clock.advance(1)
        now = self.clock.now()
        return SampleBatch(name, now, (TagSample(f"{name}/x", value, Quality.GOOD, None, now),))

    def turn(self, **other: object) -> Turn:
        given: dict[str, object] = {
            "engine": self.engine,
            "gone": (),
            "come": (),
            "farewells": (),
            "taken": lambda: None,
        }
        return Turn(**{**given, **other})  # type: ignore[arg-type]

    async def worked_off(self, waiting: Collection[asyncio.Task[None]] = ()) -> None:
        await self.pipeline.finish(())
        await self.pipeline.run()
        await asyncio.gather(*waiting, return_exceptions=True)

    def states(self, name: str) -> Sequence[str]:
        moves = (one.event for one in self.hearer.heard if one.equipment == name)
        return [move.to_state for move in moves if isinstance(move, Transition)]


async def test_what_is_ahead_in_the_queue_is_judged_by_the_old_and_what_is_behind_by_the_new() -> None:
    bench = Bench()
    seen: dict[str, Mapping[str, object]] = {}

    def turn(_: datetime) -> Turn:
        seen["durable"] = {"batches": len(bench.log.batches), "moves": bench.states("m")}
        return bench.turn(engine=bench.engine_of(bench.spec("n")))

    await bench.pipeline.offer(bench.batch("plc", 2))
    asking = asyncio.create_task(bench.pipeline.exchange(turn))
    await asyncio.sleep(0)
    await bench.pipeline.offer(bench.batch("plc", 4))
    await bench.worked_off([asking])

    assert seen["durable"] == {"batches": 1, "moves": ["Stopped"]}, "all before is on record and told"
    assert bench.states("m") == ["Stopped"]
    assert bench.states("n") == ["Idle"]


async def test_a_turn_that_fails_changes_nothing_and_is_told() -> None:
    bench = Bench()

    def fails(_: datetime) -> Turn:
        raise ValueError("two equipment are named m")

    asking = asyncio.create_task(bench.pipeline.exchange(fails))
    await asyncio.sleep(0)
    await bench.pipeline.offer(bench.batch("gone", 1))
    await bench.pipeline.offer(bench.batch("plc", 2))
    await bench.worked_off([asking])

    with pytest.raises(ValueError, match="two equipment"):
        await asking
    assert bench.states("m") == ["Stopped"]
    assert {sample.tag for sample in bench.hearer.values} == {"gone/x", "plc/x"}


async def test_nothing_is_taken_in_of_a_connection_that_is_gone() -> None:
    bench = Bench()
    asking = asyncio.create_task(bench.pipeline.exchange(lambda _: bench.turn(gone=("gone",))))
    await asyncio.sleep(0)
    await bench.pipeline.offer(bench.batch("gone", 1))  # it was in somebody's hands still
    await bench.pipeline.offer(SourceLost("gone", bench.clock.now(), "late"))
    bench.pipeline.seen("gone", bench.clock.now())
    bench.pipeline.read("gone", "all", bench.clock.now())
    await bench.worked_off([asking])

    assert bench.hearer.values == []
    assert bench.log.recorded == []
    assert "gone" not in bench.log.alive
    await bench.pipeline.offer(bench.batch("gone", 2))
    bench.pipeline.seen("gone", bench.clock.now())
    assert bench.pipeline.backlog == 0


async def test_a_connection_that_comes_is_taken_in_at_once() -> None:
    bench = Bench()
    asking = asyncio.create_task(bench.pipeline.exchange(lambda _: bench.turn(come=(connection("new"),))))
    working = asyncio.create_task(bench.pipeline.run())
    await asking
    await bench.pipeline.offer(bench.batch("new", 1))
    await bench.pipeline.finish(())
    await working

    assert [sample.tag for sample in bench.hearer.values] == ["new/x"]
    assert "new" in bench.log.alive
