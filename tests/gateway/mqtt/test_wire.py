"""The socket paho is given: every byte once and in order, and no memory of what was read."""

from __future__ import annotations

import asyncio
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
        for chunk in chunks:
            wire.data_received(chunk)
            while wire.unread > size:
                got += wire.recv(size)
        while wire.unread:
            got += wire.recv(size)
        assert got == b"".join(chunks)
        with pytest.raises(BlockingIOError):
            wire.recv(1)

    asyncio.run(scenario())


async def test_what_was_read_takes_no_memory() -> None:
    wire = unconnected()
    tracemalloc.start()
    for _ in range(1000):
        wire.data_received(b"x" * 10_000)
        wire.recv(10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that says back what it hears; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_closing_sends_what_is_left_and_then_refuses() -> None:
    heard, news = bytearray(), asyncio.Event()
    async with echo() as port:
        wire = await Wire.open("127.0.0.1", port, None, on_data=news.set, on_lost=lambda error: None)
        for number in range(100):
            assert wire.send(b"%03d" % number) == 3
        while len(heard) < 300:
            await within(news.wait())
            news.clear()
            heard += wire.recv(65536) if wire.unread else b""
        assert heard == b"".join(b"%03d" % number for number in range(100))
        wire.send(b"last")
        wire.close()
        await within(wire.closed.wait())
        with pytest.raises(ConnectionError):
            wire.send(b"more")
