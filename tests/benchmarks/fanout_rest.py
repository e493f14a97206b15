"""A server that tells many clients of one row of events as fast as it can. A process of its own.

`api`: the live view, the streams and the server of the gateway, over a journal in memory. `floor`: the same
bytes written to the same number of connections by nothing but the event loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop

from api.app import create_app
from api.ports import Ports, StreamPosition
from api.server import Server
from api.settings import ApiSettings
from gateway.live import Live
from statemodel.records import Recorded
from tests.api.twins import STREAM, Plant, make_ports

_BATCH = 10


class _Memory:
    """All events, all durable."""

    def __init__(self) -> None:
        self.log: list[Recorded] = []

    def position(self) -> StreamPosition:
        return StreamPosition(STREAM, 1, len(self.log))

    async def events_after(self, seq: int, limit: int) -> Sequence[Recorded]:
        return self.log[seq : seq + limit]


class _Raw(asyncio.Protocol):
    connections: list[asyncio.Transport]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.connections.append(self._transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\n\r\n")


def _events(count: int) -> Sequence[Recorded]:
    plant = Plant()
    plant.fill(count)
    return plant.log


async def _floor(events: Sequence[Recorded]) -> None:
    _Raw.connections = []
    server = await asyncio.get_running_loop().create_server(_Raw, "127.0.0.1", 0)
    await _told(server.sockets[0].getsockname()[1])
    for place in range(0, len(events), _BATCH):
        piece = b"".join(b"data: %b\n\n" % event.json for event in events[place : place + _BATCH])
        for connection in _Raw.connections:
            connection.write(piece)
        await asyncio.sleep(0)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


async def _api(events: Sequence[Recorded]) -> None:
    journal = _Memory()
    live = Live(gateway="line-1", connections=[], equipment=[], memories={}, last={}, source=journal)
    plant = Plant()
    ports: Ports = msgspec.structs.replace(make_ports(plant), live=live)
    server = Server(create_app(ports, ApiSettings(), now=lambda: plant.now_at), "127.0.0.1", 0)
    await server.start()
    await _told(server.port)
    for place in range(0, len(events), _BATCH):
        news = events[place : place + _BATCH]
        journal.log += news
        live.announce(news)
        await asyncio.sleep(0)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop()


async def _told(port: int) -> None:
    """Say where it listens, and wait for the word to begin."""
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def main() -> None:
    events = _events(int(sys.argv[2]))
    uvloop.run(_floor(events) if sys.argv[1] == "floor" else _api(events))


if __name__ == "__main__":
    main()
