"""Where a consumer stands in the sequence, as text and back.

A cursor is `stream:seq`. A bare `seq` is taken to mean the present stream, and the `id` of an event
(`stream-seq`) is accepted too, because that is what consumers happen to have stored. Knows the arithmetic
of positions; does not know who holds the events.
"""

from __future__ import annotations

import re

import msgspec

from api.ports import StreamPosition
from api.problems import SNAPSHOT, Problem

_CURSOR = re.compile(r"(?:(?P<stream>[0-9A-Za-z_.:-]{1,128})[:-])?(?P<seq>[0-9]{1,18})")


class Cursor(msgspec.Struct, frozen=True):
    """A place in a stream: everything up to `seq` is known. `stream` is None when the caller left it out."""

    stream: str | None
    seq: int


def write_cursor(stream: str, seq: int) -> str:
    """The cursor as text."""
    return f"{stream}:{seq}"


def parse_cursor(text: str) -> Cursor | None:
    """The cursor in a text, or None when it is not one."""
    found = _CURSOR.fullmatch(text)
    return Cursor(found["stream"], int(found["seq"])) if found else None


def resume_after(cursor: Cursor, position: StreamPosition) -> int:
    """The sequence to continue after, once it is certain that the continuation has no hole.

    Raises:
        Problem: `other_stream`, `from_the_future` or `too_old`, each with where to start again.
    """
    if cursor.stream is not None and cursor.stream != position.stream:
        raise _lost(
            "other_stream",
            f"The cursor belongs to stream {cursor.stream}; this gateway's stream is {position.stream}.",
            position,
        )
    if cursor.seq > position.last_seq:
        raise _lost(
            "from_the_future",
            f"The cursor says {cursor.seq}, but the last event of the stream is {position.last_seq}.",
            position,
        )
    if cursor.seq + 1 < position.first_seq:
        raise too_old(cursor.seq, position)
    return cursor.seq


def too_old(after: int, position: StreamPosition) -> Problem:
    """The problem for a continuation that would have a hole."""
    return _lost(
        "too_old",
        f"Events after {after} were asked for; the first one still held is {position.first_seq}.",
        position,
    )


def _lost(code: str, detail: str, position: StreamPosition) -> Problem:
    return Problem(
        code,
        detail,
        stream=position.stream,
        first_seq=position.first_seq,
        last_seq=position.last_seq,
        snapshot=SNAPSHOT,
    )
