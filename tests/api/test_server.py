"""The server on a real socket: its address, its end, and clients that behave badly."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from tests.api.listening import PATIENCE_S
from tests.api.twins import Plant, make_ports
from tests.support.processes import free_port


def _client(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_S)


@pytest.fixture
async def server(app: FastAPI) -> AsyncIterator[Server]:
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


async def _until_lost(reader: asyncio.StreamReader) -> None:
    """Read until the other side is gone, however it went."""
    try:
        while await reader.read(65_536):
            pass
    except ConnectionError:
        pass


async def _send_on(client: socket.socket) -> None:
    """Send until the other side refuses to take it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await loop.sock_sendall(client, b"x")
            await asyncio.sleep(0.01)


async def test_the_system_chooses_the_port_and_the_server_tells_it(server: Server) -> None:
    assert server.port > 0
    async with httpx.AsyncClient(
        base_url=f"http://{server.host}:{server.port}", timeout=PATIENCE_S
    ) as client:
        response = await client.get("/healthz")
        assert response.json() == {"status": "ok"}
        assert "server" not in response.headers
        head = await client.head("/api/v1/equipment")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0


async def test_signals_stay_with_whoever_runs_the_process(app: FastAPI) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    await server.stop()


async def test_an_address_in_use_is_an_error_and_not_the_end_of_the_process(
    app: FastAPI, server: Server
) -> None:
    with pytest.raises(OSError, match="in use"):
        await Server(app, "127.0.0.1", server.port).start()


async def test_stopping_ends_open_streams_at_once_and_frees_the_port(
    app: FastAPI, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server._STOP_S", 600)  # what a request under way may take: not waited for
    server = Server(app, "127.0.0.1", free_port())
    await server.start()
    async with _client(server) as client:
        async with client.stream("GET", "/api/v1/events?after=0") as response:
            lines = response.aiter_lines()
            while not (await anext(lines)).startswith("data"):
                pass
            stopping = asyncio.create_task(server.stop())
            async with asyncio.timeout(PATIENCE_S):
                rest = [line async for line in lines]  # ends by itself
        async with asyncio.timeout(PATIENCE_S):
            await stopping
    assert rest[-2:] == [": end", ""]
    again = Server(
        create_app(make_ports(plant), ApiSettings(), now=lambda: plant.now_at), "127.0.0.1", server.port
    )
    await again.start()
    await again.stop()


async def test_stopping_twice_or_before_the_start_does_no_harm(app: FastAPI) -> None:
    server = Server(app, "127.0.0.1", 0)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


async def test_a_client_that_never_reads_is_cut_off_and_others_are_served(plant: Plant) -> None:
    settings = ApiSettings(stall_s=0.2, last_word_s=0.2)
    app = create_app(make_ports(plant), settings, now=lambda: plant.now_at)
    server = Server(app, "127.0.0.1", 0)
    await server.start()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(listener, ("127.0.0.1", server.port))
    await loop.sock_sendall(listener, b"GET /api/v1/events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
    plant.batch_max = 500
    plant.fill(20_000)  # more than the buffers between us hold
    await plant.announce()
    async with _client(server) as client:
        async with asyncio.timeout(PATIENCE_S):
            while app.state.streams.stalled_count == 0:
                assert (await client.get("/healthz")).status_code == 200
            while app.state.streams.open_count:
                await client.get("/healthz")
    assert plant.readers == 0
    # The connection itself is gone, though nothing was read that could have let it end politely.
    with pytest.raises(ConnectionError):
        await _send_on(listener)
    listener.close()
    await server.stop()


async def test_a_client_that_reads_late_gets_every_byte(server: Server, plant: Plant) -> None:
    plant.batch_max = 500
    plant.fill(3_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /api/v1/events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n")
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        while plant.log[-1].json not in received[-70_000:]:
            piece = await reader.read(8_192)
            assert piece, "it was cut off"
            received += piece
    assert received.count(b"\ndata: ") == len(plant.log)
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nhost:", b"\r\n"])
async def test_a_connection_that_never_asks_is_dropped(app: FastAPI, said: bytes) -> None:
    server = Server(app, "127.0.0.1", 0, request_s=0.2)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    async with asyncio.timeout(PATIENCE_S):
        await _until_lost(reader)
    writer.close()
    await server.stop()


async def test_a_huge_body_is_refused_without_being_read(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /api/v1/equipment HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()  # to the end: the server closes
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"unexpected_body"' in answer
    writer.close()


async def test_connections_have_a_bound(app: FastAPI) -> None:
    server = Server(app, "127.0.0.1", 0, connections_max=2)
    await server.start()
    kept = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    reader, writer = kept[-1]
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    for _, open_writer in kept:
        open_writer.close()
    await server.stop()
