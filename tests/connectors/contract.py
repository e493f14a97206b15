"""The suite every connector passes, whatever its protocol: what the rest of the gateway relies on.

A protocol's tests subclass `ConnectorContract` and give it a `device` fixture: a `Harness` around a device of
that protocol (several subclasses for several stacks). Nothing here knows a protocol.

    class TestAgainstSomeServer(ConnectorContract):
        @pytest.fixture
        async def device(self) -> AsyncIterator[Harness]:
            harness = SomeHarness()
            yield harness
            await harness.stop()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Protocol

import pytest

from connectors.base import Connector
from connectors.errors import ConnectionLost
from statemodel.types import DeviceEvent, Gap, Quality, SampleBatch, TagSample, TagValue
from tests.support.patience import PATIENCE_S as PATIENCE_S

#: A cancelled connector is gone within this time: it waits for no answer any more.
PROMPT_S = 12.0
#: The setting for how long a connector under test waits for an answer that comes: longer than any machine
#: stalls, and longer than `PROMPT_S`.
PATIENT = "30s"


class Harness(Protocol):
    """A device that can be started, stopped and spoilt, and the connector that is to read it."""

    connection: str
    """Name of the connection; tag ids begin with it."""

    values: Mapping[str, TagValue]
    """The tags (short names) and the good values they have after `start`. At least three tags."""

    changed: tuple[str, TagValue]
    """A tag and another value for it, to be handed to `set`."""

    spoilt: str
    """A tag that `make_bad` can be asked for; not the one in `changed`."""

    groups: frozenset[str]
    """The names of the poll groups."""

    async def start(self) -> None:
        """Serve, at the same address each time. May be called again after `stop`."""
        ...

    async def stop(self) -> None:
        """Stop serving and cut every connection. Harmless when stopped."""
        ...

    async def set(self, tag: str, value: TagValue) -> None:
        """Give a tag another value."""
        ...

    async def make_bad(self, tag: str) -> None:
        """From now on the device has no good value for this tag, but good ones for all others."""
        ...

    async def make_good(self, tag: str) -> None:
        """Take `make_bad` back."""
        ...

    def build(self) -> Connector:
        """A new connector for the device, quick to notice things (intervals of 20 to 100 ms)."""
        ...


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class RecordingLink:
    """A link that remembers what it was told and lets a test wait for it.

    While `closed` is set, `emit` waits: the back-pressure of a gateway that cannot keep up.
    """

    ups: int = 0
    emitted_before_up: bool = False
    batches: list[SampleBatch] = field(default_factory=list)
    samples: list[TagSample] = field(default_factory=list)
    latest: dict[str, TagSample] = field(default_factory=dict)
    seen_at: list[datetime] = field(default_factory=list)
    cycles: list[tuple[str, float, float, int]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    events: list[DeviceEvent] = field(default_factory=list)
    #: Batches and events in the one order they came in.
    told: list[SampleBatch | DeviceEvent] = field(default_factory=list)
    waiting: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    async def up(self) -> None:
        self.ups += 1
        self._news.set()

    async def emit(self, batch: SampleBatch) -> None:
        await self._turn()
        self.told.append(batch)
        self.batches.append(batch)
        self.samples.extend(batch.samples)
        self.latest.update((sample.tag, sample) for sample in batch.samples)
        self._news.set()

    async def event(self, event: DeviceEvent) -> None:
        await self._turn()
        self.told.append(event)
        self.events.append(event)
        self._news.set()

    async def _turn(self) -> None:
        self.emitted_before_up |= self.ups == 0
        self.waiting += 1
        self._news.set()
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1

    def seen(self, at: datetime) -> None:
        self.seen_at.append(at)
        self._news.set()

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self._news.set()

    def cycle(self, group: str, duration_s: float, lateness_s: float, skipped: int) -> None:
        self.cycles.append((group, duration_s, lateness_s, skipped))
        self._news.set()

    def refused(self, tag: str, reason: str) -> None:
        self.refusals.append((tag, reason))
        self._news.set()

    def close(self) -> None:
        """From now on `emit` waits."""
        self._open.clear()

    def open(self) -> None:
        """Let `emit` through again."""
        self._open.set()

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until the condition holds, looking again at every piece of news."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"waited {PATIENCE_S} s in vain for {what or condition}; latest: {self.latest}")

    async def until_value(self, tag: str, value: TagValue) -> TagSample:
        """Wait until the latest sample of a tag (full id) is this value with good quality."""

        def there() -> bool:
            sample = self.latest.get(tag)
            return sample is not None and sample.quality is Quality.GOOD and same(sample.value, value)

        await self.until(there, f"{tag} = {value!r}")
        return self.latest[tag]

    async def until_quality(self, tag: str, quality: Quality) -> TagSample:
        """Wait until the latest sample of a tag (full id) has this quality."""

        def there() -> bool:
            sample = self.latest.get(tag)
            return sample is not None and sample.quality is quality

        await self.until(there, f"{tag} {quality}")
        return self.latest[tag]


def same(value: TagValue, expected: TagValue) -> bool:
    """Equal and of the same kind: 1, 1.0 and True are three different values to a consumer."""
    return type(value) is type(expected) and value == expected


@asynccontextmanager
async def running(connector: Connector, link: RecordingLink) -> AsyncIterator[asyncio.Task[None]]:
    """Run a connector for the length of a block; a failure of its own fails what waits for the link."""
    task = asyncio.create_task(connector.run(link))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConnectionLost):
        raise error


async def outcome(task: asyncio.Task[None]) -> BaseException:
    """What a run ends with, of its own."""
    done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
    assert done, "run() goes on although the device is gone"
    assert not task.cancelled()
    error = task.exception()
    assert error is not None, "run() returned normally"
    return error


class ConnectorContract:
    """Subclass, and give it a fixture `device` that yields a `Harness` which is not started."""

    async def test_every_tag_is_emitted_with_its_value_once_the_link_is_up(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        before = datetime.now(UTC)
        async with running(device.build(), link):
            for tag, value in device.values.items():
                await link.until_value(full(device, tag), value)
        assert link.ups == 1
        assert not link.emitted_before_up
        after = datetime.now(UTC)
        for batch in link.batches:
            assert batch.connection == device.connection
            assert batch.samples, "an empty batch is not worth a call"
            for sample in batch.samples:
                assert sample.tag.removeprefix(f"{device.connection}/") in device.values
                assert sample.received_at.utcoffset() == timedelta(0)
                assert before <= sample.received_at <= after
        ids = {full(device, tag) for tag in device.values}
        assert set(link.latest) == ids

    async def test_a_change_is_emitted_and_nothing_else_is(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        tag, value = device.changed
        async with running(device.build(), link):
            await all_good(device, link)
            count = len(link.samples)
            await device.set(tag, value)
            await link.until_value(full(device, tag), value)
            news = link.samples[count:]
        assert {sample.tag for sample in news} == {full(device, tag)}
        times = [sample.received_at for sample in link.samples if sample.tag == full(device, tag)]
        assert times == sorted(times)

    async def test_life_and_cycles_are_told_while_nothing_changes(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        async with running(device.build(), link):
            await all_good(device, link)
            samples, proofs = len(link.samples), len(link.seen_at)
            await link.until(lambda: len(link.seen_at) >= proofs + 3, "proofs of life")
            await link.until(
                lambda: {group for group, *_ in link.cycles} == device.groups, "cycles of all groups"
            )
            assert len(link.samples) == samples
        assert link.seen_at == sorted(link.seen_at)
        for _, duration_s, lateness_s, skipped in link.cycles:
            assert duration_s >= 0
            assert lateness_s >= 0
            assert skipped >= 0

    async def test_a_tag_the_device_cannot_give_is_bad_and_the_others_are_good(self, device: Harness) -> None:
        await device.start()
        await device.make_bad(device.spoilt)
        link = RecordingLink()
        async with running(device.build(), link):
            sample = await link.until_quality(full(device, device.spoilt), Quality.BAD)
            assert sample.value is None
            assert sample.substatus, "bad quality says why"
            for tag, value in device.values.items():
                if tag != device.spoilt:
                    await link.until_value(full(device, tag), value)

    async def test_quality_follows_the_device_down_and_up_again(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        spoilt = full(device, device.spoilt)
        async with running(device.build(), link):
            await all_good(device, link)
            await device.make_bad(device.spoilt)
            await link.until_quality(spoilt, Quality.BAD)
            others = {id_: s for id_, s in link.latest.items() if id_ != spoilt}
            assert all(sample.quality is Quality.GOOD for sample in others.values())
            await device.make_good(device.spoilt)
            await link.until_value(spoilt, device.values[device.spoilt])
            # Unless it was never told, a refusal that ended is taken back.
            told = dict(link.refusals)
            assert not any(told.values())

    async def test_a_lost_device_ends_the_run_with_its_last_proof_of_life(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        before = datetime.now(UTC)
        async with running(device.build(), link) as task:
            await all_good(device, link)
            await device.stop()
            error = await outcome(task)
        assert isinstance(error, ConnectionLost)
        assert error.reason
        assert error.last_seen_at is not None
        assert before <= error.last_seen_at <= datetime.now(UTC)
        assert error.last_seen_at >= max(sample.received_at for sample in link.samples)

    async def test_a_device_that_was_never_there_is_lost_without_ever_being_up(self, device: Harness) -> None:
        await device.start()
        await device.stop()
        link = RecordingLink()
        async with running(device.build(), link) as task:
            error = await outcome(task)
        assert isinstance(error, ConnectionLost)
        assert error.last_seen_at is None
        assert link.ups == 0
        assert link.samples == []

    async def test_cancelling_is_prompt_and_leaves_nothing_behind(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        tasks_before = asyncio.all_tasks()
        task = asyncio.create_task(device.build().run(link))
        await all_good(device, link)
        started = monotonic()
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_S)
        assert task.cancelled(), "a cancelled run ends as cancelled"
        assert monotonic() - started < PROMPT_S
        count = len(link.samples)
        await device.set(*device.changed)
        await settled(lambda: len(asyncio.all_tasks() - tasks_before) == 0)
        assert len(link.samples) == count, "something was emitted after the end"

    async def test_cancelling_while_the_gateway_cannot_keep_up_is_prompt_too(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        link.close()
        task = asyncio.create_task(device.build().run(link))
        await link.until(lambda: link.waiting > 0, "an emit that waits")
        started = monotonic()
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_S)
        assert task.cancelled()
        assert monotonic() - started < PROMPT_S
        assert link.samples == []

    async def test_waiting_in_emit_loses_nothing(self, device: Harness) -> None:
        await device.start()
        link = RecordingLink()
        link.close()
        async with running(device.build(), link):
            await link.until(lambda: link.waiting > 0, "an emit that waits")
            link.open()
            await all_good(device, link)
            link.close()
            await device.set(*device.changed)
            await link.until(lambda: link.waiting > 0, "an emit that waits")
            link.open()
            tag, value = device.changed
            await link.until_value(full(device, tag), value)

    async def test_a_second_run_is_a_fresh_session(self, device: Harness) -> None:
        await device.start()
        connector = device.build()
        first = RecordingLink()
        async with running(connector, first) as task:
            await all_good(device, first)
            await device.stop()
            await outcome(task)
        await device.start()
        second = RecordingLink()
        async with running(connector, second):
            await all_good(device, second)
            assert second.ups == 1
            assert not second.emitted_before_up
            tag, value = device.changed
            await device.set(tag, value)
            await second.until_value(full(device, tag), value)

    async def test_read_once_gives_every_tag_in_order(self, device: Harness) -> None:
        await device.start()
        await device.make_bad(device.spoilt)
        tasks_before = asyncio.all_tasks()
        samples: Sequence[TagSample] = await device.build().read_once()
        assert [sample.tag for sample in samples] == [full(device, tag) for tag in device.values]
        for sample, (tag, value) in zip(samples, device.values.items(), strict=True):
            if tag == device.spoilt:
                assert sample.quality is Quality.BAD
                assert sample.value is None
            else:
                assert sample.quality is Quality.GOOD
                assert same(sample.value, value)
        await settled(lambda: len(asyncio.all_tasks() - tasks_before) == 0)

    async def test_read_once_says_when_the_device_is_not_there(self, device: Harness) -> None:
        await device.start()
        await device.stop()
        with pytest.raises(ConnectionLost):
            await device.build().read_once()


def full(device: Harness, tag: str) -> str:
    """The id of a tag."""
    return f"{device.connection}/{tag}"


async def all_good(device: Harness, link: RecordingLink) -> None:
    """Wait until every tag has its first value."""
    for tag, value in device.values.items():
        await link.until_value(full(device, tag), value)


async def settled(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that nobody tells of (tasks that end, sockets that close)."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE_S} s in vain; the tasks there are: {asyncio.all_tasks()}")
