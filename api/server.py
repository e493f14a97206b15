"""Runs the application on a socket inside an event loop that belongs to somebody else.

Takes over no signals and no logging, never ends the process, tells the real address when the port was left
to the system, and stops within a bounded time even with streams open. Knows uvicorn; does not know what it
serves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from api.streaming.pump import TRANSPORT

_STOP_S = 5  # for requests under way; then they are cancelled
_MESSAGE_BYTES_MAX = 65_536  # of a WebSocket's client, which sends one
#: How often the other side of a WebSocket is asked whether it is there, and how long it may take: what it has
#: not read yet stands before the question.
_PING_S, _PONG_S = 20.0, 40.0


class _Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """The server's own protocol, which may cut off a client that does not read or does not ask."""

    request_s: float = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Hand over what it takes to cut this connection off; start the clock of its first request."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, TRANSPORT: transport}
        self._deadline = self.loop.call_later(self.request_s, self._give_up)

    def handle_websocket_upgrade(self) -> None:
        """The request has arrived as a whole."""
        self._deadline.cancel()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:  # no request has arrived as a whole
            self.transport.abort()


class _Uvicorn(uvicorn.Server):
    """The library's server without its claim on the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.ready.set()


class Server:
    """An application on one address. Start it once, stop it once."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        connections_max: int = 2500,
        request_s: float = 10.0,
    ) -> None:
        """Prepare; nothing is opened yet.

        `connections_max` bounds connections, streams among them; the next ones get 503. A connection on
        which no whole request has arrived after `request_s` seconds is dropped.
        """
        self._app = app
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._protocol = type("_Timed", (_Connection,), {"request_s": request_s})
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """The address bound, once started."""
        return self._host

    @property
    def port(self) -> int:
        """The port bound, once started: the one the system chose when 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Listen and serve; `host` and `port` then tell the real address.

        Raises:
            OSError: the address cannot be bound.
        """
        listener = await self._listen()
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            ws="websockets-sansio",
            ws_max_size=_MESSAGE_BYTES_MAX,
            ws_ping_interval=_PING_S,
            ws_ping_timeout=_PONG_S,
            ws_per_message_deflate=False,  # a client could have a few bytes grow to anything
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=self._connections_max,
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([listener]), name="api-server")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            listener.close()
            await self._task  # raises what kept it from starting
        self._host, self._port = listener.getsockname()[:2]

    async def stop(self) -> None:
        """End the streams, let requests under way finish, and close every connection."""
        if self._server is None or self._task is None:
            return
        self._app.state.streams.close()
        self._server.should_exit = True
        await self._task

    async def wait(self) -> None:
        """Return when the server has stopped, raising what stopped it if it failed."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _listen(self) -> socket.socket:
        """A socket, bound here because the library would end the process where it cannot bind."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, proto, _, address = found[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener
