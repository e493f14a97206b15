"""Many clients of the event stream, that count what they are told. A process of its own.

With `--events` it ends when each has been told so many, and says how long that took from the first event
anybody was told to the last; without, when its stdin is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import cast

import uvloop

_WS = (
    b"GET /api/v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SSE = b"GET /api/v1/events%b HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
#: `{}` and a pong without a body, masked with zeros.
_ALL, _PONG = b"\x81\x82\0\0\0\0{}", b"\x8a\x80\0\0\0\0"
#: What every event has once, and nothing else has.
_MARK = b'"gateway":"'


class Clients:
    """All of them, and when the first and the last event came."""

    def __init__(self, events: int, count: int, types: str) -> None:
        self.asked = _SSE % (f"?types={types}".encode() if types else b"")
        self.events = events
        self.missing = count
        self.open = 0
        self.lost = 0
        self.first_s = self.last_s = 0.0
        self.told = 0
        self.done = asyncio.Event()

    def heard(self, count: int) -> None:
        """So many events, by anybody."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.told += count


class _Client(asyncio.Protocol):
    def __init__(self, clients: Clients, form: str) -> None:
        self._clients = clients
        self._form = form
        self._count = 0
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_WS if self._form == "ws" else self._clients.asked)

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            self._upgraded = True
            self._clients.open += 1
            if self._form == "ws":
                self._transport.write(_ALL)
        if self._form == "ws" and len(data) < 16 and data[:1] == b"\x89":  # a ping between events
            self._transport.write(_PONG)
            return
        whole = self._rest + data
        found = whole.count(_MARK)
        self._rest = whole[-len(_MARK) + 1 :]
        if found:
            before, self._count = self._count, self._count + found
            self._clients.heard(found)
            if before < self._clients.events <= self._count:
                self._clients.missing -= 1
                if not self._clients.missing:
                    self._clients.done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.lost += 1


async def run(port: int, form: str, count: int, events: int, types: str) -> None:
    """Connect all, say so, and count."""
    loop = asyncio.get_running_loop()
    clients = Clients(events, count, types)
    for place in range(count):
        await loop.create_connection(lambda: _Client(clients, form), "127.0.0.1", port)
        if place % 50 == 0:
            await asyncio.sleep(0.01)
    while clients.open < count:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # for the streams behind the answers to begin
    sys.stdout.write(json.dumps({"open": clients.open}) + "\n")
    sys.stdout.flush()
    if events:
        await clients.done.wait()
    else:
        await loop.run_in_executor(None, sys.stdin.read)
    took_s = clients.last_s - clients.first_s
    sys.stdout.write(json.dumps({"told": clients.told, "took_s": took_s, "lost": clients.lost}) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("port", type=int)
    options.add_argument("form", choices=("sse", "ws"))
    options.add_argument("--clients", type=int, default=100)
    options.add_argument("--events", type=int, default=0)
    options.add_argument("--types", default="", help="only these, of server-sent events")
    chosen = options.parse_args()
    uvloop.run(run(chosen.port, chosen.form, chosen.clients, chosen.events, chosen.types))


if __name__ == "__main__":
    main()
