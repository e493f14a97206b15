"""Events as they happen, from a cursor on, also over lost connections and restarts of the gateway.

Every event comes once and in order. When they cannot be continued without a hole, that is a failure and
not a hole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from api.client.errors import NoAnswer, Refused
from api.client.wire import PREFIX, Wire
from api.problems import ProblemDetails

#: Longest silence before the connection counts as lost; the gateway breaks it more often.
SILENCE_S_MAX = 45.0
#: Pauses before another attempt: the first, and the longest.
PAUSE_S, PAUSE_S_MAX = 0.5, 15.0
#: Problems that pass by themselves.
_PASSING = frozenset(("stopping", "stalled", "history_unavailable", "too_many_streams", "too_many_requests"))


class Event(msgspec.Struct, frozen=True):
    """One event. Keep the `cursor` with what you made of it, and continue after it."""

    cursor: str
    type: str
    raw: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The event as plain data; its form is that of `andon schema`."""
        return dict(msgspec.json.decode(self.raw))


class LeftOut(msgspec.Struct, frozen=True):
    """What was left out before the events that follow, for a client that asked for that."""

    stream: str
    after: int
    up_to: int
    count: int


class Events:
    """The one sequence of a gateway."""

    def __init__(self, wire: Wire, pause: Callable[[float], None]) -> None:
        self._wire = wire
        self._pause = pause

    def follow(
        self,
        after: str | int | None = None,
        *,
        types: Sequence[str] | None = None,
        equipment: Sequence[str] | None = None,
        coalesce: bool = False,
        left_out: Callable[[LeftOut], None] = lambda _: None,
        reconnect: bool = True,
    ) -> Iterator[Event]:
        """Events after a cursor, or from now on, for ever; a lost connection is made again where it was lost.

        With `coalesce` a client that falls behind gets the newest transitions only, and `left_out` is told
        how many events it does not get. Without `reconnect` the end of the connection is the end.

        Raises:
            CursorLost: it cannot go on after the cursor without a hole.
            Refused: the gateway refuses, for a reason that does not pass by itself.
            NoAnswer: without `reconnect`, or before the first connection: nobody is there.
        """
        query = {"types": types, "equipment": equipment, "coalesce": coalesce or None}
        place = _Place(None if after is None else str(after))
        pause_s, renewed = PAUSE_S, False
        while True:
            try:
                for event in self._connected(query, place, left_out):
                    pause_s, renewed = PAUSE_S, False
                    yield event
            except Refused as refused:
                if refused.code not in _PASSING:
                    if renewed or not self._wire.renew(refused):
                        raise
                    renewed = True
                    continue
                if not reconnect:
                    raise
                pause_s = max(pause_s, refused.retry_after_s or 0.0)
            except NoAnswer:
                if not reconnect or not place.begun:
                    raise
            else:
                if not reconnect:
                    return
            self._pause(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _connected(
        self, query: dict[str, Any], place: _Place, left_out: Callable[[LeftOut], None]
    ) -> Iterator[Event]:
        """The events of one connection; `place` moves with them."""
        headers = {} if place.cursor is None else {"last-event-id": place.cursor}
        with self._wire.stream(f"{PREFIX}/events", query, headers, SILENCE_S_MAX) as response:
            block: dict[str, str] = {}
            for line in _lines(response.iter_bytes()):
                if line:
                    name, _, value = line.partition(":")
                    block[name] = value.removeprefix(" ")
                    continue
                told, block = block, {}
                place.begun = True
                if told.get("event") == "problem":
                    raise self._ended(told["data"])
                if told.get("event") == "left_out":
                    left_out(self._wire.read(told["data"].encode(), LeftOut))
                    continue
                place.cursor = told.get("id", place.cursor)
                if "data" in told and place.cursor is not None:
                    yield Event(place.cursor, told.get("event", ""), told["data"].encode())

    def _ended(self, data: str) -> Exception:
        details = self._wire.read(data.encode(), ProblemDetails)
        return self._wire.refusal(details.status, data.encode(), {})


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Lines as an event stream has them: texts in it may hold what ends a line elsewhere (U+0085, U+2028)."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")


class _Place:
    """Where a client is, over its connections."""

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self.begun = False
