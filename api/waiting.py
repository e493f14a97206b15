"""A request that waits for a state to move: for clients that cannot keep a stream open.

While it waits it holds a place among the open streams, and ends like one of them when the caller loses the
right or the gateway stops. A client that leaves takes everything with it.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.cursor import resume_after, write_cursor
from api.hints import shown
from api.operation import Call, Context
from api.params import Param, UnreadableError, invalid_parameter
from api.ports import EquipmentView, StreamPosition
from api.responses import BASE_HEADERS, encode_json, tagged_answer
from api.routes.find import find_equipment
from api.settings import ApiSettings
from statemodel.durations import parse_duration


def wait_param(settings: ApiSettings) -> Param:
    """How long a request may wait."""
    longest = timedelta(seconds=settings.wait_s_max)

    def read(text: str) -> timedelta:
        try:
            wait = parse_duration(text)
        except ValueError:
            raise UnreadableError(
                f'"{shown(text)}" is not a duration', "Write a number with a unit, such as 30s."
            ) from None
        if not timedelta(0) <= wait <= longest:
            raise UnreadableError(
                f"it is longer than {settings.wait_s_max:g} s", "Ask again when it is over."
            )
        return wait

    told = f"How long to wait for the state to move, such as `30s`; at most {settings.wait_s_max:g} s."
    return Param("wait", read, {"type": "string"}, told, "30s")


def waiting(context: Context, call: Call, view: EquipmentView) -> Response:
    """Wait for the state of an equipment to move beyond the cursor the request gives.

    Raises:
        Problem: `invalid_parameter`, `other_stream` or `from_the_future`.
    """
    for past in ("at", "known_at"):
        if call.query[past] is not None:
            reason = "what is past does not move, and wait asks for what comes"
            raise invalid_parameter(past, reason, "Leave one of them out.")
    cursor, after = call.query["after"], view.state.seq
    if cursor is not None:
        position = context.ports.live.position()
        # Nothing is continued here, so a cursor of which the events are gone is as good as any.
        after = resume_after(cursor, StreamPosition(position.stream, 0, position.last_seq))
    return _Wait(context, call, view.name, after, call.query["wait"].total_seconds())


class _Wait(Response):
    """Answers when there is something to say, or the time is over."""

    def __init__(self, context: Context, call: Call, name: str, after: int, wait_s: float) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = []
        self._context = context
        self._call = call
        self._name = name
        self._after = after
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and answer. HEAD is answered at once.

        Raises:
            Problem: there is no place for another who waits, the gateway stops, or the right has ended.
        """
        live = self._context.ports.live
        state = self._view().state
        if state.seq > self._after or scope["method"] == "HEAD" or not self._wait_s:
            await self._answer()(scope, receive, send)
            return
        with self._context.streams.admit(self._call.by) as place:
            moved = asyncio.ensure_future(live.moved_beyond(self._name, self._after))
            gone = asyncio.ensure_future(_until_gone(receive))
            first: set[asyncio.Future[Any]] = {moved, gone, place.ending}
            try:
                await asyncio.wait(first, timeout=self._wait_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                left = gone.done()
                moved.cancel()
                gone.cancel()
                await asyncio.gather(moved, gone, return_exceptions=True)
            if place.ending.done():
                raise place.ending.result()
        if not left:
            await self._answer()(scope, receive, send)

    def _view(self) -> EquipmentView:
        return find_equipment(self._context.ports.live, self._name, self._call.by)

    def _answer(self) -> Response:
        state = self._view().state
        stream = self._context.ports.live.position().stream
        said = b"moved" if state.seq > self._after else b"over"
        headers = ((b"andon-wait", said), *BASE_HEADERS)
        cursor = write_cursor(stream, state.seq)
        return tagged_answer(encode_json(state), cursor, self._call.headers, base=headers)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
