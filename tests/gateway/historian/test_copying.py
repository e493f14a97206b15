"""The quick way to pack samples makes the very bytes of the careful one, whatever is in a batch."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.historian.copying import SampleEncoder, UnknownTag
from statemodel.types import Quality, TagSample
from tests.gateway.journal.builders import START

TAGS = [f"plc/tag-{n}" for n in range(6)]
IDS = {tag: n for n, tag in enumerate(TAGS)}

values = st.one_of(
    st.floats(),
    st.integers(-10, 10),
    st.booleans(),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 10**400, 2**64 - 1]),
    st.text(max_size=3),
    st.none(),
)
times = st.sampled_from([timedelta(0), timedelta(microseconds=-1), timedelta(days=-400), timedelta(hours=3)])
samples = st.builds(
    TagSample,
    st.sampled_from(TAGS),
    values,
    st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.BAD]),
    st.none() | times.map(lambda by: START + by),
    st.sampled_from([START, START, START, START + timedelta(seconds=1)]),
    st.sampled_from(["", "", "", "stale"]),
)
#: Most batches are all of one kind: those are the ones that go the quick way.
even = st.lists(
    st.builds(
        TagSample,
        st.sampled_from(TAGS),
        st.floats() | st.integers(-(2**54), 2**54) | st.booleans(),
        st.just(Quality.GOOD),
        st.none(),
        st.just(START),
    )
)
sourced = st.lists(
    st.builds(
        TagSample,
        st.sampled_from(TAGS),
        st.floats(allow_nan=False),
        st.just(Quality.GOOD),
        times.map(lambda by: START + by),
        st.just(START),
    )
)


def taught() -> SampleEncoder:
    """One that has met every tag with every kind of number."""
    encoder = SampleEncoder(IDS, {})
    for value in (True, 1, 1.0):
        encoder.encode([(False, [TagSample(tag, value, Quality.GOOD, None, START) for tag in TAGS])])
    return encoder


@given(st.lists(st.tuples(st.booleans(), st.one_of(even, sourced, st.lists(samples))), max_size=6))
def test_quick_and_careful_make_the_same_bytes(groups: list[tuple[bool, list[TagSample]]]) -> None:
    quick, careful = taught(), SampleEncoder(IDS, {})
    one_by_one = [careful._row(sample, source_time) for source_time, batch in groups for sample in batch]
    assert quick.encode(groups) == b"".join(one_by_one)
    for tag in TAGS:
        last = [s for _, batch in groups for s in batch if s.tag == tag and s.value is not None]
        if last:
            kind = {bool: "bool", int: "int", float: "float", str: "text"}[type(last[-1].value)]
            assert quick._kinds[tag] == kind, "the kind of a tag is that of its last value"


def test_a_batch_of_plain_numbers_goes_the_quick_way() -> None:
    encoder = taught()
    mixed = [
        TagSample(TAGS[0], 1, Quality.GOOD, None, START),
        TagSample(TAGS[1], 1.5, Quality.GOOD, None, START),
    ]
    encoder.encode([(False, mixed)])
    assert encoder._even(mixed, False)
    dated = [TagSample(tag, 1.5, Quality.GOOD, START - timedelta(seconds=1), START) for tag in TAGS]
    encoder.encode([(False, dated)])
    assert encoder._even(dated, False) != encoder._even(dated, True) is not None
    assert encoder._even(dated, False) is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1, "text", None])
def test_one_odd_value_makes_a_batch_go_the_careful_way(value: float | str | None) -> None:
    encoder = taught()
    batch = [
        TagSample(TAGS[0], 1.5, Quality.GOOD, None, START),
        TagSample(TAGS[1], value, Quality.GOOD, None, START),
    ]
    encoder.encode([(False, batch)])
    assert encoder._even(batch, False) is None


def test_more_samples_than_one_piece_keep_their_order() -> None:
    encoder, careful = taught(), SampleEncoder(IDS, {})
    many = [TagSample(TAGS[n % 6], float(n), Quality.GOOD, None, START) for n in range(1000)]
    encoder.encode([(False, many)])
    assert encoder.encode([(False, many)]) == b"".join(careful._row(sample, False) for sample in many)


def test_a_tag_without_a_number_is_told() -> None:
    with pytest.raises(UnknownTag):
        taught().encode([(False, [TagSample("plc/new", 1.0, Quality.GOOD, None, START)])])
