"""Tags by the hour: the same figures as from the samples, whenever those came, and after those are gone."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.historian import Historian
from gateway.historian.keeping import Keeper
from gateway.historian.rollups import HOUR, cut, hour_of, hours_touched
from gateway.journal import Journal
from gateway.tag_history import JoinedTagHistory
from statemodel.tag_history import DatedSample, SampleBucket, dated, summed_up
from statemodel.types import Quality, SampleBatch, TagSample
from tests.gateway.historian.databases import PATIENCE_S, Database, drained, running, until
from tests.gateway.journal.builders import opened

#: Long closed, and on no hour.
START = datetime(2026, 3, 1, 5, 17, 3, 250_000, tzinfo=UTC)
TAGS = [f"plc/tag-{i}" for i in range(3)]
NOW_QUIET = timedelta(0)


def history(seed: int, hours: float, count: int) -> list[TagSample]:
    """Samples of three tags in order of time: numbers, not known at times, some at one instant."""
    rolled = random.Random(seed)
    times = sorted(START + timedelta(seconds=rolled.uniform(0, hours * 3600)) for _ in range(count))
    samples: list[TagSample] = []
    for at in times:
        if rolled.random() < 0.1:
            at = samples[-1].received_at if samples else at
        if rolled.random() < 0.05:
            at = hour_of(at)
        bad = rolled.random() < 0.1
        tag = rolled.choice([*TAGS, TAGS[0], TAGS[0]])
        value = None if bad else float(rolled.randrange(-50, 50))
        samples.append(TagSample(tag, value, Quality.BAD if bad else Quality.GOOD, None, at))
    return sorted(samples, key=lambda sample: sample.received_at)


def batches_of(samples: Sequence[TagSample]) -> list[SampleBatch]:
    return [SampleBatch("plc", sample.received_at, (sample,)) for sample in samples]


def wanted(samples: Sequence[TagSample], tag: str, bounds: Sequence[datetime]) -> list[SampleBucket]:
    """What `summed_up` makes of the samples themselves."""

    def order(sample: DatedSample) -> tuple[object, ...]:
        number = sample.value
        return sample.at, sample.quality is Quality.BAD, number is not None, number or 0.0

    mine = sorted((dated(s, s.received_at) for s in samples if s.tag == tag), key=order)
    before = [sample for sample in mine if sample.at < bounds[0]]
    inside = [sample for sample in mine if bounds[0] <= sample.at < bounds[-1]]
    return summed_up(before[-1] if before else None, inside, bounds)


def assert_alike(found: Sequence[SampleBucket], expected: Sequence[SampleBucket]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.from_, one.to, one.count, one.min, one.max, one.last) == (
            *(other.from_, other.to, other.count, other.min, other.max, other.last),
        )
        assert math.isclose(one.known_s, other.known_s, abs_tol=1e-6)
        assert (one.avg is None) == (other.avg is None)
        assert (
            one.avg is None
            or other.avg is None
            or math.isclose(one.avg, other.avg, rel_tol=1e-9, abs_tol=1e-9)
        )


@asynccontextmanager
async def kept(
    database: Database, tmp_path: Path, **changed: object
) -> AsyncIterator[tuple[Journal, Historian]]:
    async with opened(tmp_path) as journal, running(journal, database.dsn, **changed) as historian:
        await until(lambda: historian.status().connected)
        yield journal, historian


async def hand_over(journal: Journal, historian: Historian, samples: Sequence[TagSample]) -> None:
    await journal.append([], batches_of(samples))
    await drained(historian, journal)


async def roll_up(database: Database, keeper: Keeper) -> int:
    connection = await database.connect()
    try:
        return await keeper.roll_up(connection, hour_of(datetime.now(UTC)), NOW_QUIET)
    finally:
        await connection.close()


def bounds_between(begin: datetime, end: datetime, step: timedelta) -> list[datetime]:
    found = [begin]
    while found[-1] + step < end:
        found.append(found[-1] + step)
    return [*found, end]


RANGES = [
    pytest.param(hour_of(START) - HOUR, hour_of(START) + 60 * HOUR, HOUR, id="by the hour"),
    pytest.param(hour_of(START), hour_of(START) + 48 * HOUR, 24 * HOUR, id="by the day"),
    pytest.param(START + timedelta(minutes=40), START + 50 * HOUR, 7.5 * HOUR, id="on no hour"),
    pytest.param(START, START + 3 * HOUR, timedelta(minutes=11), id="shorter than an hour"),
]


@pytest.mark.parametrize(("begin", "end", "step"), RANGES)
async def test_figures_are_those_of_the_samples(
    database: Database, tmp_path: Path, begin: datetime, end: datetime, step: timedelta
) -> None:
    samples = history(1, 52, 600)
    bounds = bounds_between(begin, end, step)
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, samples)
        assert await database.value("SELECT count(*) FROM andon.sample_hour") == 0
        due, _ = await historian.sample_buckets(TAGS[0], bounds)
        assert_alike(due, wanted(samples, TAGS[0], bounds))
        assert await roll_up(database, historian.keeper) > 30
        assert await database.value("SELECT count(*) FROM andon.hour_due") == 0
        for tag in TAGS:
            found, missing = await historian.sample_buckets(tag, bounds)
            assert_alike(found, wanted(samples, tag, bounds))
            assert missing is None


async def test_whole_hours_are_answered_without_the_samples(database: Database, tmp_path: Path) -> None:
    samples = history(2, 30, 400)
    bounds = bounds_between(hour_of(START), hour_of(START) + 30 * HOUR, 3 * HOUR)
    expected = wanted(samples, TAGS[1], bounds)
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, samples)
        await roll_up(database, historian.keeper)
        await database.do("DELETE FROM andon.sample")
        assert_alike((await historian.sample_buckets(TAGS[1], bounds))[0], expected)


async def test_late_samples_change_the_hours_they_fall_in_and_no_other(
    database: Database, tmp_path: Path
) -> None:
    samples = history(3, 20, 300)
    rolled = random.Random(7)
    late = [sample for sample in samples if rolled.random() < 0.2]
    at_once = [sample for sample in samples if sample not in late]
    bounds = bounds_between(hour_of(START), hour_of(START) + 21 * HOUR, HOUR)
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, at_once)
        await roll_up(database, historian.keeper)
        for some in (late[::2], late[1::2]):
            await hand_over(journal, historian, some)
            due = await database.rows("SELECT hour FROM andon.hour_due ORDER BY hour")
            assert [row[0] for row in due] == sorted({hour_of(sample.received_at) for sample in some})
            at_once += some
            for tag in TAGS:
                assert_alike((await historian.sample_buckets(tag, bounds))[0], wanted(at_once, tag, bounds))
            assert await roll_up(database, historian.keeper) == len(due)
            for tag in TAGS:
                assert_alike((await historian.sample_buckets(tag, bounds))[0], wanted(at_once, tag, bounds))


async def test_an_hour_written_to_while_it_is_rolled_up_stays_due(database: Database, tmp_path: Path) -> None:
    """A writer that has not committed when the hour is read, and one that commits in between."""
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, history(4, 0.5, 5))
        writer = await database.connect()
        keeper = await database.connect()
        try:
            await writer.execute("BEGIN")
            await writer.execute(
                "INSERT INTO andon.sample (tag_id, quality, at, received_at, value) "
                "SELECT tag_id, 0, $1, $1, 1000 FROM andon.tag WHERE tag = 'plc/tag-0'",
                START + timedelta(seconds=1),
            )
            touch = (
                "INSERT INTO andon.hour_due VALUES ('line-1', $1, pg_current_xact_id()::text::bigint, now()) "
                "ON CONFLICT (gateway, hour) DO UPDATE SET touched = excluded.touched"
            )
            await writer.execute(touch, hour_of(START))
            rolling = asyncio.create_task(
                historian.keeper.roll_up(keeper, hour_of(datetime.now(UTC)), NOW_QUIET)
            )
            blocked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
AND datname = current_database()"
            async with asyncio.timeout(PATIENCE_S):
                while not rolling.done() and not await database.value(blocked):
                    await asyncio.sleep(0.01)
            assert not rolling.done(), "it did not wait for the writer"
            await writer.execute("COMMIT")
            await rolling
            assert await database.value("SELECT count(*) FROM andon.hour_due") == 1
            assert await roll_up(database, historian.keeper) == 1
            assert await database.value("SELECT max(max) FROM andon.sample_hour") == 1000
        finally:
            await writer.close()
            await keeper.close()


async def test_the_view_tells_the_same(database: Database, tmp_path: Path) -> None:
    samples = history(5, 12, 200)
    bounds = bounds_between(hour_of(START), hour_of(START) + 13 * HOUR, HOUR)
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, samples)
        for _ in range(2):
            for tag in TAGS:
                rows = await database.rows(
                    'SELECT hour, samples, min, max, avg, known_s, "last" FROM andon.sample_hourly '
                    "WHERE gateway = 'line-1' AND tag = $1 ORDER BY hour",
                    tag,
                )
                found = [
                    SampleBucket(
                        *(row["hour"], row["hour"] + HOUR, row["samples"], row["min"], row["max"]),
                        *(row["avg"], row["last"], row["known_s"]),
                    )
                    for row in rows
                ]
                assert_alike(found, [b for b in wanted(samples, tag, bounds) if b.count])
            await roll_up(database, historian.keeper)


async def test_the_view_tells_the_present_hour_up_to_now_and_not_to_its_end(
    database: Database, tmp_path: Path
) -> None:
    began = datetime.now(UTC)
    hour = hour_of(began)
    changed = hour + (began - hour) / 2
    samples = [
        TagSample(TAGS[0], 10.0, Quality.GOOD, None, hour - HOUR / 2),
        TagSample(TAGS[0], 20.0, Quality.GOOD, None, changed),
        TagSample(TAGS[1], 20.0, Quality.GOOD, None, hour - HOUR / 2),
        TagSample(TAGS[1], None, Quality.BAD, None, changed),
    ]
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, samples)
        rows = await database.rows(
            "SELECT tag, avg, known_s, now() AS asked FROM andon.sample_hourly WHERE hour = $1 ORDER BY tag",
            hour,
        )
    lasting, ended = rows
    end = min(lasting["asked"], hour + HOUR)
    assert math.isclose(lasting["known_s"], (end - hour).total_seconds(), abs_tol=1e-3)
    area = 10.0 * (changed - hour).total_seconds() + 20.0 * (end - changed).total_seconds()
    assert math.isclose(lasting["avg"], area / lasting["known_s"], rel_tol=1e-6)
    assert math.isclose(ended["known_s"], (changed - hour).total_seconds(), abs_tol=1e-3)
    assert math.isclose(ended["avg"], 20.0)


async def test_hours_outlive_the_samples_and_late_ones_do_not_spoil_them(
    database: Database, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    old = [
        TagSample("plc/tag-0", float(n), Quality.GOOD, None, now - timedelta(days=9, minutes=-5 * n))
        for n in range(600)
    ]
    new = [TagSample("plc/tag-1", 5.0, Quality.GOOD, None, now - timedelta(minutes=5))]
    bounds = bounds_between(hour_of(old[0].received_at), hour_of(now), 6 * HOUR)
    changed = {"retention": timedelta(days=5), "rollup_retention": timedelta(days=8)}
    async with kept(database, tmp_path, **changed) as (journal, historian):
        await hand_over(journal, historian, old + new)
        keeper = historian.keeper
        assert await keeper.round(now, quiet=NOW_QUIET)
        assert await database.value("SELECT min(at) FROM andon.sample") >= hour_of(now - timedelta(days=8))
        assert (
            await database.value("SELECT count(*) FROM andon.sample WHERE at < now() - interval '6 days'")
            == 0
        )
        gone = await database.value("SELECT deleted FROM andon.kept_from")
        assert gone == 601 - await database.value("SELECT count(*) FROM andon.sample") > 0
        assert await database.value("SELECT min(hour) FROM andon.sample_hour") > now - timedelta(
            days=8, hours=1
        )
        found, missing = await historian.sample_buckets("plc/tag-0", bounds)
        expected = wanted(old, "plc/tag-0", bounds)
        first = next(i for i, bucket in enumerate(expected) if bucket.from_ > now - timedelta(days=8))
        assert_alike(found[first:], expected[first:])
        assert missing is None
        # What comes so late that only its hour is left cannot be counted in, and takes nothing away.
        late = TagSample("plc/tag-0", -1e6, Quality.GOOD, None, now - timedelta(days=7, minutes=30))
        await hand_over(journal, historian, [late])
        assert_alike((await historian.sample_buckets("plc/tag-0", bounds))[0][first:], expected[first:])
        assert await keeper.round(now, quiet=NOW_QUIET)
        assert_alike((await historian.sample_buckets("plc/tag-0", bounds))[0][first:], expected[first:])
        # Parts of hours that are gone are said to be.
        _, missing = await historian.sample_buckets(
            "plc/tag-0", [bounds[first] + timedelta(minutes=1), bounds[-1]]
        )
        assert missing is not None
        assert "full hour" in missing


async def test_the_last_value_of_a_silent_tag_outlives_its_samples(
    database: Database, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    last_at = hour_of(now - timedelta(days=6)) + timedelta(minutes=40)
    old = [
        TagSample("plc/tag-0", n, Quality.GOOD, None, last_at - timedelta(minutes=5 * (9 - n)))
        for n in range(10)
    ]
    new = [TagSample("plc/tag-1", 5.0, Quality.GOOD, None, now - timedelta(minutes=5))]
    async with kept(database, tmp_path, retention=timedelta(days=5)) as (journal, historian):
        await hand_over(journal, historian, old + new)
        assert await historian.keeper.round(now, quiet=NOW_QUIET)
        assert await database.value("SELECT count(*) FROM andon.sample") == 1
        history = JoinedTagHistory(journal, historian)
        begin = now - timedelta(days=1)
        found = await history.samples("plc/tag-0", begin, now, limit=9)
        assert found.before is not None
        assert (found.before.at, found.before.value, found.before.quality) == (last_at, 9, Quality.GOOD)
        assert (found.items, found.incomplete) == ([], None)
        told = await history.buckets("plc/tag-0", [begin, begin + timedelta(minutes=3), now])
        assert [(bucket.count, bucket.min, bucket.max, bucket.last) for bucket in told.items] == [
            (0, 9, 9, 9)
        ] * 2
        assert told.incomplete is None
        # What was in force in the midst of an hour that is gone nobody knows, and it is said.
        for from_ in (last_at - timedelta(minutes=1), last_at - timedelta(days=1)):
            found = await history.samples("plc/tag-0", from_, now, limit=9)
            assert (found.before, found.items) == (None, [])
            assert "deleted by now" in (found.incomplete or "")
        nobody = await history.samples("plc/tag-9", begin, now, limit=9)
        assert (nobody.before, nobody.items, nobody.incomplete) == (None, [], None)


async def test_samples_there_before_are_rolled_up_after_an_upgrade(
    database: Database, tmp_path: Path
) -> None:
    from gateway.historian.migrate import migrate, migrations

    hours = next(step.number for step in migrations() if step.name == "hours")
    samples = history(6, 10, 100)
    async with kept(database, tmp_path) as (journal, historian):
        await hand_over(journal, historian, samples)
    connection = await database.connect()
    try:
        await migrate(connection, hours - 1)
        await migrate(connection)
    finally:
        await connection.close()
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await drained(historian, journal)
        assert await roll_up(database, historian.keeper) >= 10
        bounds = bounds_between(hour_of(START), hour_of(START) + 11 * HOUR, HOUR)
        await database.do("DELETE FROM andon.sample")
        assert_alike((await historian.sample_buckets(TAGS[0], bounds))[0], wanted(samples, TAGS[0], bounds))


@given(
    st.lists(st.integers(0, 400_000), min_size=2, max_size=8, unique=True).map(sorted),
)
@settings(max_examples=200, deadline=None)
def test_pieces_cover_each_bucket_exactly(seconds: list[int]) -> None:
    bounds = [START + timedelta(seconds=s) for s in seconds]
    parts = cut(bounds)
    for part, following in pairwise(parts):
        assert part.end == following.begin
    assert (parts[0].begin, parts[-1].end) == (bounds[0], bounds[-1])
    for part in parts:
        assert bounds[part.bucket] <= part.begin < part.end <= bounds[part.bucket + 1]
        if part.whole:
            assert part.begin == hour_of(part.begin)
            assert part.end == hour_of(part.end)
        else:
            assert part.end - part.begin < 2 * HOUR


def test_samples_dated_by_their_source_touch_its_hour() -> None:
    at = datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
    sample = TagSample("plc/tag-0", 1.0, Quality.GOOD, at - timedelta(seconds=2), at)
    assert hours_touched([SampleBatch("plc", at, (sample,), True)]) == [hour_of(at) - HOUR]
    assert hours_touched([SampleBatch("plc", at, (sample,), False)]) == [hour_of(at)]
