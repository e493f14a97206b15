"""A long answer in pieces, which is whole or breaks off: what is cut short must not look like the end.

Begins when the first piece is there, so that what cannot be read at all is refused in words. Knows nothing
of what the pieces are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.streaming.pump import TRANSPORT

#: Longest wait for a connection that was cut to be gone.
_GONE_S = 5.0

_log = logging.getLogger("andon.api")


class CutShortError(Exception):
    """There is more, which cannot be sent; says why."""


class Export(StreamingResponse):
    """Sends pieces; when there are no more to be had before the end, the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all, or cut the connection.

        Raises:
            CutShortError: it cannot be cut here; whoever serves it has to.
        """
        try:
            await super().__call__(scope, receive, send)
        except CutShortError as cut:
            transport = scope.get("state", {}).get(TRANSPORT)
            if transport is None:
                raise
            _log.warning("an answer was cut short: path=%s reason=%s", scope["path"], cut)
            transport.abort()
            async with asyncio.timeout(_GONE_S):
                while (await receive())["type"] != "http.disconnect":
                    pass


async def begun(
    parts: AsyncIterator[bytes], may: Callable[[], bool], failure: type[Exception]
) -> AsyncIterator[bytes]:
    """The same pieces, of which the first is there already. `may` is asked before each one that follows
    whether the caller may have it; `failure` is what says that they cannot be had.

    Raises:
        Exception: `failure`, of the first piece. Of one that follows it is a `CutShortError`.
    """
    first = await anext(parts, None)

    async def all_of_them() -> AsyncIterator[bytes]:
        if first is None:
            return
        yield first
        try:
            async for part in parts:
                if not may():
                    raise CutShortError("whoever asked may not have it any more")
                yield part
        except failure as error:
            raise CutShortError(str(error)) from error

    return all_of_them()
