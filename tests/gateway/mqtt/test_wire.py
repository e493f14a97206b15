"""Bytes to and from a broker: each once and in order, no memory of what was read, a bound on the rest."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.wire import Wire
from tests.gateway.publish.support import within


def unconnected() -> Wire:
    return Wire(lambda: None, lambda error: None)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_every_byte_comes_once_and_in_order(chunks: list[bytes], size: int) -> None:
    async def scenario() -> None:
        wire, got = unconnected(), b""

        def take() -> None:
            nonlocal got
            got += wire.received[:size]
            wire.taken(min(size, len(wire.received)))

        for chunk in chunks:
            wire.data_received(chunk)
            while len(wire.received) > size:
                take()
        while wire.received:
            take()
        assert got == b"".join(chunks)

    asyncio.run(scenario())


async def test_what_was_read_takes_no_memory() -> None:
    wire = unconnected()
    tracemalloc.start()
    for _ in range(1000):
        wire.data_received(b"x" * 10_000)
        wire.taken(9_999)
        wire.taken(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that says back what it hears; its port."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    await asyncio.gather(*serving)


async def test_closing_sends_what_is_left_and_then_refuses() -> None:
    news = asyncio.Event()
    async with echo() as port:
        wire = await Wire.open("127.0.0.1", port, None, on_data=news.set, on_lost=lambda error: None)
        for number in range(100):
            wire.send(b"%03d" % number)
        while len(wire.received) < 300:
            await within(news.wait())
            news.clear()
        assert wire.received == b"".join(b"%03d" % number for number in range(100))
        wire.send(b"last")
        wire.close()
        await within(wire.closed.wait())
        with pytest.raises(ConnectionError):
            wire.send(b"more")


async def test_a_side_that_takes_nothing_is_noticed_before_memory_runs_full() -> None:
    """Also in one turn of the loop, in which nothing could have been written."""
    room, reading, served = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reading.wait()
        while await reader.read(1_000_000):
            pass
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wire = await Wire.open(
        "127.0.0.1", port, None, on_data=lambda: None, on_lost=lambda error: None, on_room=room.set
    )
    sent = 0
    while not wire.full:
        wire.send(b"x" * 10_000)
        sent += 10_000
        assert sent < 50_000_000, "never full"
    assert not room.is_set()
    reading.set()
    await within(room.wait())
    assert vars(wire)["full"] is False
    wire.close()
    await within(wire.closed.wait())
    await within(served.wait())
    server.close()
    await server.wait_closed()


async def test_what_is_kept_out_comes_later() -> None:
    news = asyncio.Event()
    async with echo() as port:
        wire = await Wire.open("127.0.0.1", port, None, on_data=news.set, on_lost=lambda error: None)
        wire.rest()
        wire.send(b"later")
        wire.rest()
        with pytest.raises(TimeoutError):
            await within(news.wait(), 0.1)
        wire.go_on()
        await within(news.wait())
        assert wire.received == b"later"
        wire.abort()
        wire.rest()
        wire.go_on()
