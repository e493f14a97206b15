"""The WebSocket on a real socket: closing codes as a client sees them, and clients that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from tests.api.listening import PATIENCE_S
from tests.api.twins import STREAM, Plant, make_ports
from tests.support.loop_time import later

REQUEST_S = 20.0


@pytest.fixture
async def server(app: FastAPI) -> AsyncIterator[Server]:
    server = Server(app, "127.0.0.1", 0, request_s=REQUEST_S)
    await server.start()
    yield server
    await server.stop()


def _connect(url: str) -> connect:
    return connect(url, open_timeout=PATIENCE_S)


def _url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/api/v1/ws"


async def _next(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        return dict(json.loads(await client.recv()))


async def _closed(client: ClientConnection) -> tuple[int, str]:
    """Read to the end: how it was closed."""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionClosed):
            async for _ in client:
                pass
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def test_it_tells_events_for_longer_than_a_request_may_take(server: Server, plant: Plant) -> None:
    async with _connect(_url(server)) as client:
        assert "server" not in client.response.headers  # type: ignore[union-attr]
        assert "sec-websocket-extensions" not in client.response.headers  # type: ignore[union-attr]
        await client.send('{"types": ["transition"]}')
        assert (await _next(client))["type"] == "begin"
        later(REQUEST_S + 1)
        await asyncio.sleep(0.1)  # what is due is done
        plant.move("oven-1")
        await plant.announce()
        while (message := await _next(client))["type"] == "heartbeat":
            pass
        assert (message["cursor"], message["event"]["to_state"]) == (
            f"{STREAM}:61",
            message["event"]["to_state"],
        )
        assert message["event"] == json.loads(plant.log[60].json)


async def test_the_code_and_the_reason_arrive(server: Server) -> None:
    async with _connect(_url(server)) as client:
        await client.send('{"after": 999}')
        problem = (await _next(client))["problem"]
        assert (problem["code"], problem["snapshot"]) == ("from_the_future", "/api/v1/equipment")
        code, reason = await _closed(client)
    assert (code, reason.partition(":")[0]) == (1008, "from_the_future")


async def test_a_refused_upgrade_is_a_problem_document(app: FastAPI, server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await _connect(_url(server) + "?token=secret")
    response = refused.value.response
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body or b"")["code"] == "unknown_parameter"
    with pytest.raises(InvalidStatus) as refused:
        await _connect(f"ws://127.0.0.1:{server.port}/api/v1/elsewhere")
    assert refused.value.response.status_code in (403, 404)


async def test_a_message_too_long_is_refused_without_being_kept(app: FastAPI, server: Server) -> None:
    async with _connect(_url(server)) as client:
        await client.send("x" * 70_000)
        assert (await _closed(client))[0] == 1009
    await _until_closed(app)


async def test_what_is_no_utf_8_is_refused(app: FastAPI, server: Server) -> None:
    async with _connect(_url(server)) as client:
        await client.send(b"\xff\xfe", text=True)
        assert (await _closed(client))[0] == 1007
    await _until_closed(app)


async def test_stopping_closes_with_1012(app: FastAPI, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.server._STOP_S", 600)  # what a request under way may take: not waited for
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    async with _connect(_url(server)) as client:
        await client.send('{"after": 0}')
        while (await _next(client))["type"] != "event":
            pass
        stopping = asyncio.create_task(server.stop())
        code, reason = await _closed(client)
        async with asyncio.timeout(PATIENCE_S):
            await stopping
    assert (code, reason.partition(":")[0]) == (1012, "stopping")


async def test_a_client_that_vanishes_leaves_nothing_behind(
    app: FastAPI, server: Server, plant: Plant
) -> None:
    client = await _connect(_url(server))
    await client.send("{}")
    await _next(client)
    client.transport.abort()
    await _until_closed(app)
    assert plant.readers == 0


async def _never_reading(server: Server, path: str) -> socket.socket:
    """A connection that asks for every event and then reads nothing of the answer."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(listener, ("127.0.0.1", server.port))
    await loop.sock_sendall(listener, _ASKING[path])
    if path == "ws":
        answer = b""
        async with asyncio.timeout(PATIENCE_S):
            while not answer.endswith(b"\r\n\r\n"):
                answer += await loop.sock_recv(listener, 1)
        await loop.sock_sendall(listener, _FROM_THE_START)
    return listener


_ASKING = {
    "events": b"GET /api/v1/events?after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "ws": b"GET /api/v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
}
#: The text {"after":0}, masked with zeros.
_FROM_THE_START = b"\x81\x8b\x00\x00\x00\x00" + b'{"after":0}'


async def test_a_client_that_never_reads_is_cut_off_and_others_are_served(plant: Plant) -> None:
    """Fault 54."""
    settings = ApiSettings(stall_s=0.2, last_word_s=0.2)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    listener = await _never_reading(server, "ws")
    plant.batch_max = 500
    plant.fill(20_000)  # more than the buffers between us hold
    await plant.announce()
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        async with asyncio.timeout(PATIENCE_S):
            while app.state.streams.stalled_count == 0 or app.state.streams.open_count:
                assert (await client.get("/healthz")).status_code == 200
    assert plant.readers == 0
    with pytest.raises(ConnectionError):
        await _send_on(listener)
    listener.close()
    await server.stop()


async def _send_on(client: socket.socket) -> None:
    """Send until the other side refuses to take it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await loop.sock_sendall(client, b"x")
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["events", "ws"])
async def test_who_reads_again_in_time_is_told_why(plant: Plant, path: str) -> None:
    """Fault 54: the reason stands behind everything that was not read, on both forms."""
    settings = ApiSettings(stall_s=0.3, last_word_s=60.0)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    plant.batch_max = 500
    plant.fill(20_000)
    listener = await _never_reading(server, path)
    async with asyncio.timeout(PATIENCE_S):
        while app.state.streams.stalled_count == 0:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(sock=listener)
        received = b""
        while piece := await reader.read(65_536):
            received += piece
            if b'"code":"stalled"' in received and received.endswith((b"0\r\n\r\n", b".")):
                break
    tail = received[-600:]
    assert b'"code":"stalled"' in tail
    if path == "events":
        assert tail.endswith(b": end\n\n\r\n0\r\n\r\n")
    else:
        assert b"\x03\xf5stalled: " in tail  # a close frame with 1013
    seqs = [int(part.partition(b",")[0]) for part in received.split(b'"seq":')[1:]]
    assert seqs == list(range(1, len(seqs) + 1))  # whole and in order up to where it ends
    writer.close()
    await server.stop()


async def _until_closed(app: FastAPI) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while app.state.streams.open_count:
            await asyncio.sleep(0.01)
