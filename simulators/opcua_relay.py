"""The answers of an OPC UA server on their way out: passed on, or lost as faults ask, without a trace.

A secure channel numbers its messages, and a client ends a channel with a number missing. So when the answer
to a write is taken out, those behind it move up by one: to the client it was never sent. That works because
the simulated servers have no security. Frames are those of OPC 10000-6 section 6.7.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

WRITE_RESPONSE: Final = 676
"""Binary encoding id of a WriteResponse."""
_HEADER_BYTES, _PLAIN_SEQUENCE_AT, _BODY_AT = 8, 16, 24
_SIZE: Final = struct.Struct("<I")
_NUMERIC_ID: Final = struct.Struct("<BBH")
_FOUR_BYTES: Final = 1


class Outgoing:
    """Cuts the bytes of one connection into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._taken_out = 0

    def messages(self, data: bytes) -> Iterator[tuple[bytearray, bool]]:
        """Each message that is complete now, and whether it answers a write."""
        self._pending += data
        while len(self._pending) >= _HEADER_BYTES:
            (size,) = _SIZE.unpack_from(self._pending, 4)
            if len(self._pending) < size:
                return
            message = self._pending[:size]
            del self._pending[:size]
            yield message, _answers_write(message)

    def take_out(self) -> None:
        """The message just seen is not sent."""
        self._taken_out += 1

    def numbered(self, message: bytearray) -> bytes:
        """The message with the number it has for the client."""
        if self._taken_out and (at := _sequence_at(message)):
            (number,) = _SIZE.unpack_from(message, at)
            _SIZE.pack_into(message, at, number - self._taken_out)
        return bytes(message)


def _sequence_at(message: bytearray) -> int:
    """Where the sequence number stands; 0 in a message without."""
    kind = bytes(message[:3])
    if kind in (b"MSG", b"CLO"):
        return _PLAIN_SEQUENCE_AT
    if kind != b"OPN":
        return 0
    at = _HEADER_BYTES + 4
    for _ in range(3):  # policy, certificate and thumbprint, each with its length before it
        (length,) = struct.unpack_from("<i", message, at)
        at += 4 + max(0, length)
    return at


def _answers_write(message: bytearray) -> bool:
    if message[:3] != b"MSG" or len(message) < _BODY_AT + _NUMERIC_ID.size:
        return False
    encoding, _, number = _NUMERIC_ID.unpack_from(message, _BODY_AT)
    return (encoding, number) == (_FOUR_BYTES, WRITE_RESPONSE)
