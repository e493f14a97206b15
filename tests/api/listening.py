"""Listens to a stream without a socket, in either form, so that a test decides how fast it is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI

#: How long anything may take that has to come some day: well beyond what a busy machine stands still.
PATIENCE_S = 45.0


Form = Literal["sse", "ws"]


class Heard(NamedTuple):
    """An event as a client keeps it."""

    cursor: str
    type: str
    data: bytes


class Transport:
    """What of a connection the gateway may fall back on."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self.written = b""
        self.aborted = asyncio.Event()
        self._gone = gone

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted.set()
        self._gone()


class Listener:
    """One client of one stream. While `reading` is not set, everything sent to it waits."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self.transport = Transport(self.leave)
        self.done = False
        self.received = b""
        self.messages: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._left = asyncio.Event()
        self._arrived = asyncio.Condition()

    @property
    def aborted(self) -> asyncio.Event:
        return self.transport.aborted

    def say(self, text: str | bytes) -> None:
        """Send a message, as a client of a WebSocket."""
        kind = "text" if isinstance(text, str) else "bytes"
        self._inbox.put_nowait({"type": "websocket.receive", kind: text})

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def receive_message(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        async with self._arrived:
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    self.status = message["status"]
                    self.headers = dict(message["headers"])
                case "http.response.body" | "websocket.http.response.body":
                    self.received += message["body"]
                    self.done = not message.get("more_body", False)
                case "websocket.accept":
                    self.status = 101
                case "websocket.send":
                    self.raw.append(message["text"].encode())
                    self.messages.append(json.loads(message["text"]))
                case "websocket.close":
                    self.close_code, self.close_reason = message["code"], message["reason"]
                    self.done = True
                    self._inbox.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
            self._arrived.notify_all()

    def leave(self) -> None:
        self._left.set()
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1005})

    # -- of a response

    def blocks(self) -> list[dict[str, bytes]]:
        """The blocks received so far, each as its fields; comments stand under an empty name."""
        whole = self.received.split(b"\n\n")[:-1]
        return [dict(_field(line) for line in block.split(b"\n")) for block in whole]

    def events(self) -> list[dict[str, bytes]]:
        """The blocks that are events of the journal."""
        return [block for block in self.blocks() if "data" in block and "id" in block]

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

    # -- in either form

    def heard(self) -> list[Heard]:
        """The events told so far."""
        if self.raw:
            return [
                Heard(message["cursor"], message["event"]["type"], _event_of(raw))
                for message, raw in zip(self.messages, self.raw, strict=True)
                if message["type"] == "event"
            ]
        return [Heard(b["id"].decode(), b["event"].decode(), b["data"]) for b in self.events()]

    async def until_heard(self, count: int) -> list[Heard]:
        """The first `count` events, as soon as they are there."""
        await self.until_true(lambda: len(self.heard()) >= count)
        return self.heard()[:count]

    def cursor(self) -> str:
        """What a client continues after."""
        found = [message["cursor"] for message in self.messages if message.get("cursor")]
        return found[-1] if found else self.last_id()

    def heartbeats(self) -> int:
        """How many there were."""
        silent = [message for message in self.messages if message["type"] == "heartbeat"]
        return len(silent) + self.received.count(b": heartbeat")

    def notices(self) -> list[dict[str, Any]]:
        """What was said to be left out."""
        told = [json.loads(b["data"]) for b in self.blocks() if b.get("event") == b"left_out"]
        return told + [message for message in self.messages if message["type"] == "left_out"]

    async def until_problem(self) -> dict[str, Any]:
        """Why it ended, or was refused."""
        await self.until_true(lambda: self.done)
        if self.messages:
            last = self.messages[-1]
            assert last["type"] == "problem", last
            return dict(last["problem"])
        if self.status != 200:
            return dict(json.loads(self.received))
        assert self.received.endswith(b"\n\n: end\n\n")
        told = [block for block in self.blocks() if block.get("event") == b"problem"]
        return dict(json.loads(told[-1]["data"]))

    async def until_open(self) -> None:
        """Return when the stream has begun, or was refused."""
        await self.until_true(lambda: bool(self.messages or self.received))

    async def until_true(self, condition: Callable[[], bool]) -> None:
        """Return when something that arrived has made the condition true."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(condition)


def _field(line: bytes) -> tuple[str, bytes]:
    name, _, value = line.partition(b": ")
    return name.decode(), value


def _event_of(raw: bytes) -> bytes:
    """The bytes of the event in a message."""
    return raw.partition(b',"event":')[2][:-1]


def _scope(listener: Listener, path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in {"host": "localhost", **headers}.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {"andon_transport": listener.transport},
    }


@asynccontextmanager
async def _running(app: FastAPI, listener: Listener, scope: dict[str, Any]) -> AsyncIterator[Listener]:
    receive = listener.receive if scope["type"] == "http" else listener.receive_message
    task = asyncio.create_task(app(scope, receive, listener.send))  # type: ignore[arg-type]
    try:
        yield listener
    finally:
        listener.leave()
        listener.reading.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def listening(
    app: FastAPI, query: str = "", headers: Mapping[str, str] | None = None, *, method: str = "GET"
) -> AsyncIterator[Listener]:
    """A client connected to the event stream, gone when the block ends."""
    listener = Listener()
    scope = _scope(listener, "/api/v1/events", query, headers or {})
    scope |= {"type": "http", "scheme": "http", "method": method}
    async with _running(app, listener, scope):
        yield listener


@asynccontextmanager
async def messaging(
    app: FastAPI, *said: str | bytes, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Listener]:
    """A client of the WebSocket that says these messages, gone when the block ends."""
    listener = Listener()
    listener._inbox.put_nowait({"type": "websocket.connect"})
    for text in said:
        listener.say(text)
    scope = _scope(listener, "/api/v1/ws", query, headers or {})
    async with _running(app, listener, scope | {"type": "websocket", "scheme": "ws", "subprotocols": []}):
        yield listener


@asynccontextmanager
async def hearing(
    app: FastAPI,
    form: Form,
    *,
    after: int | str | None = None,
    types: Sequence[str] = (),
    equipment: Sequence[str] = (),
    coalesce: bool = False,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Listener]:
    """A client of either form that asks for the same."""
    if form == "sse":
        asked = {"types": ",".join(types), "equipment": ",".join(equipment)}
        asked |= {"after": "" if after is None else str(after), "coalesce": "true" if coalesce else ""}
        query = "&".join(f"{name}={value}" for name, value in asked.items() if value)
        async with listening(app, query, headers) as listener:
            yield listener
        return
    wanted: dict[str, Any] = {"types": list(types), "equipment": list(equipment), "after": after}
    told = {name: value for name, value in wanted.items() if value not in ([], None)}
    async with messaging(app, json.dumps(told | {"coalesce": coalesce}), headers=headers) as listener:
        yield listener
