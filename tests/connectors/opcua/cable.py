"""The cable between a gateway and a server: it can be pulled, and it can go dead in one direction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence


class Cable:
    """Carries bytes between a port of its own and the server's, on loopback."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        self.deaf = False
        """While set, what the server says is taken from it and lost."""
        self.tamper: Callable[[bytes], Iterable[bytes]] | None = None
        """What becomes of each piece the server says: other pieces."""
        self.overhear: Callable[[bytes], object] | None = None
        """Told each piece the gateway says."""
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plant"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.pull()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pull(self) -> None:
        """Reset every connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there, away = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, away)
        self._writers.update(ends)
        for source, sink, is_answer in ((reader, away, False), (there, writer, True)):
            task = asyncio.create_task(self._carry(source, sink, is_answer, ends))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        is_answer: bool,
        ends: Sequence[asyncio.StreamWriter],
    ) -> None:
        try:
            while data := await source.read(65536):
                if not is_answer and self.overhear is not None:
                    self.overhear(data)
                if is_answer and self.tamper is not None:
                    for piece in self.tamper(data):
                        sink.write(piece)
                        await sink.drain()
                elif not (is_answer and self.deaf):
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        finally:
            for end in ends:
                end.transport.abort()
                self._writers.discard(end)
