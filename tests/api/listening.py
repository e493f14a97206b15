"""Listens to an event stream without a socket, so that a test decides how fast it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

PATIENCE_S = 5.0


class Listener:
    """One client of one stream. While `reading` is not set, everything sent to it waits."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self.aborted = asyncio.Event()
        self.done = False
        self._left = asyncio.Event()
        self._arrived = asyncio.Condition()
        self.received = b""

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        async with self._arrived:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = dict(message["headers"])
            else:
                self.received += message["body"]
                self.done = not message.get("more_body", False)
            self._arrived.notify_all()

    def leave(self) -> None:
        self._left.set()

    def abort(self) -> None:
        self.aborted.set()
        self._left.set()

    def blocks(self) -> list[dict[str, bytes]]:
        """The blocks received so far, each as its fields; comments stand under an empty name."""
        whole = self.received.split(b"\n\n")[:-1]
        return [dict(_field(line) for line in block.split(b"\n")) for block in whole]

    def events(self) -> list[dict[str, bytes]]:
        """The blocks that are events."""
        return [block for block in self.blocks() if "data" in block]

    def last_id(self) -> str:
        """What a browser would send as Last-Event-ID."""
        return [block["id"] for block in self.blocks() if "id" in block][-1].decode()

    async def until(self, count: int) -> list[dict[str, bytes]]:
        """The first `count` events, as soon as they are there."""
        await self.until_true(lambda: len(self.events()) >= count)
        return self.events()[:count]

    async def until_seen(self, text: bytes) -> None:
        """Return when the text has arrived."""
        await self.until_true(lambda: text in self.received)

    async def until_end(self) -> bytes:
        """The whole answer, when it has ended."""
        await self.until_true(lambda: self.done)
        return self.received

    async def until_true(self, condition: Callable[[], bool]) -> None:
        """Return when something that arrived has made the condition true."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(condition)


def _field(line: bytes) -> tuple[str, bytes]:
    name, _, value = line.partition(b": ")
    return name.decode(), value


@asynccontextmanager
async def listening(
    app: FastAPI, query: str = "", headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> AsyncIterator[Listener]:
    """A client connected to the event stream, gone when the block ends."""
    listener = Listener()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {"andon_abort": listener.abort},
    }
    task = asyncio.create_task(app(scope, listener.receive, listener.send))  # type: ignore[arg-type]
    try:
        yield listener
    finally:
        listener.leave()
        listener.reading.set()
        async with asyncio.timeout(PATIENCE_S):
            await task
