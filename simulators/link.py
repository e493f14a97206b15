"""A listening port that can misbehave: drop its connections, freeze, or answer late, as faults ask.

Every server of the plant stands behind one `Gate`. The gate owns the listener, the connections and their
tasks; what is said on a connection is the business of the handler it is given. It knows no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

CONNECTIONS_MAX: Final = 64
_CHUNK_BYTES: Final = 65536
_OUTLET_CHUNKS_MAX: Final = 256
_CLOSE_S_MAX: Final = 0.5
#: asyncio hands on a connection that it has accepted within so many turns of its loop.
_TURNS_OF_ACCEPTING: Final = 4
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Link:
    """One accepted connection, as its handler sees it. What is sent keeps its order, whatever the delay."""

    def __init__(self, gate: Gate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gate = gate
        self._reader = reader
        self._writer = writer
        self._outlet: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_OUTLET_CHUNKS_MAX)

    async def read(self) -> bytes:
        """Some bytes from the client; none when it closed. A frozen gate lets nothing through."""
        data = await self._reader.read(_CHUNK_BYTES)
        await self._gate.thawed.wait()
        return data

    async def read_exactly(self, count: int) -> bytes:
        """Raises asyncio.IncompleteReadError when the client closes first."""
        data = await self._reader.readexactly(count)
        await self._gate.thawed.wait()
        return data

    async def send(self, data: bytes, delay_s: float = 0.0) -> None:
        """Hand bytes to the client, delayed as the gate says and by `delay_s`; waits when too many are on
        their way."""
        await self._outlet.put((asyncio.get_running_loop().time() + self._gate.delay_s + delay_s, data))

    async def deliver(self) -> None:
        """Write what was sent when it is due, until cancelled. Raises OSError when the client is gone."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._outlet.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._gate.thawed.wait()
            self._writer.write(data)
            await self._writer.drain()
            self._outlet.task_done()

    async def delivered(self) -> None:
        """Wait until everything sent is written."""
        await self._outlet.join()

    def abort(self) -> None:
        """End the connection at once; nothing more is written. Does nothing on one that has ended."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Cut the connection at once, with a TCP reset."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection; a client that does not read what was written is cut off."""
        self._writer.close()
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(_CLOSE_S_MAX):
                    await self._writer.wait_closed()
            except TimeoutError:
                self._writer.transport.abort()


Handler = Callable[[Link], Awaitable[None]]


class Gate:
    """One port of the plant and its connections.

    A handler returns when it has no more to say; then the connection is closed. It may raise OSError or
    asyncio.IncompleteReadError, which mean that the client has gone.
    """

    def __init__(self, host: str, port: int, handler: Handler) -> None:
        self.host = host
        self.port = port
        self.delay_s = 0.0
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._handler = handler
        self._reserve: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], Link] = {}

    async def open(self) -> None:
        """Listen. With port 0 the operating system chooses, once, and `port` tells.

        Raises:
            OSError: the address cannot be bound.
        """
        # A second socket stays bound without listening, so that the port remains ours while it refuses
        # connections.
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._reserve = _bound(family, self.host, self.port)
        self.port = self._reserve.getsockname()[1]
        await self._listen()

    async def refuse(self) -> None:
        """Reset every connection and refuse new ones, until `accept`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await _accepted()
        for link in self._links.values():
            link.reset()
        await self._end_links()

    async def accept(self) -> None:
        """Listen again after `refuse`."""
        if self._reserve is not None and self._server is None:
            await self._listen()

    async def close(self) -> None:
        """Free the port and end every connection and task."""
        self.thawed.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
        await _accepted()
        await self._end_links()

    async def _listen(self) -> None:
        assert self._reserve is not None
        listener = _bound(self._reserve.family, self.host, self.port)
        try:
            self._server = await asyncio.start_server(self._accept, sock=listener)
        except OSError:
            listener.close()
            raise

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        if self._server is None or len(self._links) >= CONNECTIONS_MAX:
            link.reset()
            return
        task = asyncio.create_task(self._serve(link))
        self._links[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task, None)

    async def _serve(self, link: Link) -> None:
        delivery = asyncio.create_task(link.deliver())
        handling = asyncio.create_task(self._handle(link))
        try:
            await asyncio.wait((delivery, handling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (delivery, handling):
                task.cancel()
            ends = await asyncio.gather(delivery, handling, return_exceptions=True)
            await link.close()
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(
                end, OSError | asyncio.IncompleteReadError | asyncio.CancelledError
            ):
                raise end

    async def _handle(self, link: Link) -> None:
        await self._handler(link)
        await link.delivered()

    async def _end_links(self) -> None:
        links = dict(self._links)
        for task in links:
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        for link in links.values():  # a task that was cancelled before it began has closed nothing
            link.abort()


async def _accepted() -> None:
    """Let connections that the closed listener had taken already come through: nobody else would end them."""
    for _ in range(_TURNS_OF_ACCEPTING):
        await asyncio.sleep(0)


def _bound(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
