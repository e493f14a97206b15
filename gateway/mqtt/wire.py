"""The socket paho is given: an asyncio transport behind the few calls paho makes on a socket.

paho was written for blocking sockets and threads. Behind this it never blocks: asyncio resolves names,
connects and does TLS; what arrives is buffered here and handed to paho when it asks; what paho sends is
joined into few writes. It knows nothing of MQTT.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast


class Wire(asyncio.Protocol):
    """One connection. `on_data` is called when there is something to `recv`, `on_lost` once at its end."""

    def __init__(self, on_data: Callable[[], None], on_lost: Callable[[Exception | None], None]) -> None:
        self._on_data = on_data
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._taken = 0
        self._to_send: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        on_data: Callable[[], None],
        on_lost: Callable[[Exception | None], None],
    ) -> Wire:
        """Connect, with TLS when there is a context for it.

        Raises:
            OSError: nobody answers there, or the name is unknown, or TLS fails (`ssl.SSLError`).
        """
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(
            lambda: cls(on_data, on_lost), host, port, ssl=tls, server_hostname=host if tls else None
        )
        return wire

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        self._on_lost(exc)

    # --- what we call

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not asked for yet."""
        return len(self._received) - self._taken

    def look(self, size: int) -> bytes:
        """The first bytes of what is unread, at most `size`; they stay unread."""
        return bytes(self._received[self._taken : self._taken + size])

    def abort(self) -> None:
        """End the connection at once; nothing more is sent."""
        self._to_send.clear()
        if self._transport is not None:
            self._transport.abort()

    # --- what paho calls

    def recv(self, buffer_size: int) -> bytes:
        """At most `buffer_size` bytes; never empty: the end of the connection is told by `on_lost`."""
        if self._taken == len(self._received):
            raise BlockingIOError
        end = self._taken + buffer_size
        data = bytes(self._received[self._taken : end])
        self._taken += len(data)
        if self._taken == len(self._received):
            self._received.clear()
            self._taken = 0
        return data

    def send(self, buffer: bytes | bytearray) -> int:
        """Take all of `buffer`; it leaves with everything else that is sent in this turn of the loop."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        if not self._to_send:
            self._loop.call_soon(self._flush)
        self._to_send.append(bytes(buffer))
        return len(buffer)

    def close(self) -> None:
        """Send what is left, then end the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def fileno(self) -> int:
        """No descriptor: whoever would select on it must not."""
        return -1

    def setblocking(self, flag: bool) -> None:
        """A transport never blocks; there is nothing to set."""

    def _flush(self) -> None:
        if self._to_send and self._transport is not None:
            self._transport.writelines(self._to_send)
        self._to_send.clear()
