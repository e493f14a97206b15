"""Limits: how often, how long, how much, how many; and what happens to who goes beyond."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.connection import HEAD_BYTES_MAX
from api.limits import Rate
from api.problems import Problem
from api.server import Server
from api.settings import ApiSettings
from tests.api.access_twin import AccessTwin
from tests.api.listening import PATIENCE_S
from tests.api.twins import Plant, make_ports
from tests.support.loop_time import later

REQUEST_S = UNTAKEN_S = 600.0


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def __call__(self) -> float:
        return self.at_s


def taken(rate: Rate, caller: str, times: int) -> int:
    """How many of so many requests are let in."""
    count = 0
    for _ in range(times):
        try:
            rate.take(caller)
            count += 1
        except Problem as problem:
            assert problem.kind.code == "too_many_requests"  # noqa: PT017
    return count


def test_a_caller_has_some_to_spare_and_then_the_rate() -> None:
    clock = Hand()
    rate = Rate(10, 20, clock)
    assert taken(rate, "a", 50) == 20
    assert taken(rate, "b", 5) == 5  # somebody else's is another
    clock.at_s += 1
    assert taken(rate, "a", 50) == 10
    clock.at_s += 1000
    assert taken(rate, "a", 50) == 20
    assert rate.refused_count == 30 + 40 + 30


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
async def test_who_has_a_network_of_addresses_is_one_caller(
    plant: Plant, first: str, second: str, alike: bool
) -> None:
    settings = ApiSettings(requests_per_s=1, requests_burst=1)
    ports = msgspec.structs.replace(make_ports(plant), access=AccessTwin())
    app = create_app(ports, settings, now=lambda: plant.now_at, monotonic=Hand())
    statuses = []
    for peer in (first, second):
        transport = httpx.ASGITransport(app, client=(peer, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            statuses.append((await client.get("/healthz")).status_code)
    assert statuses == [200, 429 if alike else 200]


def test_the_refusal_says_how_long_to_wait() -> None:
    clock = Hand()
    rate = Rate(0.25, 1, clock)
    rate.take("a")
    with pytest.raises(Problem) as caught:
        rate.take("a")
    assert dict(caught.value.headers)[b"retry-after"] == b"4"
    clock.at_s += 4
    rate.take("a")


def test_the_table_is_bounded_and_forgets_who_was_quiet_longest() -> None:
    rate = Rate(1, 1, Hand(), callers_max=3)
    for caller in "abcad":
        taken(rate, caller, 1)
    assert rate.callers_count == 3
    assert taken(rate, "a", 1) == 0  # asked last but one, and is known still
    assert taken(rate, "b", 1) == 1


def test_no_rate_no_table() -> None:
    rate = Rate(0, 1, Hand())
    assert taken(rate, "a", 1000) == 1000
    assert rate.callers_count == 0


@given(st.lists(st.floats(0, 3), max_size=200))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    clock = Hand()
    rate = Rate(2, 5, clock)
    let_in = 0
    for pause in pauses:
        clock.at_s += pause
        let_in += taken(rate, "a", 1)
    assert let_in <= 5 + 2 * (clock.at_s - 100.0) + 1e-6
    clock.at_s += 0.5
    assert taken(rate, "a", 1) == 1  # whatever was, who waits is let in


async def test_each_address_and_each_caller_has_a_rate(plant: Plant) -> None:
    access = AccessTwin()
    ports = msgspec.structs.replace(make_ports(plant), access=access)
    clock = Hand()
    settings = ApiSettings(requests_per_s=1, requests_burst=3)
    app = create_app(ports, settings, now=lambda: plant.now_at, monotonic=clock)

    async def asked(peer: str, token: str = "", path: str = "/api/v1/equipment") -> int:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            answer = await client.get(path, headers=headers)
        if answer.status_code == 429:
            assert answer.json()["code"] == "too_many_requests"
            assert int(answer.headers["retry-after"]) >= 1
        return answer.status_code

    assert [await asked("10.0.0.1", "ak_viewer") for _ in range(4)] == [200, 200, 200, 429]
    assert await asked("10.0.0.2", "ak_viewer") == 429  # the same key from elsewhere
    assert await asked("10.0.0.2", "ak_operator") == 200
    # guesses, public routes and paths that do not exist count too
    assert [await asked("10.0.0.3", "ak_x") for _ in range(4)] == [401, 401, 401, 429]
    assert [await asked("10.0.0.4", path="/healthz") for _ in range(4)] == [200, 200, 200, 429]
    assert [await asked("10.0.0.5", path="/nowhere") for _ in range(4)] == [404, 404, 404, 429]
    clock.at_s += 1
    assert await asked("10.0.0.1", "ak_viewer") == 200


async def test_an_address_and_headers_have_a_length(client: httpx.AsyncClient) -> None:
    for path in (f"/api/v1/equipment?after={'x' * 9000}", f"/api/v1/equipment/{'x' * 9000}"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (414, "uri_too_long")
    answer = await client.get("/api/v1/equipment", headers={"x-much": "x" * 20_000})
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert (await client.get("/api/v1/equipment", headers={"x-some": "x" * 8000})).status_code == 200


@pytest.fixture
async def server(app: FastAPI) -> AsyncIterator[Server]:
    server = Server(app, "127.0.0.1", 0, request_s=REQUEST_S, connections_of_one_max=5, untaken_s=UNTAKEN_S)
    await server.start()
    yield server
    await server.stop()


async def _out_of_time(reader: asyncio.StreamReader) -> None:
    """Have the time for a request go by, until the server closes the connection."""
    ended = asyncio.create_task(_answer(reader))
    while not ended.done():
        later(REQUEST_S)
        await asyncio.wait({ended}, timeout=0.05)


async def test_a_head_without_an_end_is_not_kept(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    sent = 0
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ConnectionError):  # noqa: PT012 - the server ends it somewhere in between
            while sent < 100 * HEAD_BYTES_MAX:
                writer.write(b"x-%d: %b\r\n" % (sent, b"y" * 4000))
                await writer.drain()
                sent += 4000
            raise AssertionError("all of it was taken")
    assert sent < 100 * HEAD_BYTES_MAX
    assert (await _answer(reader)).startswith((b"HTTP/1.1 431", b""))
    writer.close()


async def test_a_second_request_on_a_connection_has_no_more_time_than_the_first(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /healthz HTTP/1.1\r\nhost:")
    await _out_of_time(reader)
    writer.close()


@pytest.mark.parametrize(
    ("asked", "status", "then"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", 200, b"\r\n"),
        (b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n", 404, b"x"),
    ],
)
async def test_what_begins_no_request_keeps_no_connection(
    server: Server, asked: bytes, status: int, then: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(asked)
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 %d" % status)
    writer.write(then)
    await _out_of_time(reader)
    writer.close()


async def test_the_rest_of_a_body_nobody_wants_is_not_read_without_end(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
    sent = 0
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        with pytest.raises(ConnectionError):  # noqa: PT012 - the server ends it somewhere in between
            while sent < 1_000_000_000:
                writer.write(b" " * 65_536)
                await writer.drain()
                sent += 65_536
    assert sent < 50_000_000
    writer.close()


@pytest.mark.parametrize(
    "twice", ["Host: evil", "Authorization: Bearer ak_all", "Origin: http://evil", "Cookie: a=b"]
)
async def test_who_asks_and_whom_is_said_once(server: Server, twice: str) -> None:
    name = twice.partition(":")[0]
    said = {
        "Host": "localhost",
        "Authorization": "Bearer ak_viewer",
        "Origin": "http://localhost",
        "Cookie": "c=d",
    }
    for asked in ("GET /api/v1/equipment", "GET /nowhere"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = [f"{asked} HTTP/1.1", *(f"{key}: {value}" for key, value in said.items()), twice, "", ""]
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400"), name
            await reader.read()  # to the end: the server closes
        writer.close()


async def test_a_websocket_on_a_connection_that_was_used_before_stays_open(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert b'"ok"' in await reader.readuntil(b"}")
        writer.write(
            b"GET /api/v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    later(REQUEST_S + 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):  # what is due is done
            await reader.read()
    writer.close()


async def test_an_answer_nobody_takes_holds_no_connection(server: Server) -> None:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", server.port))
    await loop.sock_sendall(client, b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 40)
    async with asyncio.timeout(PATIENCE_S):
        while not server.connections.by_address:
            await asyncio.sleep(0.01)
    while server.connections.by_address:
        later(UNTAKEN_S / 2)
        await asyncio.sleep(0.05)
    client.close()


async def test_an_answer_that_is_taken_slowly_comes_whole(server: Server) -> None:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", server.port))
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
    await loop.sock_sendall(client, asked * 11 + asked.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    received, times = b"", 0
    with client:
        while part := await loop.sock_recv(client, 400_000):
            received += part
            times += 1
            await asyncio.sleep(0.02)  # what was taken is known on the other side
            later(UNTAKEN_S / 10)
    assert times > 10, "it takes longer than one may take nothing"
    assert received.count(b"HTTP/1.1 200 OK") == 12
    assert received.endswith(b"}")


async def test_one_address_does_not_take_every_connection(server: Server) -> None:
    kept = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
    async with asyncio.timeout(PATIENCE_S):
        assert (await kept[-1][0].readline()).startswith(b"HTTP/1.1 503")
        kept[0][1].write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await kept[0][0].readline()).startswith(b"HTTP/1.1 200")
    assert server.connections.refused_count == 1
    for _, writer in kept:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(PATIENCE_S):
        while server.connections.by_address:
            await asyncio.sleep(0.01)


CORRECTIONS = b"POST /api/v1/equipment/filler-1/corrections HTTP/1.1\r\nhost: localhost\r\n"
JSON = b"content-type: application/json\r\n"


async def test_a_body_of_a_gigabyte_is_refused_at_once_and_never_held(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.body._BODY_S", REQUEST_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CORRECTIONS + JSON + b"content-length: 1000000000\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert b'"code":"body_too_large"' in await _answer(reader)
    writer.close()


async def test_a_body_of_a_gigabyte_in_chunks_is_refused_while_it_comes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.body._BODY_S", REQUEST_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CORRECTIONS + JSON + b"transfer-encoding: chunked\r\n\r\n")
    sent = 0
    async with asyncio.timeout(PATIENCE_S):
        try:
            while sent < 1_000_000_000 and not reader.at_eof():
                writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            pass  # the server has gone
    assert sent < 50_000_000  # most of which lies in the buffers of the system
    writer.close()


async def test_a_slow_upload_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.body._BODY_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CORRECTIONS + JSON + b"content-length: 100\r\n\r\n{")
    async with asyncio.timeout(PATIENCE_S):
        assert b'"code":"body_too_slow"' in await _answer(reader)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
