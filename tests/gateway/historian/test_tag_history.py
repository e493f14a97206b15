"""The history of a tag: the same whether journal or database has it, and figures that equal the samples'."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from api.ports import HistoryUnavailable
from gateway.journal import Journal
from gateway.tag_history import JoinedTagHistory
from statemodel.tag_history import DatedSample, dated, summed_up
from statemodel.types import Quality, SampleBatch, TagSample, TagValue
from tests.gateway.historian.databases import Database, Proxy, build, drained, running, until
from tests.gateway.journal.builders import START, batch, opened

TAG, OTHER = "plc/tag-0", "plc/tag-1"
LONG_AGO, SOON = START - timedelta(days=1), START + timedelta(days=1)


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


def story(kind: str) -> list[TagSample]:
    """Fifty samples of a tag, among them bad, uncertain and simultaneous ones."""
    chance = random.Random(kind)
    values: dict[str, list[TagValue]] = {
        "int": [0, 1, -7, 2**40, 2**60],
        "float": [0.5, -3.25, 1e9, float("inf")],
        "bool": [True, False],
        "text": ["Mixing", "", "ü"],
    }
    found, at = [], 0.0
    for n in range(50):
        at += chance.choice((0.0, 0.25, 1.0, 7.5)) if n % 5 else 1.0
        quality = chance.choices((Quality.GOOD, Quality.UNCERTAIN, Quality.BAD), (8, 1, 1))[0]
        value = None if quality is Quality.BAD else chance.choice(values[kind])
        found.append(
            TagSample(TAG, value, quality, None, second(at), "" if value is not None else "no_value")
        )
    return found


async def record(journal: Journal, samples: Sequence[TagSample]) -> list[DatedSample]:
    """One batch a sample, each with a neighbour that must not be taken for it."""
    for sample in samples:
        other = TagSample(OTHER, 99, Quality.GOOD, None, sample.received_at)
        await journal.append([], [SampleBatch("plc", sample.received_at, (sample, other))])
    return [dated(sample, sample.received_at) for sample in samples]


def as_set(samples: Sequence[DatedSample]) -> list[str]:
    return sorted(map(repr, samples))


@pytest.mark.parametrize("kind", ["int", "float", "bool", "text"])
@pytest.mark.parametrize("handed_over", [0, 23, 50])
async def test_samples_and_figures_do_not_depend_on_where_they_lie(
    database: Database, tmp_path: Path, kind: str, handed_over: int
) -> None:
    samples = story(kind)
    async with opened(tmp_path) as journal:
        # Equal times share their order with nothing: told in the order the history keeps.
        told = await record(journal, samples[:handed_over])
        async with running(journal, database.dsn) as historian:
            await until(lambda: historian.status().connected)
            await drained(historian, journal)
        told += await record(journal, samples[handed_over:])
        history = JoinedTagHistory(journal, historian)
        end = told[-1].at + timedelta(seconds=5)

        whole = await history.samples(TAG, LONG_AGO, SOON, limit=1000)
        assert as_set(whole.items) == as_set(told)
        assert [s.at for s in whole.items] == sorted(s.at for s in told)
        assert (whole.before, whole.incomplete) == (None, None)

        for from_, to in itertools.combinations((second(-1), second(13.25), second(60), end), 2):
            found = await history.samples(TAG, from_, to, limit=1000)
            assert found.items == [s for s in whole.items if from_ <= s.at < to]
            earlier = [s for s in whole.items if s.at < from_]
            assert found.before == (earlier[-1] if earlier else None)
            for skip, limit in ((0, 1), (2, 3), (7, 100)):
                page = await history.samples(TAG, from_, to, limit=limit, skip=skip)
                assert page.items == found.items[skip : skip + limit]
            step = (to - from_) / 7
            bounds = [from_ + step * n for n in range(7)] + [to]
            figures = await history.buckets(TAG, bounds)
            expected = summed_up(found.before, found.items, bounds)
            assert figures.incomplete is None
            assert len(figures.items) == len(expected)
            for got, want in zip(figures.items, expected, strict=True):
                assert (got.from_, got.to, got.count, got.last) == (
                    want.from_,
                    want.to,
                    want.count,
                    want.last,
                )
                assert (got.min, got.max) == (want.min, want.max)
                assert type(got.last) is type(want.last)
                assert got.known_s == pytest.approx(want.known_s)
                assert (got.avg is None) == (want.avg is None)
                if got.avg is not None and want.avg is not None:
                    assert got.avg == pytest.approx(want.avg)
        historian._readers.drop()


async def test_figures_that_leave_out_what_the_database_has_yet_to_get_say_so(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More waits for the database than is looked through for one answer."""
    monkeypatch.setattr("gateway.tag_history.SCAN_SAMPLES_MAX", 20)
    monkeypatch.setattr("gateway.tag_history._PAGE_SAMPLES", 10)
    samples = [TagSample(OTHER, n, Quality.GOOD, None, second(n)) for n in range(100)]
    samples += [TagSample(TAG, n, Quality.GOOD, None, second(n)) for n in range(100, 110)]
    async with opened(tmp_path) as journal:
        async with running(journal, database.dsn) as historian:
            await record(journal, samples[:1])
            await drained(historian, journal)
        for sample in samples[1:]:
            await journal.append([], [SampleBatch("plc", sample.received_at, (sample,))])
        history = JoinedTagHistory(journal, historian)
        figures = await history.buckets(TAG, [second(0), second(200)])
        assert sum(bucket.count for bucket in figures.items) < 10
        assert figures.incomplete == "samples which the database has not been handed yet"
        historian._readers.drop()


async def test_a_tag_never_recorded_has_empty_buckets(database: Database, tmp_path: Path) -> None:
    async with opened(tmp_path) as journal, running(journal, database.dsn) as historian:
        await record(journal, story("int"))
        await drained(historian, journal)
        history = JoinedTagHistory(journal, historian, unrecorded={OTHER})
        found = await history.buckets("plc/unheard-of", (START, SOON))
        assert [(item.count, item.avg, item.last) for item in found.items] == [(0, None, None)]
        silent = await history.samples(OTHER, LONG_AGO, SOON, limit=10)
        assert not silent.items
        assert silent.incomplete == "the tag is not recorded (record = false)"


async def test_without_a_database_the_journal_tells_and_says_what_it_freed(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        told = await record(journal, story("float"))
        history = JoinedTagHistory(journal, None)
        found = await history.samples(TAG, LONG_AGO, SOON, limit=1000)
        assert as_set(found.items) == as_set(told)
        assert found.incomplete is None
        assert (await history.buckets(TAG, (LONG_AGO, SOON))).items[0].count == len(told)
    async with opened(tmp_path, keep=timedelta(0), segment_bytes=60_000) as journal:
        n = 0
        while journal.position.first_batch == 1:
            n += 1
            at = second(100 + n)
            await journal.append(
                [], [SampleBatch("plc", at, (TagSample(TAG, "x" * 5000 + str(n), Quality.GOOD, None, at),))]
            )
        freed = await JoinedTagHistory(journal, None).samples(TAG, LONG_AGO, SOON, limit=5)
        assert freed.incomplete is not None
        assert "no database" in freed.incomplete


async def test_a_database_that_is_away_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        history = JoinedTagHistory(journal, build(journal, "postgresql://andon@127.0.0.1:9/andon"))
        with pytest.raises(HistoryUnavailable):
            await history.samples(TAG, LONG_AGO, SOON, limit=5)
        with pytest.raises(HistoryUnavailable):
            await history.buckets(TAG, (LONG_AGO, SOON))


async def test_the_kind_of_a_tag_is_there_with_its_samples_however_the_connection_ended(
    database: Database, tmp_path: Path
) -> None:
    """Else the numbers of a tag that falls silent then are floats for ever."""
    proxy = Proxy(database.dsn)
    async with opened(tmp_path) as journal, proxy.listening() as dsn, running(journal, dsn) as historian:
        await until(lambda: historian.status().connected)
        proxy.cut = "after"
        received = batch(1, 1)
        samples = tuple(replace(sample, value=7) for sample in received.samples)
        await journal.append([], [replace(received, samples=samples)])
        await until(lambda: historian.status().connects == 2)
        await drained(historian, journal)
        tags = [sample.tag for sample in samples]
        found = await database.rows("SELECT DISTINCT kind FROM andon.tag WHERE tag = ANY($1)", tags)
        assert [row["kind"] for row in found] == ["int"]
