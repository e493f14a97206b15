"""A broker inside the process, for a machine without one: amqtt on loopback.

MQTT 3.1.1 only, nothing kept on disk, no passwords: for trying things and for small plants where everything
that listens runs on the same machine. A real broker is what production wants. The publisher treats it as
any other broker and does not know that it is near.
"""

from __future__ import annotations

import asyncio
import logging

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError

from gateway.errors import StartFailed

_HOST = "127.0.0.1"
_LISTENER = "default"


class EmbeddedBroker:
    """Start, use `port`, stop. Can be started again; what it retained is then gone."""

    def __init__(self, port: int) -> None:
        self._wanted_port = port
        self._broker: Broker | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Port it listens on; the system's choice when 0 was asked for. Only while it runs."""
        assert self._server is not None, "the embedded broker does not run"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen on loopback.

        Raises:
            StartFailed: the port is in use, or may not be used.
        """
        # amqtt tells of every client that comes and goes, some of it as errors.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # The listener is ours, so that its port is known and a port in use is reported as what it is.
        broker = Broker(
            BrokerConfig(
                listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
                plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            )
        )
        try:
            await broker.start()
            self._server = await asyncio.start_server(self._serve, _HOST, self._wanted_port)
        except (AMQTTError, OSError) as error:
            if broker.transitions.state == "started":
                await broker.shutdown()
            raise StartFailed(
                f"the embedded MQTT broker cannot listen on {_HOST}:{self._wanted_port}: {error}",
                hint="name the broker that uses this port in [mqtt] broker, or set another embedded_port",
            ) from error
        self._broker = broker

    async def stop(self) -> None:
        """Close all connections and forget everything. Does nothing when it does not run."""
        if self._broker is None or self._server is None:
            return
        self._server.close()
        await self._broker.shutdown()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._broker = self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            assert self._broker is not None
            await self._broker.external_connected(
                StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER
            )
        finally:
            self._clients.discard(task)
            writer.close()
