"""A batch comes back as it was, whatever its samples have in common."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.journal.sampled import decode_batch, encode_batch
from statemodel.types import Quality, SampleBatch, TagSample, TagValue
from tests.gateway.journal.builders import START, batch

LATER = START + timedelta(microseconds=1)
GOOD, BAD = Quality.GOOD, Quality.BAD


@pytest.mark.parametrize(
    "samples",
    [
        (),
        (TagSample("plc/a", None, BAD, None, START, "stale"),),
        tuple(TagSample("plc/a", value, GOOD, None, START) for value in (1, True, 1.0, "1", None)),
        tuple(TagSample(f"plc/{n}", 0.5, GOOD, START, START) for n in range(3)),
        (TagSample("plc/a", 1, GOOD, None, START), TagSample("plc/a", 1, BAD, LATER, LATER, "x")),
    ],
)
def test_a_batch_comes_back_as_it_was(samples: tuple[TagSample, ...]) -> None:
    written = SampleBatch("plc", LATER, samples, source_time=True)

    read = decode_batch(encode_batch(written))

    assert read == written
    assert [_typed(s.value) for s in read.samples] == [_typed(s.value) for s in samples]


def _typed(value: TagValue) -> tuple[type, TagValue]:
    return type(value), value


def test_every_field_of_a_sample_and_a_batch_has_its_place() -> None:
    """A field added to them must be added to the columns, with a default for what was written before."""
    assert TagSample.__struct_fields__ == (
        "tag",
        "value",
        "quality",
        "source_at",
        "received_at",
        "substatus",
    )
    assert SampleBatch.__struct_fields__ == ("connection", "received_at", "samples", "source_time")


def test_what_samples_share_is_written_once() -> None:
    assert len(encode_batch(batch(1, 100))) < 100 * (len("plc/tag-10") + 1 + 9) + 100
