"""Runs the application on a socket inside an event loop that belongs to somebody else.

Takes over no signals and no logging, never ends the process, tells the real address when the port was left
to the system, and stops within a bounded time even with streams open. Knows uvicorn; does not know what it
serves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from api.connection import Connection, Connections
from api.messages import Messages
from api.tls import Certificate

_log = logging.getLogger("andon.api")

_HANDSHAKE_S = 10.0
#: Browsers that came over TLS once do not come without it (RFC 6797).
_STRICT = ("strict-transport-security", "max-age=31536000")
_STOP_S = 5  # for requests under way; then they are cancelled
_MESSAGE_BYTES_MAX = 65_536  # of a WebSocket's client, which sends one
#: How often the other side of a WebSocket is asked whether it is there, and how long it may take: what it has
#: not read yet stands before the question.
_PING_S, _PONG_S = 20.0, 40.0


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
        """Listen, with a bound on the time a client may take to agree on TLS; say so."""
        config = self.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=None if config.ssl is None else _HANDSHAKE_S,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.ready.set()


class Server:
    """An application on one address. Start it once, stop it once."""

    #: How often the files of the certificate are looked at.
    refresh_s: float = 5.0

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        connections_max: int = 2500,
        connections_of_one_max: int = 1250,
        request_s: float = 10.0,
        untaken_s: float = 20.0,
        certificate: Certificate | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        `connections_max` bounds connections, streams among them, `connections_of_one_max` those of one
        address; the next ones get 503. A connection on which the head of a request has not arrived after
        `request_s` seconds is dropped, and one of whose answer nothing is taken for `untaken_s`. With a
        `certificate` it is TLS, 1.2 or later, and nothing else.
        """
        self._app = app
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._certificate = certificate
        #: Connections by address, and how many were turned away.
        self.connections = Connections(connections_of_one_max)
        bounds = {"request_s": request_s, "untaken_s": untaken_s, "connections_of": self.connections}
        self._protocol = type("_Bounded", (Connection,), bounds)
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None

    @property
    def certificate(self) -> Certificate | None:
        """What it shows, with TLS."""
        return self._certificate

    @property
    def refused_count(self) -> int:
        """Requests refused because more came from a caller or an address than it may send."""
        rate = self._app.state.rate
        return 0 if rate is None else int(rate.refused_count)

    @property
    def host(self) -> str:
        """The address bound, once started."""
        return self._host

    @property
    def port(self) -> int:
        """The port bound, once started: the one the system chose when 0 was asked for."""
        return self._port

    def share(self) -> socket.socket:
        """The socket it listens on, for another server to take over: while both serve, either may answer."""
        assert self._listener is not None, "it has been started"
        return self._listener.dup()

    async def start(self, shared: socket.socket | None = None) -> None:
        """Listen and serve, on a socket that is `shared` where one is given; `host` and `port` then tell the
        real address.

        Raises:
            OSError: the address cannot be bound.
        """
        self._listener = listener = await self._listen() if shared is None else shared
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            ws=Messages,
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
            headers=[] if self._certificate is None else [_STRICT],
        )
        config.load()
        if self._certificate is not None:
            config.ssl = self._certificate.context
            self._refreshing = asyncio.create_task(self._refresh(self._certificate), name="api-certificate")
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([listener]), name="api-server")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            listener.close()
            await self._task  # raises what kept it from starting
        self._host, self._port = listener.getsockname()[:2]

    def leave(self) -> None:
        """Take no more connections; those there are go on until `stop`."""
        if self._server is not None:
            for server in self._server.servers:
                server.close()
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """End the streams, let requests under way finish, and close every connection."""
        if self._server is None or self._task is None:
            return
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        self._app.state.streams.close()
        self._server.should_exit = True
        await self._task

    async def wait(self) -> None:
        """Return when the server has stopped, raising what stopped it if it failed."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _refresh(self, certificate: Certificate) -> None:
        """Take a renewed certificate into use; connections that stand notice nothing."""
        while True:
            await asyncio.sleep(self.refresh_s)
            if await asyncio.to_thread(certificate.refresh):
                _log.info("a new certificate is in use; it expires %s", certificate.expires_at.isoformat())

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
