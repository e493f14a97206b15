"""Where the transitions of each equipment are: times and numbers, in memory, and packed for a file. Pure.

Sixteen bytes a transition. Times rise with the numbers as long as no source sets its clock back; where they
do not, what is asked by time is looked for one by one.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec
import zstandard

from gateway.journal.codec import Unreadable

_BYTES_MAX = 1_000_000_000


class Places:
    """Times (microseconds since 1970) and numbers of one equipment's transitions, in the order of numbers."""

    def __init__(self) -> None:
        self._at, self._seq = array("q"), array("q")
        self._rises = True

    def add(self, seq: int, at_us: int) -> None:
        """Note the next transition."""
        if self._at and at_us < self._at[-1]:
            self._rises = False
        self._at.append(at_us)
        self._seq.append(seq)

    @property
    def last(self) -> int:
        """Number of the newest."""
        return self._seq[-1]

    def within(self, after: int, from_us: int, to_us: int, limit: int) -> Sequence[int]:
        """Numbers beyond `after` whose time is in `from <= at < to`, in order."""
        begin, end = bisect_right(self._seq, after), len(self._seq)
        if not self._rises:
            found = [self._seq[i] for i in range(begin, end) if from_us <= self._at[i] < to_us]
            return found[:limit] if limit >= 0 else found
        begin, end = max(begin, bisect_left(self._at, from_us)), bisect_left(self._at, to_us)
        return self._seq[begin : end if limit < 0 else min(end, begin + limit)]

    def before(self, at_us: int) -> int | None:
        """Number of the newest transition at or before an instant: latest time, then highest number."""
        if self._rises:
            found = bisect_right(self._at, at_us)
            return self._seq[found - 1] if found else None
        known = [(at, seq) for at, seq in zip(self._at, self._seq, strict=True) if at <= at_us]
        return max(known)[1] if known else None

    def up_to(self, seq: int) -> int | None:
        """The highest number that is not beyond one."""
        found = bisect_right(self._seq, seq)
        return self._seq[found - 1] if found else None

    def pack(self) -> bytes:
        """Bytes for a file."""
        return zstandard.ZstdCompressor(level=1).compress(
            msgspec.msgpack.encode([_bytes(self._at), _bytes(self._seq)])
        )

    @classmethod
    def unpack(cls, body: bytes) -> Places:
        """What was packed.

        Raises:
            Unreadable: it is not what was packed.
        """
        places = cls()
        try:
            at, seq = msgspec.msgpack.decode(
                zstandard.ZstdDecompressor().decompress(body, max_output_size=_BYTES_MAX),
                type=tuple[bytes, bytes],
            )
            places._at.frombytes(at)
            places._seq.frombytes(seq)
        except (zstandard.ZstdError, msgspec.MsgspecError, ValueError) as error:
            raise Unreadable(str(error)) from error
        if sys.byteorder == "big":
            places._at.byteswap()
            places._seq.byteswap()
        places._rises = all(a <= b for a, b in zip(places._at, places._at[1:], strict=False))
        return places


def _bytes(numbers: array[int]) -> bytes:
    """Little-endian, whatever the machine."""
    if sys.byteorder == "little":
        return numbers.tobytes()
    swapped = array("q", numbers)
    swapped.byteswap()
    return swapped.tobytes()
