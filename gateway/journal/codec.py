"""How commits lie in a segment: bytes, checksums, digests. Pure; knows nothing of files or SQLite.

The records of a commit are packed one behind the other, compressed together, and sealed with a checksum over
their place and bytes. Events are the JSON their consumers get; a dictionary of such JSON makes even one alone
small. Every commit has a digest over its records and the digest before: a chain in which nothing can be
removed, exchanged or rewritten without breaking it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import zstandard

from statemodel.records import Recorded, read_told

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: How a payload is encoded: its first byte. Shorter ones are not compressed, unless by dictionary.
_PLAIN, _ZSTD, _DICTIONARY = b"\x00", b"\x01", b"\x02"
_COMPRESS_FROM_BYTES = 120
#: More than any commit can be; a damaged length must not ask for all memory.
_PAYLOAD_BYTES_MAX = 1_000_000_000
#: Bytes of a digest (BLAKE2b).
DIGEST_BYTES = 16
#: Bytes of JSON that events are compressed against; the last ones count most.
_DICTIONARY_BYTES_MAX = 16_384

_U32, _PLACE, _NUMBERS = struct.Struct("<I"), struct.Struct("<qq"), struct.Struct("<qqqqqI")
_TYPE = b'"type":"'

_encode = msgspec.msgpack.Encoder().encode


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


def signed(*columns: str | int | bytes) -> tuple[str | int | bytes, ...]:
    """A row with its checksum as the last column."""
    return (*columns, zlib.crc32(_encode(columns)))


def decode_event(seq: int, type_: str, body: bytes) -> Recorded:
    """The event in some bytes.

    Raises:
        Unreadable: they are not that event.
    """
    try:
        recorded = read_told(body, type_)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
    if recorded.seq != seq or recorded.type != type_:
        raise Unreadable("its number or type is wrong")
    return recorded


def type_of(body: bytes) -> str:
    """The type word in an event's JSON. What comes before it is ours: stream, number and identity."""
    begin = body.find(_TYPE) + len(_TYPE)
    return body[begin : body.find(b'"', begin)].decode("ascii", "replace")


class Coder:
    """Payloads of one segment and back. `dictionary` is what its events are compressed against."""

    def __init__(self, dictionary: bytes) -> None:
        shared = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        shared.precompute_compress(level=1)
        self._compress = zstandard.ZstdCompressor(level=1, dict_data=shared).compress
        self._decompress = zstandard.ZstdDecompressor(dict_data=shared).decompress
        # Of its own, as well: two threads must not use one of them at the same time.
        self._compress_plain = zstandard.ZstdCompressor(level=1).compress
        self._decompress_plain = zstandard.ZstdDecompressor().decompress

    def pack_events(self, bodies: Sequence[bytes]) -> bytes:
        """The payload of some events; empty for none."""
        return _DICTIONARY + self._compress(_packed(bodies)) if bodies else b""

    def pack_batches(self, bodies: Sequence[bytes]) -> bytes:
        """The payload of some encoded sample batches; empty for none."""
        if not bodies:
            return b""
        packed = _packed(bodies)
        return _PLAIN + packed if len(packed) < _COMPRESS_FROM_BYTES else _ZSTD + self._compress_plain(packed)

    def unpack(self, block: object, first: object, sealed: object) -> list[bytes]:
        """The records that were sealed at a place.

        Raises:
            Unreadable: they are not what was written there.
        """
        if type(block) is not int or type(first) is not int or type(sealed) is not bytes or len(sealed) < 5:
            raise Unreadable("its checksum is wrong")
        payload = sealed[4:]
        if _seal(block, first, payload) != sealed[:4]:
            raise Unreadable("its checksum is wrong")
        unpack: Callable[[bytes], bytes] | None = self._unpackers.get(payload[:1])
        try:
            if unpack is None:
                raise Unreadable("its encoding is unknown")
            return _unpacked(unpack(payload[1:]))
        except (zstandard.ZstdError, struct.error) as error:
            raise Unreadable(str(error)) from error

    @property
    def _unpackers(self) -> dict[bytes, Callable[[bytes], bytes]]:
        return {
            _PLAIN: bytes,
            _ZSTD: lambda body: self._decompress_plain(body, max_output_size=_PAYLOAD_BYTES_MAX),
            _DICTIONARY: lambda body: self._decompress(body, max_output_size=_PAYLOAD_BYTES_MAX),
        }


def _packed(bodies: Sequence[bytes]) -> bytes:
    return b"".join((_U32.pack(len(bodies)), struct.pack(f"<{len(bodies)}I", *map(len, bodies)), *bodies))


def _unpacked(packed: bytes) -> list[bytes]:
    (count,) = _U32.unpack_from(packed)
    end = 4 + 4 * count
    bodies = []
    for length in struct.unpack_from(f"<{count}I", packed, 4):
        bodies.append(packed[end : end + length])
        end += length
    if end != len(packed):
        raise Unreadable("its records are not as long as they say")
    return bodies


def seal(block: int, first: int, payload: bytes) -> bytes:
    """A payload bound to its place: the number of its block and of its first record. Empty stays empty."""
    return _seal(block, first, payload) + payload if payload else b""


def _seal(block: int, first: int, payload: bytes) -> bytes:
    return _U32.pack(zlib.crc32(payload, zlib.crc32(_PLACE.pack(block, first))))


def begin_chain(chain: bytes, dictionary: bytes, *identity: str | int) -> bytes:
    """The digest a segment's first block follows: over whose it is, what it says of itself, and `chain`."""
    return _digest(chain, _encode(identity), dictionary)


class Numbers(NamedTuple):
    """What a block holds: its own number, how many events from `seq` on, how many batches from `batch` on."""

    number: int
    seq: int
    events: int
    batch: int
    batches: int

    @property
    def checksum(self) -> int:
        """CRC-32 over all of them: numbering stays certain when records are damaged."""
        return zlib.crc32(_NUMBERS.pack(*self, 0))

    @classmethod
    def read(cls, row: tuple[Any, ...]) -> Numbers:
        """The numbers of a row that begins with them and their checksum.

        Raises:
            Unreadable: they are not what was written.
        """
        numbers = cls(*row[:5])
        if not all(type(column) is int for column in numbers) or numbers.checksum != row[5]:
            raise Unreadable("its numbers are damaged")
        return numbers


def chained(before: bytes, numbers: Numbers, events: bytes, samples: bytes) -> bytes:
    """The digest of a block: over the one before, its numbers and its sealed payloads."""
    return _digest(before, _NUMBERS.pack(*numbers, len(events)), events, samples)


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def dictionary_of(examples: Sequence[bytes]) -> bytes:
    """What events are compressed against: the last of some examples that find room, in their order."""
    chosen: list[bytes] = []
    room = _DICTIONARY_BYTES_MAX
    for example in reversed(examples):
        room -= len(example)
        if room < 0 and chosen:
            break
        chosen.append(example)
    return b"".join(reversed(chosen))
