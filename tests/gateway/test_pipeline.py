"""The line from events to durable, announced transitions, on a journal kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import pytest

from connectors.settings import ConnectionSettings, GroupSettings, TagSettings
from gateway.errors import JournalFailed
from gateway.pipeline import COMMIT_EVENTS_MAX, LINGER_SAMPLES_MAX, Pipeline
from gateway.repeats import Repeats, on_record
from statemodel.builtin import BUILTIN
from statemodel.engine import Engine, EquipmentSpec
from statemodel.records import Recorded, tell
from statemodel.types import (
    DeviceEvent,
    Gap,
    Quality,
    Recordable,
    SampleBatch,
    SourceLost,
    SourceRestored,
    TagSample,
    Transition,
)
from tests.support.manual_clock import ManualClock

PLC = ConnectionSettings(
    name="plc",
    protocol="toy",
    endpoint="toy://",
    groups=(
        GroupSettings(
            name="all",
            interval=timedelta(seconds=1),
            tags=(TagSettings(name="state"), TagSettings(name="noise", record=False)),
        ),
    ),
)


class MemoryLog:
    """A journal that can be held up or made to fail."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self.batches: list[SampleBatch] = []
        self.alive: Mapping[str, datetime | None] = {}
        self.commits: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fail = False

    async def append(
        self,
        events: Sequence[Recordable],
        batches: Sequence[SampleBatch] = (),
        alive: Mapping[str, datetime | None] | None = None,
    ) -> Sequence[Recorded]:
        await self.open.wait()
        if self.fail:
            raise JournalFailed("the disk refused")
        first = len(self.recorded) + 1
        new = [
            tell(event, gateway="g", stream="s", seq=seq, recorded_at=event.at)
            for seq, event in enumerate(events, first)
        ]
        self.recorded += new
        self.batches += batches
        self.alive = dict(alive or {})
        self.commits.append(len(events))
        return new

    async def read(self, after: int, limit: int) -> Sequence[Recorded]:
        return self.recorded[after : after + limit]


class Hearer:
    """Remembers what it is told, and what the journal held at that moment."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.heard: list[Recorded] = []
        self.values: list[TagSample] = []

    def samples(self, samples: Sequence[TagSample]) -> None:
        self.values += samples

    def announce(self, recorded: Sequence[Recorded]) -> None:
        assert set(recorded) <= set(self.log.recorded), "announced before it was journalled"
        self.heard += recorded


class Bench:
    def __init__(self, connection: ConnectionSettings = PLC) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog()
        self.hearer = Hearer(self.log)
        spec = EquipmentSpec(name="m-1", path="a/b/m-1", model=BUILTIN["packml"], state="plc/state")
        self.pipeline = Pipeline(
            engine=Engine([spec], at=self.clock.now()),
            log=self.log,
            connections=[connection],
            listeners=[self.hearer],
            clock=self.clock,
            heartbeat=timedelta(milliseconds=20),
            alive={},
            came_round=lambda: None,
        )

    def batch(self, *, later_s: float = 1, **values: int) -> SampleBatch:
        self.clock.advance(later_s)
        now = self.clock.now()
        samples = tuple(
            TagSample(f"plc/{name}", value, Quality.GOOD, None, now) for name, value in values.items()
        )
        return SampleBatch("plc", now, samples)

    @property
    def states(self) -> list[str]:
        return [item.event.to_state for item in self.hearer.heard if isinstance(item.event, Transition)]


async def finished(bench: Bench, *last_words: SourceLost) -> None:
    await bench.pipeline.finish(last_words)
    await bench.pipeline.run()


async def test_samples_become_recorded_transitions_in_order() -> None:
    bench = Bench()
    await bench.pipeline.offer(SourceRestored("plc", bench.clock.now()))
    for code in (4, 3, 6, 6):
        await bench.pipeline.offer(bench.batch(state=code))

    await finished(bench)

    assert bench.states == ["Idle", "Starting", "Execute"]
    assert [item.seq for item in bench.hearer.heard] == [1, 2, 3, 4]
    assert bench.hearer.heard[0].type == "source_restored"


async def test_nothing_is_announced_while_the_disk_has_not_answered() -> None:
    bench = Bench()
    bench.log.open.clear()
    await bench.pipeline.offer(bench.batch(state=4))
    running = asyncio.create_task(bench.pipeline.run())
    while bench.pipeline.backlog:
        await asyncio.sleep(0)

    assert bench.states == []

    bench.log.open.set()
    await bench.pipeline.finish([])
    await running
    assert bench.states == ["Idle"]


async def test_what_arrives_during_a_commit_becomes_the_next_one() -> None:
    bench = Bench()
    bench.log.open.clear()
    await bench.pipeline.offer(bench.batch(state=4))
    running = asyncio.create_task(bench.pipeline.run())
    while bench.pipeline.backlog:
        await asyncio.sleep(0)
    for code in (3, 6, 10):
        await bench.pipeline.offer(bench.batch(state=code))
    bench.log.open.set()

    await bench.pipeline.finish([])
    await running

    assert [count for count in bench.log.commits if count] == [1, 3]


def with_speed() -> Bench:
    """A pipeline with a tag that is recorded and moves no state."""
    group = PLC.groups[0].model_copy(update={"tags": (*PLC.groups[0].tags, TagSettings(name="speed"))})
    return Bench(PLC.model_copy(update={"groups": (group,)}))


async def test_samples_that_move_no_state_share_a_commit() -> None:
    bench = with_speed()
    for speed in (1, 2):
        await bench.pipeline.offer(bench.batch(later_s=0.001, speed=speed))
        await played(bench)
    assert bench.log.commits == []
    assert [sample.value for sample in bench.hearer.values] == [1, 2], "what is shown need not wait"

    await bench.pipeline._work(await bench.pipeline._next())

    assert bench.log.commits == [0]
    assert [batch.samples[0].value for batch in bench.log.batches] == [1, 2]


async def test_a_move_waits_for_nobody_and_takes_along_what_waited() -> None:
    bench = with_speed()
    for values in ({"speed": 1}, {"state": 6}):
        await bench.pipeline.offer(bench.batch(later_s=0.001, **values))
        await played(bench)

    assert bench.log.commits == [1]
    assert [batch.samples[0].tag for batch in bench.log.batches] == ["plc/speed", "plc/state"]
    assert bench.states == ["Execute"]
    assert bench.log.alive == {"plc": bench.clock.now()}


async def test_many_samples_are_a_commit_of_their_own() -> None:
    bench = with_speed()
    now = bench.clock.now()
    samples = tuple(
        TagSample("plc/speed", value, Quality.GOOD, None, now) for value in range(LINGER_SAMPLES_MAX)
    )
    await bench.pipeline.offer(SampleBatch("plc", now, samples))
    await played(bench)

    assert bench.log.commits == [0]


async def test_life_is_proved_on_time_although_all_that_comes_is_dropped() -> None:
    bench = Bench()
    for _ in range(2):
        await bench.pipeline.offer(bench.batch(noise=1))
        await played(bench)

        assert bench.log.alive == {"plc": bench.clock.now()}


async def test_a_burst_is_split_so_that_its_first_events_are_not_held_up() -> None:
    bench = Bench()
    for index in range(COMMIT_EVENTS_MAX + 10):
        await bench.pipeline.offer(bench.batch(state=(3, 6)[index % 2]))

    await finished(bench)

    assert max(bench.log.commits) <= COMMIT_EVENTS_MAX
    assert len(bench.states) == COMMIT_EVENTS_MAX + 10


async def test_who_waits_for_all_before_hears_when_it_is_durable_and_told() -> None:
    bench = Bench()
    bench.log.open.clear()
    await bench.pipeline.offer(bench.batch(state=6))
    await bench.pipeline.offer(SourceLost("plc", bench.clock.now(), "cable cut"))
    waiting = asyncio.create_task(bench.pipeline.caught_up())
    running = asyncio.create_task(bench.pipeline.run())
    await asyncio.sleep(0)
    while bench.pipeline.backlog:
        await asyncio.sleep(0)
    assert not waiting.done()

    bench.log.open.set()
    await waiting

    assert bench.states == ["Execute", "Unknown"]
    await bench.pipeline.caught_up()  # also when there is nothing to wait for
    await bench.pipeline.finish([])
    await running


async def test_a_lost_source_is_recorded_and_its_tags_turn_bad() -> None:
    bench = Bench()
    await bench.pipeline.offer(bench.batch(state=6))
    lost_at = bench.clock.now()
    await bench.pipeline.offer(SourceLost("plc", lost_at, "cable cut"))
    await bench.pipeline.offer(bench.batch(state=6))

    await finished(bench)

    assert bench.states == ["Execute", "Unknown", "Execute"]
    assert [item.type for item in bench.hearer.heard] == [
        "transition",
        "source_lost",
        "transition",
        "transition",
    ]
    unknown = bench.hearer.heard[2].event
    assert isinstance(unknown, Transition)
    assert unknown.at == lost_at
    assert "cable cut" in unknown.cause.text
    assert [value.substatus for value in bench.hearer.values if value.quality is Quality.BAD] == [
        "no_communication",
        "no_communication",
    ]


async def test_a_gap_is_an_event_like_others_and_changes_no_state() -> None:
    bench = Bench()
    await bench.pipeline.offer(bench.batch(state=6))
    now = bench.clock.now()
    await bench.pipeline.offer(Gap("plc", now, now, "messages lost"))

    await finished(bench)

    assert [item.type for item in bench.hearer.heard] == ["transition", "gap"]


async def test_tags_that_are_not_recorded_are_seen_but_not_kept() -> None:
    bench = Bench()
    await bench.pipeline.offer(bench.batch(state=6, noise=1))

    await finished(bench)

    assert [value.tag for value in bench.hearer.values] == ["plc/state", "plc/noise"]
    assert [item.tag for batch in bench.log.batches for item in batch.samples] == ["plc/state"]


async def test_the_proof_of_life_never_runs_ahead_of_what_is_waiting() -> None:
    bench = Bench()
    batch = bench.batch(state=6)
    await bench.pipeline.offer(batch)
    bench.clock.advance(5)
    bench.pipeline.seen("plc", bench.clock.now())

    await finished(bench)
    assert bench.log.alive == {"plc": batch.received_at}

    bench.pipeline.seen("plc", bench.clock.now())
    await bench.pipeline.finish([])
    await bench.pipeline._work([])
    assert bench.log.alive == {"plc": bench.clock.now()}


async def test_a_connection_that_is_down_has_no_proof_of_life() -> None:
    bench = Bench()
    await bench.pipeline.offer(bench.batch(state=6))
    await finished(bench, SourceLost("plc", bench.clock.now(), "the gateway was stopped"))

    assert bench.log.alive == {"plc": None}
    assert bench.states[-1] == "Unknown"


async def test_a_journal_that_fails_ends_the_pipeline() -> None:
    bench = Bench()
    bench.log.fail = True
    await bench.pipeline.offer(bench.batch(state=6))

    with pytest.raises(JournalFailed):
        await bench.pipeline.run()

    assert bench.hearer.heard == []


async def test_a_full_queue_makes_the_connector_wait() -> None:
    bench = Bench()
    bench.log.open.clear()
    running = asyncio.create_task(bench.pipeline.run())
    offered = 0

    async def flood() -> None:
        nonlocal offered
        for index in range(5000):
            await bench.pipeline.offer(bench.batch(state=(3, 6)[index % 2]))
            offered += 1

    flooding = asyncio.create_task(flood())
    before = -1
    while offered != before:
        before = offered
        for _ in range(100):
            await asyncio.sleep(0)
    assert 0 < offered < 5000

    bench.log.open.set()
    await flooding
    await bench.pipeline.finish([])
    await running
    assert len(bench.states) == 5000


# -- stale tags ------------------------------------------------------------------------------


def watched(limit_s: float = 5) -> Bench:
    """A pipeline whose tags may go without proof for some seconds."""
    return Bench(PLC.model_copy(update={"stale": timedelta(seconds=limit_s)}))


async def played(bench: Bench) -> None:
    """Work off what is in the queue, as `run` does, without ending."""
    while bench.pipeline.backlog:
        await bench.pipeline._work(await bench.pipeline._next())


async def test_a_tag_nobody_proves_any_more_turns_bad_at_its_instant_although_the_link_is_up() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    await played(bench)
    read_at = bench.clock.now()
    bench.clock.advance(60)
    bench.pipeline.seen("plc", bench.clock.now())
    await bench.pipeline._work(await bench.pipeline._next())

    assert bench.states == ["Execute", "Unknown"]
    unknown = bench.hearer.heard[-1].event
    assert isinstance(unknown, Transition)
    assert (unknown.cause.rule, unknown.at) == ("stale", read_at + timedelta(seconds=5))
    assert [(s.tag, s.substatus) for s in bench.hearer.values if s.quality is Quality.BAD] == [
        ("plc/state", "stale")
    ]
    assert bench.log.alive == {"plc": bench.clock.now()}


async def test_a_group_that_is_read_without_news_keeps_its_tags_fresh() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    await played(bench)
    for _ in range(20):
        bench.clock.advance(4)
        bench.pipeline.read("plc", "all", bench.clock.now())
        bench.pipeline.read("plc", "another", bench.clock.now())
        await bench.pipeline._work(await bench.pipeline._next())

    assert bench.states == ["Execute"]


async def test_a_stale_tag_is_taken_at_its_word_again_at_the_second_reading() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    await played(bench)
    bench.clock.advance(30)
    await bench.pipeline._work(await bench.pipeline._next())
    first = bench.clock.now() + timedelta(seconds=1)
    for _ in range(2):
        bench.clock.advance(1)
        bench.pipeline.read("plc", "all", bench.clock.now())
    await played(bench)

    assert bench.states == ["Execute", "Unknown", "Execute"]
    assert bench.hearer.heard[-1].at == first


async def test_the_proof_of_an_old_value_does_not_overtake_a_new_one() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    await played(bench)
    bench.clock.advance(30)
    await bench.pipeline._work(await bench.pipeline._next())
    bench.pipeline.read("plc", "all", bench.clock.now())  # a poll is told before its samples are
    await bench.pipeline.offer(bench.batch(state=10))
    bench.pipeline.read("plc", "all", bench.clock.now())
    await played(bench)

    assert bench.states == ["Execute", "Unknown", "Holding"]


async def test_a_busy_pipeline_finds_stale_tags_too() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    for value in range(10):
        await bench.pipeline.offer(bench.batch(noise=value))
    await played(bench)

    assert bench.states == ["Execute", "Unknown"]


async def test_a_lost_link_leaves_nothing_to_become_stale() -> None:
    bench = watched()
    await bench.pipeline.offer(bench.batch(state=6))
    await bench.pipeline.offer(SourceLost("plc", bench.clock.now(), "cable cut"))
    await played(bench)
    bench.clock.advance(60)
    await bench.pipeline._work(await bench.pipeline._next())

    assert bench.states == ["Execute", "Unknown"]
    assert bench.hearer.heard[-1].event.cause.rule == "source_lost"  # type: ignore[union-attr]


def alarm(bench: Bench, event_id: str, *, active: bool | None = None) -> DeviceEvent:
    bench.clock.advance(1)
    now = bench.clock.now()
    return DeviceEvent(
        "plc", now, "OffNormalAlarmType", "press", 700, "oil", event_id, None, now, active=active
    )


async def test_events_of_a_device_are_recorded_in_turn_and_move_no_state() -> None:
    bench = Bench()
    await bench.pipeline.offer(bench.batch(state=4))
    await bench.pipeline.offer(alarm(bench, "01", active=True))
    await bench.pipeline.offer(bench.batch(state=3))
    await bench.pipeline.offer(alarm(bench, "02", active=False))

    await finished(bench)

    assert [item.type for item in bench.hearer.heard] == [
        *("transition", "device_event", "transition", "device_event")
    ]
    assert bench.states == ["Idle", "Starting"]
    assert bench.pipeline.counts.device_events == 2
    assert bench.log.alive["plc"] == bench.clock.now(), "an event proves that its device lives"


async def test_an_event_that_is_told_again_is_recorded_once() -> None:
    bench = Bench()
    first = alarm(bench, "01", active=True)
    again = msgspec.structs.replace(
        first, at=first.at + timedelta(hours=3), received_at=first.at + timedelta(hours=3), refreshed=True
    )
    other = msgspec.structs.replace(again, active=False)
    for event in (first, again, other, again):
        await bench.pipeline.offer(event)

    await finished(bench)

    assert [item.event for item in bench.hearer.heard] == [first, other]
    assert bench.pipeline.counts.repeated_events == 2


async def test_events_without_an_identity_are_all_recorded() -> None:
    bench = Bench()
    event = alarm(bench, "")
    for _ in range(3):
        await bench.pipeline.offer(event)

    await finished(bench)

    assert len(bench.hearer.heard) == 3


async def test_an_event_dated_ahead_by_its_device_makes_no_tag_stale() -> None:
    group = PLC.groups[0].model_copy(update={"stale": timedelta(seconds=5)})
    bench = Bench(PLC.model_copy(update={"groups": (group,)}))
    await bench.pipeline.offer(bench.batch(state=4))
    event = alarm(bench, "01")
    await bench.pipeline.offer(msgspec.structs.replace(event, at=event.at + timedelta(seconds=9)))

    await finished(bench)

    assert bench.states == ["Idle"]


async def test_what_is_on_record_is_known_after_a_restart_and_memory_has_a_bound() -> None:
    bench = Bench()
    events = [alarm(bench, f"{n:02}") for n in range(5)]
    for event in events:
        await bench.pipeline.offer(event)
    await finished(bench)
    again = await on_record(bench.log, 5)

    assert [again.is_new(event) for event in events] == [False] * 5

    repeats = Repeats(remembered_max=3)
    repeats.learn(bench.log.recorded)
    assert [repeats.is_new(event) for event in events[2:]] == [False, False, False]
    assert [repeats.is_new(event) for event in events[:2]] == [True, True]
    assert not repeats.is_new(events[4]), "told again, it is among the newest once more"
    assert repeats.is_new(events[2])
