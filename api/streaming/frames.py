"""How a stream is put into bytes or texts, once for each of its two forms. Pure; sends nothing.

Both tell the same: where the stream begins, events with their cursors, heartbeats (with a cursor when events
were passed over), what was left out, and at last why it ends. The bytes of an event are those of the journal
in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from api.cursor import write_cursor
from api.problems import ProblemDetails
from api.streaming.selection import LeftOut
from statemodel.records import Recorded

_CHUNK_BYTES_MAX = (
    32_768  # small against a socket's buffer: each chunk taken is progress the stall clock sees
)
_REASON_BYTES_MAX = 123  # of a control frame (RFC 6455 section 5.5)

_encode = msgspec.json.Encoder().encode

Piece = TypeVar("Piece", bytes, str)
Form = TypeVar("Form", bytes, str, covariant=True)


class Frames(Protocol, Generic[Form]):
    """One of the two forms."""

    def begin(self, stream: str, seq: int, settings_ms: tuple[int, int]) -> Form:
        """The first thing said: everything up to `seq` counts as known. `settings_ms` are how long a client
        should wait before it connects again, and the longest silence."""
        ...

    def events(self, events: Sequence[Recorded]) -> Iterator[tuple[Form, int]]:
        """Events in pieces worth a write, each with the last sequence in it."""
        ...

    def heartbeat(self, stream: str, seq: int | None) -> Form:
        """Something to break a silence; with the cursor, unless it is None."""
        ...

    def left_out(self, told: LeftOut) -> Form:
        """That events are left out."""
        ...

    def problem(self, details: ProblemDetails) -> Form:
        """Why the stream ends."""
        ...


class EventStreamFrames:
    """Server-sent events."""

    def begin(self, stream: str, seq: int, settings_ms: tuple[int, int]) -> bytes:
        """`retry`, and the cursor as an `id` without data."""
        return b"retry: %d\nid: %b\n\n" % (settings_ms[0], write_cursor(stream, seq).encode())

    def events(self, events: Sequence[Recorded]) -> Iterator[tuple[bytes, int]]:
        """Several events a piece: `id` is the cursor, `event` the type, `data` the bytes of the journal."""
        blocks: list[bytes] = []
        size = 0
        for event in events:
            block = b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (
                event.stream.encode(),
                event.seq,
                event.type.encode(),
                event.json,
            )
            blocks.append(block)
            size += len(block)
            if size >= _CHUNK_BYTES_MAX:
                yield b"".join(blocks), event.seq
                blocks, size = [], 0
        if blocks:
            yield b"".join(blocks), events[-1].seq

    def heartbeat(self, stream: str, seq: int | None) -> bytes:
        """A comment; an `id` without data when there is a cursor to keep."""
        if seq is None:
            return b": heartbeat\n\n"
        return b": heartbeat\nid: %b\n\n" % write_cursor(stream, seq).encode()

    def left_out(self, told: LeftOut) -> bytes:
        """An event without an `id`: the events after it bring theirs."""
        return b"event: left_out\ndata: %b\n\n" % _encode(told)

    def problem(self, details: ProblemDetails) -> bytes:
        """An event of its own, and a comment that says that nothing follows."""
        return b"event: problem\ndata: %b\n\n: end\n\n" % _encode(details)


class MessageFrames:
    """Messages of a WebSocket: each a JSON object whose `type` says which."""

    def begin(self, stream: str, seq: int, settings_ms: tuple[int, int]) -> str:
        """`begin`, with the cursor."""
        begun = Begun(write_cursor(stream, seq), settings_ms[0] / 1000, settings_ms[1] / 1000)
        return _encode(begun).decode()

    def events(self, events: Sequence[Recorded]) -> Iterator[tuple[str, int]]:
        """One event a message, wrapped with its cursor."""
        for event in events:
            text = b'{"type":"event","cursor":"%b:%d","event":%b}' % (
                event.stream.encode(),
                event.seq,
                event.json,
            )
            yield text.decode(), event.seq

    def heartbeat(self, stream: str, seq: int | None) -> str:
        """`heartbeat`, with the cursor or null."""
        return _encode(Heartbeat(None if seq is None else write_cursor(stream, seq))).decode()

    def left_out(self, told: LeftOut) -> str:
        """`left_out`, as it is."""
        return _encode(told).decode()

    def problem(self, details: ProblemDetails) -> str:
        """`problem`, with the document."""
        return _encode(Ended(details)).decode()


class Begun(msgspec.Struct, frozen=True, tag="begin", tag_field="type"):
    """The first message: events after `cursor` follow. Wait `retry_s` before connecting again; a silence of
    more than twice `heartbeat_s` means that the connection is lost."""

    cursor: str
    retry_s: float
    heartbeat_s: float


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat", tag_field="type"):
    """Breaks a silence. A `cursor` means that events up to it were passed over: keep it."""

    cursor: str | None


class Told(msgspec.Struct, frozen=True, tag="event", tag_field="type"):
    """One event; `cursor` is what to continue after."""

    cursor: str
    event: msgspec.Raw


class Ended(msgspec.Struct, frozen=True, tag="problem", tag_field="type"):
    """The last message: why the stream ends."""

    problem: ProblemDetails


def close_code(code: str) -> int:
    """The close code of a WebSocket for a problem (RFC 6455 section 7.4.1 and its registry).

    1012: the gateway stops. 1013: connect again after the last cursor, that is all it takes. 1011: the
    gateway failed. 1008: the same again would be refused again.
    """
    return _CLOSE_CODES.get(code, 1008)


_CLOSE_CODES = {
    "stopping": 1012,
    "stalled": 1013,
    "history_unavailable": 1013,
    "too_many_streams": 1013,
    "too_many_requests": 1013,
    "internal_error": 1011,
}


def close_reason(details: ProblemDetails) -> str:
    """What fits into a close frame of a problem: its code, and as much of the words as there is room for."""
    text = f"{details.code}: {details.detail}".encode()[:_REASON_BYTES_MAX]
    return text.decode(errors="ignore")


def last_chunk(piece: bytes) -> bytes:
    """Bytes that end a response of HTTP/1.1 in chunks, as they stand on the wire."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece)


def last_messages(text: str, code: int, reason: str) -> bytes:
    """A text and a close frame of a server, as they stand on the wire (RFC 6455 section 5.2)."""
    payload = text.encode()
    closing = code.to_bytes(2, "big") + reason.encode()
    return _frame(0x81, payload) + _frame(0x88, closing)


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((head,)) + length + payload
