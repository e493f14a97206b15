"""How a sample batch lies in the journal: columns instead of rows, in MessagePack. Pure.

What all samples of a batch share, most often the quality and the times, is written once. That is cheaper to
make than a map for each sample, and a third of its size before compression.
"""

from __future__ import annotations

import math
from datetime import datetime
from itertools import repeat
from typing import Any

import msgspec

from statemodel.types import Quality, SampleBatch, TagSample, TagValue


class _Columns(msgspec.Struct, array_like=True, frozen=True):
    """A batch as it is decoded. A column that is one value instead of a list is the same for all samples;
    `values` is always a list, because in Python 1, 1.0 and True are equal and yet not the same value."""

    connection: str
    received_at: datetime
    source_time: bool
    count: int
    tags: list[str] | str
    values: list[TagValue]
    qualities: list[Quality] | Quality
    sources: list[datetime | None] | datetime | None
    receipts: list[datetime] | datetime
    substatuses: list[str] | str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Columns).decode


def encode_batch(batch: SampleBatch) -> bytes:
    """Bytes of a batch. Values no encoding holds are made harmless rather than refused."""
    try:
        return _encode(_columns(batch))
    except (OverflowError, UnicodeEncodeError):
        samples = tuple(msgspec.structs.replace(sample, value=_tame(sample)) for sample in batch.samples)
        return _encode(_columns(msgspec.structs.replace(batch, samples=samples)))


def _columns(batch: SampleBatch) -> list[Any]:
    samples = batch.samples
    # A list for each attribute: rows as tuples would make work for the garbage collector.
    values = [sample.value for sample in samples]
    shared = (
        [sample.tag for sample in samples],
        [sample.quality for sample in samples],
        [sample.source_at for sample in samples],
        [sample.received_at for sample in samples],
        [sample.substatus for sample in samples],
    )
    tags, *rest = (_once(column) for column in shared)
    return [batch.connection, batch.received_at, batch.source_time, len(samples), tags, values, *rest]


def _once(column: list[Any]) -> Any:
    """What all have in common, or the column."""
    return column[0] if column and column.count(column[0]) == len(column) else column


def decode_batch(body: bytes) -> SampleBatch:
    """The batch `encode_batch` was given.

    Raises:
        msgspec.MsgspecError: the bytes are not a batch.
    """
    held = _decode(body)
    columns = (held.tags, held.values, held.qualities, held.sources, held.receipts, held.substatuses)
    if any(isinstance(column, list) and len(column) != held.count for column in columns):
        raise msgspec.ValidationError("its columns are not of one length")
    rows = zip(*(c if isinstance(c, list) else repeat(c, held.count) for c in columns), strict=True)
    samples = tuple([TagSample(*row) for row in rows])
    return SampleBatch(held.connection, held.received_at, samples, held.source_time)


def _tame(sample: TagSample) -> TagValue:
    """Integers beyond 64 bits become floats, half surrogate pairs become question marks."""
    value = sample.value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value
