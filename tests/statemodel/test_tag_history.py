"""Figures of stretches of time: those of the values in force, however the time is cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemodel.tag_history import DatedSample, SampleBucket, summed_up
from statemodel.types import Quality, TagValue

START = datetime(2026, 11, 21, tzinfo=UTC)


def second(n: float) -> datetime:
    return START + timedelta(seconds=n)


def sample(at_s: float, value: TagValue, quality: Quality = Quality.GOOD) -> DatedSample:
    return DatedSample(second(at_s), value, quality, None, second(at_s))


def bucket(before: DatedSample | None, *samples: DatedSample) -> SampleBucket:
    (found,) = summed_up(before, samples, (second(0), second(10)))
    return found


def test_a_value_holds_until_the_next_and_counts_by_how_long() -> None:
    found = bucket(sample(-5, 1.0), sample(4, 3), sample(9, 11))
    assert (found.count, found.min, found.max, found.last, found.known_s) == (2, 1.0, 11, 11, 10.0)
    assert found.avg == pytest.approx((4 * 1 + 5 * 3 + 1 * 11) / 10)


def test_time_without_a_known_number_counts_for_nothing() -> None:
    found = bucket(None, sample(2, 6), sample(4, None, Quality.BAD), sample(8, float("nan")), sample(9, 8))
    assert (found.count, found.min, found.max, found.avg, found.known_s) == (4, 6, 8, 20 / 3, 3.0)
    assert bucket(None) == SampleBucket(second(0), second(10), 0, None, None, None, None, 0.0)
    text = bucket(None, sample(1, "Recipe 7"))
    assert (text.count, text.min, text.avg, text.last, text.known_s) == (1, None, None, "Recipe 7", 0.0)
    assert bucket(sample(-1, 5), sample(1, None, Quality.BAD)).last is None


def test_what_is_replaced_at_the_very_start_was_never_in_force() -> None:
    found = bucket(sample(-1, 1000), sample(0, 1), sample(0, 2))
    assert (found.min, found.max, found.avg) == (1, 2, 2.0)  # two at one instant: both were told


def test_booleans_are_shares_of_time() -> None:
    found = bucket(sample(-1, True), sample(4, False))
    assert (found.min, found.max, found.avg, found.last) == (0, 1, 0.4, False)


_SAMPLES = st.lists(
    st.builds(
        sample,
        st.integers(-3, 40).map(lambda n: n / 2),
        st.one_of(st.none(), st.integers(-5, 5), st.floats(allow_nan=True, width=16), st.just("text")),
        st.sampled_from(Quality),
    ),
    max_size=12,
).map(lambda found: sorted(found, key=lambda s: s.at))


@given(_SAMPLES, st.lists(st.integers(1, 39), max_size=4, unique=True))
def test_cutting_finer_changes_no_sum(samples: list[DatedSample], cuts: list[int]) -> None:
    before = max((s for s in samples if s.at < START), key=lambda s: s.at, default=None)
    inside = [s for s in samples if s.at >= START and s.at < second(20)]
    (whole,) = summed_up(before, inside, (START, second(20)))
    bounds = (START, *sorted(second(cut / 2) for cut in cuts), second(20))
    parts = summed_up(before, inside, bounds)
    assert [(part.from_, part.to) for part in parts] == list(pairwise(bounds))
    assert sum(part.count for part in parts) == whole.count
    assert sum(part.known_s for part in parts) == pytest.approx(whole.known_s)
    assert sum((part.avg or 0) * part.known_s for part in parts) == pytest.approx(
        (whole.avg or 0) * whole.known_s, abs=1e-6
    )
    assert parts[-1].last == whole.last
    assert max((p.max for p in parts if p.max is not None), default=None) == whole.max
