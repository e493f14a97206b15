"""How a stream is put into bytes or texts, once for each of its two forms. Pure; sends nothing.

Both tell the same: where the stream begins, events with their cursors, heartbeats (with a cursor when events
were passed over), what was left out, and at last why it ends. The bytes of an event are those of the journal
in both. What an event is in a form is made once, for all clients that hear it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
_TEXT, _CLOSE = 0x81, 0x88  # whole in one frame (RFC 6455 section 5.2)
#: Events whose bytes are kept: as many as a stream is handed at once.
_MADE_EVENTS_MAX = 500

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


class Once:
    """Bytes made of an event when they are asked for first. It is asked by every client that hears the event,
    most of them at about the same time, so a few are kept; who reads what is long ago has its own made."""

    def __init__(self, make: Callable[[Recorded], bytes], events_max: int = _MADE_EVENTS_MAX) -> None:
        self._make = make
        self._events_max = events_max
        #: By identity, which is an event's own for as long as it stands here.
        self._made: dict[int, tuple[Recorded, bytes]] = {}

    def of(self, event: Recorded) -> bytes:
        """The bytes of an event."""
        known = self._made.get(id(event))
        if known is not None:
            return known[1]
        made = self._make(event)
        self._made[id(event)] = (event, made)
        if len(self._made) > self._events_max:
            del self._made[next(iter(self._made))]
        return made


def _block(event: Recorded) -> bytes:
    return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (
        event.stream.encode(),
        event.seq,
        event.type.encode(),
        event.json,
    )


def _message(event: Recorded) -> bytes:
    return b'{"type":"event","cursor":"%b:%d","event":%b}' % (event.stream.encode(), event.seq, event.json)


_BLOCKS = Once(_block)
_MESSAGES = Once(lambda event: _frame(_TEXT, _message(event)))


def _in_chunks(events: Sequence[Recorded], made: Once) -> Iterator[tuple[bytes, int]]:
    """Several events a write: each write takes everybody some work, whatever its size."""
    pieces: list[bytes] = []
    size = 0
    for event in events:
        piece = made.of(event)
        pieces.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES_MAX:
            yield b"".join(pieces), event.seq
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces), events[-1].seq


class EventStreamFrames:
    """Server-sent events."""

    def begin(self, stream: str, seq: int, settings_ms: tuple[int, int]) -> bytes:
        """`retry`, and the cursor as an `id` without data."""
        return b"retry: %d\nid: %b\n\n" % (settings_ms[0], write_cursor(stream, seq).encode())

    def events(self, events: Sequence[Recorded]) -> Iterator[tuple[bytes, int]]:
        """Several events a piece: `id` is the cursor, `event` the type, `data` the bytes of the journal."""
        return _in_chunks(events, _BLOCKS)

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
            yield _message(event).decode(), event.seq

    def heartbeat(self, stream: str, seq: int | None) -> str:
        """`heartbeat`, with the cursor or null."""
        return _encode(Heartbeat(None if seq is None else write_cursor(stream, seq))).decode()

    def left_out(self, told: LeftOut) -> str:
        """`left_out`, as it is."""
        return _encode(told).decode()

    def problem(self, details: ProblemDetails) -> str:
        """`problem`, with the document."""
        return _encode(Ended(details)).decode()


class FramedMessages:
    """The same messages as frames ready for the wire (RFC 6455 section 5.2), for a server that takes such."""

    def __init__(self) -> None:
        self._messages = MessageFrames()

    def begin(self, stream: str, seq: int, settings_ms: tuple[int, int]) -> bytes:
        """`begin`, with the cursor."""
        return _framed(self._messages.begin(stream, seq, settings_ms))

    def events(self, events: Sequence[Recorded]) -> Iterator[tuple[bytes, int]]:
        """One event a message, several messages a piece."""
        return _in_chunks(events, _MESSAGES)

    def heartbeat(self, stream: str, seq: int | None) -> bytes:
        """`heartbeat`, with the cursor or null."""
        return _framed(self._messages.heartbeat(stream, seq))

    def left_out(self, told: LeftOut) -> bytes:
        """`left_out`, as it is."""
        return _framed(self._messages.left_out(told))

    def problem(self, details: ProblemDetails) -> bytes:
        """`problem`, with the document."""
        return _framed(self._messages.problem(details))


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
    return _frame(_TEXT, payload) + _frame(_CLOSE, closing)


def _framed(text: str) -> bytes:
    return _frame(_TEXT, text.encode())


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    elif size < 65_536:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((head,)) + length + payload
