"""A broker inside the process, for a machine without one: amqtt on loopback.

MQTT 3.1.1 only, nothing kept on disk, no passwords: for trying things and for small plants where everything
that listens runs on the same machine. A real broker is what production wants. The publisher treats it as
any other broker and does not know that it is near.

The listener is ours, not of amqtt: so the port is known, a port in use is reported as what it is, a client of
MQTT 5 is told that it will not be understood (amqtt would wait for ever for the rest of its CONNECT), and
whoever connects and says nothing is shown out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from amqtt.adapters import StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError

from gateway.errors import StartFailed

_HOST = "127.0.0.1"
_LISTENER = "default"

#: Longest wait for the first packet of a client, in seconds.
_HELLO_S = 10.0

#: CONNACK "unacceptable protocol version", as MQTT 5 (section 3.2) and older clients (3.1.1, 3.2) read it.
_REFUSED_5 = bytes([0x20, 0x03, 0x00, 0x84, 0x00])
_REFUSED_3 = bytes([0x20, 0x02, 0x00, 0x01])

#: Longest wait for connections to end, and for amqtt to end, in seconds.
_STOP_S = 5.0


class EmbeddedBroker:
    """Start, use `port`, stop. Can be started again; what it retained is then gone."""

    def __init__(self, port: int) -> None:
        self._wanted_port = port
        self._broker: Broker | None = None
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

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
        # amqtt waits for readers it has cancelled, and a cancelled `wait_for` may go on (Python before 3.12).
        # Closed connections make the readers end by themselves, so that nothing is left to cancel.
        for writer in self._clients.values():
            writer.transport.abort()
        if self._clients:
            _, left = await asyncio.wait(self._clients, timeout=_STOP_S)
            for client in left:
                client.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._broker.shutdown()
        await self._server.wait_closed()
        self._broker = self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = writer
        try:
            async with asyncio.timeout(_HELLO_S):
                level, head = await _read_version(reader)
            if level == 4:
                assert self._broker is not None
                await self._broker.external_connected(
                    _FromStart(reader, head), StreamWriterAdapter(writer), _LISTENER
                )
            elif level:
                writer.write(_REFUSED_5 if level == 5 else _REFUSED_3)
        except (TimeoutError, EOFError, OSError):
            pass  # a client that left or never spoke
        finally:
            del self._clients[task]
            writer.close()


class _FromStart:
    """What amqtt reads from: the bytes already taken first, then the stream."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes) -> None:
        self._reader = reader
        self._head = head

    async def read(self, n: int = -1) -> bytes:
        """Exactly `n` bytes; amqtt never asks for the whole stream."""
        head, self._head = self._head[:n], self._head[n:]
        return head + await self._reader.readexactly(n - len(head)) if len(head) < n else head

    def feed_eof(self) -> None:
        """Let whoever reads see the end."""
        self._reader.feed_eof()


async def _read_version(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The protocol level a CONNECT asks for (0 when it is none), and the bytes read to know it.

    3 is MQTT 3.1, 4 is MQTT 3.1.1, 5 is MQTT 5 (MQTT 5.0 section 3.1.2).
    """
    head = await reader.readexactly(2)
    if head[0] != 0x10:
        return 0, head
    while head[-1] & 0x80 and len(head) < 5:  # the remaining length, at most four bytes
        head += await reader.readexactly(1)
    name = await reader.readexactly(6)
    if name == b"\x00\x06MQIs":
        name += await reader.readexactly(2)
    elif name != b"\x00\x04MQTT":
        return 0, head
    level = await reader.readexactly(1)
    return level[0], head + name + level
