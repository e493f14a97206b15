"""How records lie in a segment: bytes and checksums. Pure; knows nothing of files or SQLite.

Events are stored as the JSON their consumers get. Sample batches are MessagePack, compressed when that
pays: repeated tag names and times of a poll block shrink to a tenth.
"""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime, timedelta

import msgspec
import zstandard

from statemodel.records import Recorded, read_told
from statemodel.types import SampleBatch, TagSample, TagValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_PLAIN, _ZSTD = b"\x00", b"\x01"
_COMPRESS_FROM_BYTES = 400
#: More than any batch can be; a damaged length must not ask for all memory.
_BATCH_BYTES_MAX = 256_000_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SampleBatch).decode
# Fast level; one of each is enough because only the journal's thread uses them.
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


class Unreadable(Exception):
    """A record's bytes are not what was written."""


def to_us(at: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The instant `to_us` came from."""
    return _EPOCH + us * _MICROSECOND


def checksum(number: int, body: bytes) -> int:
    """CRC-32 over a record and its number, so that neither can change nor two records swap unseen."""
    return zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big", signed=True)))


def check(number: object, body: object, crc: object) -> bytes:
    """The body of a row as it was written. A flipped bit may change even the type of a column.

    Raises:
        Unreadable: the row is damaged.
    """
    if type(number) is not int or type(body) is not bytes or checksum(number, body) != crc:
        raise Unreadable("its checksum is wrong")
    return body


def decode_event(seq: int, type_: str, body: bytes, crc: int) -> Recorded:
    """The event in a row.

    Raises:
        Unreadable: the row is damaged.
    """
    try:
        recorded = read_told(check(seq, body, crc), type_)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
    if recorded.seq != seq or recorded.type != type_:
        raise Unreadable("its number or type is wrong")
    return recorded


def encode_batch(batch: SampleBatch) -> bytes:
    """Bytes of a batch. Values no encoding holds are made harmless rather than refused."""
    try:
        body = _encode(batch)
    except (OverflowError, UnicodeEncodeError):
        body = _encode(_tamed(batch))
    if len(body) < _COMPRESS_FROM_BYTES:
        return _PLAIN + body
    return _ZSTD + _compress(body)


def decode_batch(number: int, body: bytes, crc: int) -> SampleBatch:
    """The batch in a row.

    Raises:
        Unreadable: the row is damaged.
    """
    check(number, body, crc)
    try:
        packed = _decompress(body[1:], max_output_size=_BATCH_BYTES_MAX) if body[:1] == _ZSTD else body[1:]
        return _decode(packed)
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise Unreadable(str(error)) from error


def _tamed(batch: SampleBatch) -> SampleBatch:
    samples = tuple(msgspec.structs.replace(sample, value=_tame(sample)) for sample in batch.samples)
    return msgspec.structs.replace(batch, samples=samples)


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
